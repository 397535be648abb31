//! Runs the models of records and versions, each role on the main thread in turn.

use loom_tests::record_models as models;

macro_rules! models {
    ($($name:ident: $roles:expr;)*) => {
        $(#[test]
        fn $name() {
            (0..$roles).for_each(models::$name);
        })*
    };
}

models! {
    write_and_read: 2;
    write_and_pass_by: 2;
    write_and_write: 2;
    // With the reader on the main thread loom sees no choice.
    give_up_and_read: 1;
    kill_and_write: 2;
    prune_and_prune: 2;
}

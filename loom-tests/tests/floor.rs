//! The log's floor, and whoever looks back beyond it.

use loom_tests::floor_models as models;

macro_rules! models {
    ($($name:ident: $roles:expr;)*) => {
        $(#[test]
        fn $name() {
            (0..$roles).map(models::$name).for_each(drop);
        })*
    };
}

models! {
    forced_floor: 2;
    given_up_and_commit: 2;
    given_up_and_write: 2;
    given_up_and_read: 2;
    given_up_and_gone: 3;
}

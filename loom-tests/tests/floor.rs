//! Runs the models of the log's floor where it is forced on, each role on the main thread in turn.
//! A model that takes fewer executions than the floor beside it does not look at what it used to.

use loom_tests::floor_models as models;

macro_rules! models {
    ($($name:ident: $roles:expr, $floor:expr;)*) => {
        $(#[test]
        fn $name() {
            let executions: usize = (0..$roles).map(models::$name).sum();
            assert!(executions >= $floor, "{executions} executions");
        })*
    };
}

models! {
    forced_floor: 2, 5_000;
    given_up_and_commit: 2, 20_000;
    given_up_and_write: 2, 5_000;
    given_up_and_read: 2, 300;
}

//! Runs the models of the epoch, each role on the main thread in turn.

use loom_tests::epoch_models as models;

macro_rules! models {
    ($($name:ident: $roles:expr;)*) => {
        $(#[test]
        fn $name() {
            (0..$roles).for_each(models::$name);
        })*
    };
}

models! {
    pin_and_retire: 2;
    pin_again: 2;
    nested_pin: 2;
    bags_are_handed_over: 2;
    bags_are_freed_once: 2;
    slots_grow: 2;
}

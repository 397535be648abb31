//! Runs the models of the epoch, each role on the main thread in turn.

loom_tests::models! {
    epoch_models:
    pin_and_retire: 2;
    pin_again: 2;
    nested_pin: 2;
    bags_are_handed_over: 2;
    bags_are_freed_once: 2;
    slots_grow: 2;
}

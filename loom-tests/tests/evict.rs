//! Runs the models of the keeper, each role on the main thread in turn.

loom_tests::models! {
    evict_models:
    pick_and_pick: 2;
    pick_and_admit: 2;
    pick_and_write: 2;
    pick_and_change: 2;
    purge_and_change: 2;
}

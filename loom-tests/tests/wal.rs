//! Runs the models of the log, each role on the main thread in turn.

loom_tests::models! { wal_models:
    leaders_hand_over: 2;
    three_share_syncs: 3;
    poison_reaches_everybody: 2;
    poison_takes_nothing_back: 2;
    segment_changes_beside_a_sync: 2;
    segment_is_made_beside_a_commit: 2;
    segment_is_released_beside_a_reader: 2;
}

//! Runs the models of records and versions, each role on the main thread in turn.

loom_tests::models! {
    record_models:
    write_and_read: 2;
    write_and_pass_by: 2;
    write_and_write: 2;
    // With the reader on the main thread loom sees no choice.
    give_up_and_read: 1;
    kill_and_write: 2;
    prune_and_prune: 2;
    leave_and_read: 2;
    leave_and_write: 2;
    first_committer_behind_a_departure: 2;
    thin_and_read: 2;
    thin_and_write: 2;
    strike_and_write: 2;
}

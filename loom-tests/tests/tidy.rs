//! What commits leave behind, and whoever takes it out.

loom_tests::models! {
    tidy_models:
    pass_and_kill: 2;
    pass_and_pass: 2;
    pass_and_write: 2;
    pass_and_read: 2;
    pass_and_write_and_read: 3;
    kill_and_write: 2;
    kill_and_read: 2;
    kill_and_read_early: 2;
}

loom_tests::models! {
    tidy_forced_models:
    kill_and_write_early: 2;
    kill_and_insert_early: 2;
    kill_and_settle: 2;
}

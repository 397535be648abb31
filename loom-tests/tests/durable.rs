//! Runs the models of commits that are to survive, each role on the main thread in turn.

loom_tests::models! { durable_models:
    commits_have_the_order_of_the_log: 2;
    snapshot_shows_what_is_durable: 2;
    snapshot_beside_two_commits: 3;
}

//! Values that leave memory for a file and come back.

loom_tests::models! {
    cold_models:
    fetch_and_fetch: 2;
    fetch_and_write: 2;
    fetch_below_and_write: 2;
    fetch_below_and_thin: 2;
    fetch_and_give_up: 2;
    // With the one that leaves on the main thread loom sees no choice.
    fetch_and_leave: 1;
    fetch_and_move: 2;
    fetch_and_write_early: 2;
    fetch_and_read_below: 2;
    fetch_and_cut: 2;
    fetch_and_thin: 2;
    fetch_and_thin_and_give_up: 1;
}

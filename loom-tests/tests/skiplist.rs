//! Runs the models of the index, each role on the main thread in turn.

loom_tests::models! {
    skiplist_models:
    append_and_find: 3;
    append_and_walk: 2;
    split_and_find: 2;
    split_and_insert: 2;
    append_at_the_edge: 2;
    replace_and_find: 3;
    rebuild_and_find: 2;
    kill_and_insert: 1;
    same_key_twice: 2;
    same_key_twice_in_a_tail: 2;
    unlink_and_insert: 2;
    unlink_and_find: 2;
    forward_and_split: 2;
    backward_and_split: 2;
    backward_and_unlink: 2;
    merge_and_find: 2;
}

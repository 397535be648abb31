//! Runs the models of the commit log and the certifier, each role on the main thread in turn. A
//! model that takes fewer executions than the floor beside it does not look at what it used to.

use loom_tests::ssi_models as models;

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
    log_link: 3, 10_000;
    rescue_and_seen: 3, 10_000;
    rescue_and_tracked_reader: 3, 20_000;
    write_skew: 2, 100;
    three_way_ring: 2, 100;
    late_rival: 2, 100;
    begin_and_trim: 2, 10_000;
    stamp_and_retire: 2, 10_000;
    settle_and_trim: 1, 300;
    abort_and_retire: 2, 2_000;
    snapshot_and_prune: 2, 100;
    gate_holds: 2, 100;
    gate_revoked: 2, 500;
}

//! Runs the models of the commit log and the certifier, each role on the main thread in turn.

use loom_tests::ssi_models as models;

macro_rules! models {
    ($($name:ident: $roles:expr;)*) => {
        $(#[test]
        fn $name() {
            for role in 0..$roles {
                models::$name(role);
            }
        })*
    };
}

models! {
    log_link: 3;
    rescue_and_seen: 3;
    rescue_and_tracked_reader: 3;
    write_skew: 2;
    three_way_ring: 2;
    late_rival: 2;
    begin_and_trim: 2;
    stamp_and_retire: 2;
    abort_and_retire: 2;
    snapshot_and_prune: 2;
    forced_floor: 2;
    gate_holds: 2;
    gate_revoked: 2;
    settle_and_trim: 1;
}

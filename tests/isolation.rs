//! Every anomaly with a name, as a case of its own, at both isolation levels.
//!
//! Method: the steps of each case are written out on one thread, with `a` = 10 and `b` = 20 to
//! begin with. What each transaction sees and whether it may commit is fixed by the level. The
//! cases named G0 to G2 follow the well-known list for SQL databases; the others are classics
//! of the literature on snapshot isolation, and their variants over ranges, removed keys and
//! savepoints. Writes stay in the transaction until it commits, so a write conflict shows there.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]

mod common;

#[path = "isolation/locks.rs"]
mod locks;

use common::engine::Engine;
use common::store::{ABSENT, Abort, Key, LEVELS, Level, Reader, Scan, Store, Transaction};

type Trial = Engine;

const A: Key = 0;
const B: Key = 1;
const C: Key = 2;
const D: Key = 3;

/// A store that holds `a` = 10 and `b` = 20.
fn open() -> Trial {
    let db = Engine::new(Level::Serializable, 8);
    put(&db, &[(A, 10), (B, 20)]);
    db
}

/// Commits `entries`; the value `ABSENT` removes.
fn put(db: &Trial, entries: &[(Key, u64)]) {
    let txn = db.begin(Level::Serializable);
    for &(key, value) in entries {
        match value {
            ABSENT => txn.remove(key).unwrap(),
            _ => txn.insert(key, value).unwrap(),
        };
    }
    txn.commit().unwrap();
}

fn scan(txn: &impl Reader, lo: Key, hi: Key) -> Vec<(Key, u64)> {
    txn.scan(Scan::over(lo, hi)).unwrap().front
}

fn everything(txn: &impl Reader) -> Vec<(Key, u64)> {
    scan(txn, 0, 8)
}

fn with_value(txn: &impl Reader, wanted: impl Fn(u64) -> bool) -> Vec<Key> {
    let found = everything(txn).into_iter().filter(|(_, value)| wanted(*value));
    found.map(|(key, _)| key).collect()
}

fn state(db: &Trial) -> Vec<(Key, u64)> {
    everything(&db.snapshot())
}

/// The last committer of a pattern that only snapshot isolation lets through.
fn expect_cycle(level: Level, outcome: Result<u64, Abort>) {
    match level {
        Level::Serializable => assert_eq!(outcome, Err(Abort::Cycle)),
        Level::Snapshot => assert!(outcome.is_ok(), "{outcome:?}"),
    }
}

/// The same where a transaction that only read closes the cycle: the engine may treat it like a
/// read-only snapshot, and names the refusal after that.
fn expect_cycle_through_reader(level: Level, outcome: Result<u64, Abort>) {
    match level {
        Level::Serializable => {
            assert!(matches!(outcome, Err(Abort::Cycle | Abort::ReadOnlyPivot)), "{outcome:?}");
        }
        Level::Snapshot => assert!(outcome.is_ok(), "{outcome:?}"),
    }
}

#[test]
fn g0_writes_of_two_transactions_do_not_mix() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.insert(A, 11).unwrap();
        t2.insert(A, 12).unwrap();
        t1.insert(B, 21).unwrap();
        t1.commit().unwrap();
        t2.insert(B, 22).unwrap();
        assert_eq!(t2.commit(), Err(Abort::WriteWrite));
        assert_eq!(state(&db), [(A, 11), (B, 21)]);
    }
}

#[test]
fn g1a_a_write_that_is_rolled_back_is_never_read() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.insert(A, 101).unwrap();
        assert_eq!(t2.get(A), Ok(10));
        t1.roll_back();
        assert_eq!(t2.get(A), Ok(10));
        assert!(t2.commit().is_ok());
        assert_eq!(state(&db), [(A, 10), (B, 20)]);
    }
}

#[test]
fn g1b_an_intermediate_write_is_never_read() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.insert(A, 101).unwrap();
        assert_eq!(t2.get(A), Ok(10));
        t1.insert(A, 11).unwrap();
        t1.commit().unwrap();
        assert_eq!(t2.get(A), Ok(10));
        assert!(t2.commit().is_ok());
        assert_eq!(state(&db), [(A, 11), (B, 20)]);
    }
}

#[test]
fn g1c_information_does_not_flow_in_a_circle() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.insert(A, 11).unwrap();
        t2.insert(B, 22).unwrap();
        assert_eq!(t1.get(B), Ok(20));
        assert_eq!(t2.get(A), Ok(10));
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn otv_an_observed_transaction_does_not_vanish() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.insert(A, 11).unwrap();
        t1.insert(B, 19).unwrap();
        t2.insert(A, 12).unwrap();
        t1.commit().unwrap();
        let t3 = db.begin(level);
        assert_eq!(everything(&t3), [(A, 11), (B, 19)]);
        t2.insert(B, 18).unwrap();
        assert_eq!(everything(&t3), [(A, 11), (B, 19)]);
        assert_eq!(t2.commit(), Err(Abort::WriteWrite));
        assert_eq!(everything(&t3), [(A, 11), (B, 19)]);
        assert!(t3.commit().is_ok());
    }
}

#[test]
fn pmp_a_predicate_that_was_read_stays_as_it_was() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(with_value(&t1, |value| value == 30), []);
        t2.insert(C, 30).unwrap();
        t2.commit().unwrap();
        assert_eq!(with_value(&t1, |value| value % 3 == 0), []);
        assert!(t1.commit().is_ok(), "it wrote nothing, and comes first in the serial order");
    }
}

#[test]
fn pmp_write_a_removal_by_predicate_meets_an_update() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        for (key, value) in everything(&t1) {
            t1.insert(key, value + 10).unwrap();
        }
        for key in with_value(&t2, |value| value == 20) {
            t2.remove(key).unwrap();
        }
        t1.commit().unwrap();
        assert_eq!(t2.commit(), Err(Abort::WriteWrite));
        assert_eq!(state(&db), [(A, 20), (B, 30)]);
    }
}

#[test]
fn p4_no_update_is_lost() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!((t1.get(A), t2.get(A)), (Ok(10), Ok(10)));
        t1.insert(A, 11).unwrap();
        t2.insert(A, 11).unwrap();
        t1.commit().unwrap();
        assert_eq!(t2.commit(), Err(Abort::WriteWrite));
    }
}

#[test]
fn g_single_reads_are_not_skewed() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(t1.get(A), Ok(10));
        assert_eq!((t2.get(A), t2.get(B)), (Ok(10), Ok(20)));
        t2.insert(A, 12).unwrap();
        t2.insert(B, 18).unwrap();
        t2.commit().unwrap();
        assert_eq!(t1.get(B), Ok(20));
        assert!(t1.commit().is_ok());
    }
}

#[test]
fn g_single_reads_of_two_predicates_are_not_skewed() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(with_value(&t1, |value| value % 5 == 0), [A, B]);
        t2.insert(A, 12).unwrap();
        t2.commit().unwrap();
        assert_eq!(with_value(&t1, |value| value % 3 == 0), []);
        assert!(t1.commit().is_ok());
    }
}

#[test]
fn g_single_write_a_removal_of_what_was_changed_is_refused() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(t1.get(A), Ok(10));
        assert_eq!(everything(&t2), [(A, 10), (B, 20)]);
        t2.insert(A, 12).unwrap();
        t2.insert(B, 18).unwrap();
        t2.commit().unwrap();
        assert_eq!(t1.remove(B), Ok(20));
        assert_eq!(t1.commit(), Err(Abort::WriteWrite));
        assert_eq!(state(&db), [(A, 12), (B, 18)]);
    }
}

#[test]
fn g_single_write_a_rolled_back_rival_hinders_nobody() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(t1.get(A), Ok(10));
        assert_eq!(everything(&t2), [(A, 10), (B, 20)]);
        t2.insert(A, 12).unwrap();
        t1.remove(B).unwrap();
        t2.insert(B, 18).unwrap();
        t1.roll_back();
        assert!(t2.commit().is_ok());
        assert_eq!(state(&db), [(A, 12), (B, 18)]);
    }
}

#[test]
fn g2_item_write_skew_is_an_anomaly_of_the_snapshot_level_only() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        for txn in [&t1, &t2] {
            assert_eq!((txn.get(A), txn.get(B)), (Ok(10), Ok(20)));
        }
        t1.insert(A, 11).unwrap();
        t2.insert(B, 21).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn g2_phantoms_of_two_inserts() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(with_value(&t1, |value| value % 3 == 0), []);
        assert_eq!(with_value(&t2, |value| value % 3 == 0), []);
        t1.insert(C, 30).unwrap();
        t2.insert(D, 42).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn g2_two_edges_close_a_cycle_through_a_reader() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(everything(&t1), [(A, 10), (B, 20)]);
        t2.insert(B, 25).unwrap();
        t2.commit().unwrap();
        let t3 = db.begin(level);
        assert_eq!(everything(&t3), [(A, 10), (B, 25)]);
        t3.commit().unwrap();
        t1.insert(A, 1).unwrap();
        expect_cycle_through_reader(level, t1.commit());
    }
}

#[test]
fn g2_two_edges_close_a_cycle_through_a_read_only_snapshot() {
    for level in LEVELS {
        for open_still in [true, false] {
            let db = open();
            let (t1, t2) = (db.begin(level), db.begin(level));
            assert_eq!(everything(&t1), [(A, 10), (B, 20)]);
            t2.insert(B, 25).unwrap();
            t2.commit().unwrap();
            let t3 = db.snapshot();
            assert_eq!(everything(&t3), [(A, 10), (B, 25)]);
            let t3 = open_still.then_some(t3);
            t1.insert(A, 1).unwrap();
            match level {
                Level::Serializable => assert_eq!(t1.commit(), Err(Abort::ReadOnlyPivot)),
                Level::Snapshot => assert!(t1.commit().is_ok()),
            }
            drop(t3);
        }
    }
}

#[test]
fn g2_two_edges_without_a_reader_commit() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(everything(&t1), [(A, 10), (B, 20)]);
        t2.insert(B, 25).unwrap();
        t2.commit().unwrap();
        t1.insert(A, 1).unwrap();
        assert!(t1.commit().is_ok(), "a read that is no longer current is no cycle");
    }
}

/// A withdrawal that overdraws is charged only if the deposit came later; a reader who saw the
/// deposit but not the withdrawal proves that it came first.
#[test]
fn read_only_anomaly() {
    for level in LEVELS {
        let db = open();
        let withdraw = db.begin(level);
        assert_eq!((withdraw.get(A), withdraw.get(B)), (Ok(10), Ok(20)));
        let deposit = db.begin(level);
        assert_eq!(deposit.get(B), Ok(20));
        deposit.insert(B, 40).unwrap();
        deposit.commit().unwrap();
        let report = db.begin(level);
        assert_eq!((report.get(A), report.get(B)), (Ok(10), Ok(40)));
        report.commit().unwrap();
        withdraw.insert(A, 1).unwrap();
        expect_cycle_through_reader(level, withdraw.commit());
    }
}

#[test]
fn ring_of_three_in_every_order_of_commit() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (level, order) in LEVELS.into_iter().flat_map(|level| orders.map(|order| (level, order))) {
        let db = open();
        put(&db, &[(C, 30)]);
        let mut open = [A, B, C].map(|key| {
            let txn = db.begin(level);
            txn.get(key).unwrap();
            Some(txn)
        });
        for (txn, next) in open.iter().zip([B, C, A]) {
            txn.as_ref().unwrap().insert(next, 99).unwrap();
        }
        let mut commit = |at: usize| open[at].take().unwrap().commit();
        assert!(commit(order[0]).is_ok() && commit(order[1]).is_ok(), "{order:?}");
        expect_cycle(level, commit(order[2]));
    }
}

/// A receipt is added to the batch that was current; the batch is closed; the report of the
/// closed batch misses the receipt.
#[test]
fn batch_processing_receipts() {
    for level in LEVELS {
        let db = open();
        let receipt = db.begin(level);
        assert_eq!(receipt.get(A), Ok(10));
        let close = db.begin(level);
        assert_eq!(close.get(A), Ok(10));
        close.insert(A, 11).unwrap();
        close.commit().unwrap();
        let report = db.begin(level);
        assert_eq!(report.get(A), Ok(11));
        assert_eq!(scan(&report, 4, 8), []);
        report.commit().unwrap();
        receipt.insert(5, 10).unwrap();
        expect_cycle_through_reader(level, receipt.commit());
        assert_eq!(db.snapshot().contains(5), Ok(level == Level::Snapshot));
    }
}

/// Each inserts the sum of one class into the other.
#[test]
fn intersecting_data() {
    for level in LEVELS {
        let db = open();
        put(&db, &[(4, 100), (5, 200)]);
        let (t1, t2) = (db.begin(level), db.begin(level));
        let sum = |txn, lo, hi| scan(txn, lo, hi).iter().map(|(_, value)| value).sum::<u64>();
        t1.insert(6, sum(&t1, 0, 4)).unwrap();
        t2.insert(3, sum(&t2, 4, 8)).unwrap();
        assert!(t2.commit().is_ok());
        expect_cycle(level, t1.commit());
    }
}

#[test]
fn phantoms_under_prefixes_reverse_scans_and_limits() {
    let under_a = Scan { lo: 0, hi: 3, front: Scan::ALL, back: 0, prefix: true };
    let scans = [
        under_a,
        Scan { prefix: false, ..under_a },
        Scan { front: 0, back: Scan::ALL, ..under_a },
        Scan { front: 3, ..under_a },
        Scan { front: 1, back: Scan::ALL, ..under_a },
    ];
    for (level, scan) in LEVELS.into_iter().flat_map(|level| scans.map(|scan| (level, scan))) {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        for txn in [&t1, &t2] {
            let found = txn.scan(scan).unwrap();
            assert_eq!(found.front.len() + found.back.len(), 2, "{scan:?}");
        }
        t1.insert(C, 30).unwrap();
        t2.remove(A).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn a_limited_scan_observes_no_further_than_it_went() {
    let db = open();
    put(&db, &[(D, 40)]);
    let (t1, t2) = (db.begin(Level::Serializable), db.begin(Level::Serializable));
    let first_two = Scan { front: 2, ..Scan::over(0, 8) };
    assert_eq!(t1.scan(first_two).unwrap().front, [(A, 10), (B, 20)]);
    t1.insert(7, 70).unwrap();
    assert_eq!(t2.get(7), Ok(ABSENT));
    // Beyond the last entry that was taken.
    t2.insert(C, 30).unwrap();
    t2.commit().unwrap();
    assert!(t1.commit().is_ok());
}

#[test]
fn a_limited_scan_observes_the_last_entry_it_took() {
    let db = open();
    let (t1, t2) = (db.begin(Level::Serializable), db.begin(Level::Serializable));
    let first_two = Scan { front: 2, ..Scan::over(0, 8) };
    assert_eq!(t1.scan(first_two).unwrap().front, [(A, 10), (B, 20)]);
    t1.insert(7, 70).unwrap();
    assert_eq!(t2.get(7), Ok(ABSENT));
    t2.insert(B, 21).unwrap();
    t2.commit().unwrap();
    assert_eq!(t1.commit(), Err(Abort::Cycle));
}

#[test]
fn phantoms_where_a_key_was_removed_before() {
    for (level, vacuum) in LEVELS.into_iter().flat_map(|level| [(level, false), (level, true)]) {
        let db = open();
        put(&db, &[(C, 30), (D, 40)]);
        put(&db, &[(C, ABSENT), (D, ABSENT)]);
        if vacuum {
            db.vacuum();
        }
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(scan(&t1, C, 8), []);
        assert_eq!(scan(&t2, C, 8), []);
        t1.insert(C, 31).unwrap();
        t2.insert(D, 41).unwrap();
        t1.commit().unwrap();
        if vacuum {
            db.vacuum();
        }
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn removals_are_writes_like_any_other() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!((t1.get(A), t2.get(B)), (Ok(10), Ok(20)));
        t1.remove(B).unwrap();
        t2.remove(A).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn a_range_removal_observes_the_range_it_emptied() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(t1.remove_range(0, 4), Ok(2));
        assert_eq!(t2.get(A), Ok(10));
        // A phantom that the removal should have met.
        t2.insert(C, 30).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn lengths_and_ends_are_observations() {
    for (level, what) in LEVELS.into_iter().flat_map(|level| [0, 1, 2, 3].map(|at| (level, at))) {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        for txn in [&t1, &t2] {
            match what {
                0 => assert_eq!(txn.len(), Ok(2)),
                1 => assert_eq!(txn.end(true), Ok(Some((B, 20)))),
                2 => assert_eq!(txn.contains(C), Ok(txn.contains(D).unwrap())),
                _ => assert_eq!((txn.get(C), txn.get(D)), (Ok(ABSENT), Ok(ABSENT))),
            }
        }
        t1.insert(C, 30).unwrap();
        t2.insert(D, 40).unwrap();
        t1.commit().unwrap();
        expect_cycle(level, t2.commit());
    }
}

#[test]
fn reads_inside_a_savepoint_that_was_rolled_back_still_count() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.savepoint(0);
        assert_eq!(t1.get(B), Ok(20));
        assert_eq!(t1.insert(D, 40), Ok(ABSENT));
        t1.roll_back_to(0);
        t1.insert(A, 11).unwrap();
        assert_eq!((t2.get(A), t2.get(D)), (Ok(10), Ok(ABSENT)));
        t2.insert(B, 21).unwrap();
        t2.commit().unwrap();
        expect_cycle(level, t1.commit());
    }
}

/// The write is gone, but what it answered was seen.
#[test]
fn the_value_before_a_write_that_was_rolled_back_still_counts() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.savepoint(0);
        assert_eq!(t1.insert(B, 99), Ok(20));
        t1.roll_back_to(0);
        t1.insert(A, 11).unwrap();
        assert_eq!(t2.get(A), Ok(10));
        t2.insert(B, 21).unwrap();
        t2.commit().unwrap();
        expect_cycle(level, t1.commit());
    }
}

#[test]
fn writes_inside_a_savepoint_that_was_rolled_back_conflict_with_nobody() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        t1.savepoint(0);
        t1.insert(A, 11).unwrap();
        t1.roll_back_to(0);
        t1.insert(C, 30).unwrap();
        t2.insert(A, 12).unwrap();
        t2.commit().unwrap();
        assert!(t1.commit().is_ok());
        assert_eq!(state(&db), [(A, 12), (B, 20), (C, 30)]);
    }
}

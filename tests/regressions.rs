//! Defects that others shipped, each as a test that fails on a store that has it.
//!
//! Method: every test says what went wrong elsewhere (cause and symptom) and replays it. The
//! first part follows the traps of conflict detection, the second a list of proven defects of
//! one store; what went wrong where memory is limited is in `caches`. What needs an allocator that
//! counts is in `memory`.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use palisade::TransactionOptions;
use palisade::{Bucket, ConflictKind, Database, Error, Isolation, Options, Transaction};

#[path = "regressions/caches.rs"]
mod caches;
#[path = "common/policies.rs"]
mod policies;

fn open() -> (Database, Bucket<String, u64>) {
    let db = Database::in_memory();
    let bucket = db.bucket("numbers").unwrap();
    (db, bucket)
}

fn seeded() -> (Database, Bucket<String, u64>) {
    let (db, bucket) = open();
    bucket.insert("a".into(), 10).unwrap();
    bucket.insert("b".into(), 20).unwrap();
    (db, bucket)
}

fn text(key: &str) -> String {
    key.to_owned()
}

fn kind<T>(outcome: Result<T, Error>) -> Option<ConflictKind> {
    match outcome {
        Ok(_) => None,
        Err(Error::Conflict(conflict)) => Some(conflict.kind()),
        Err(other) => panic!("no conflict: {other}"),
    }
}

fn keys(tx: &Transaction<'_>, bucket: &Bucket<String, u64>) -> Vec<String> {
    tx.iter(bucket).unwrap().map(|(key, _)| key.clone()).collect()
}

/// Times to repeat what only a race can show.
fn rounds(full: usize) -> usize {
    if cfg!(debug_assertions) { full / 4 } else { full }
}

// Traps of conflict detection.

/// Reading a key that was not there left no trace, so two transactions inserted it, or each
/// inserted what the other had missed.
#[test]
fn reads_of_absent_keys_are_tracked() {
    let (db, numbers) = open();
    let (t1, t2) = (db.begin(), db.begin());
    assert!(t1.insert_if_absent(&numbers, "x".into(), 1).unwrap());
    assert!(t2.insert_if_absent(&numbers, "x".into(), 2).unwrap());
    assert_eq!(kind(t1.commit()), None);
    assert_eq!(kind(t2.commit()), Some(ConflictKind::WriteWrite));
    assert_eq!(numbers.get("x").unwrap(), Some(1));

    let (t1, t2) = (db.begin(), db.begin());
    assert_eq!(t1.get(&numbers, "y").unwrap(), None);
    assert_eq!(t2.get(&numbers, "z").unwrap(), None);
    t1.insert(&numbers, "z".into(), 1).unwrap();
    t2.insert(&numbers, "y".into(), 2).unwrap();
    assert_eq!(kind(t1.commit()), None);
    assert_eq!(kind(t2.commit()), Some(ConflictKind::Cycle));
}

/// A scan tracked only the keys it yielded, so an empty one, or one that was left early, let
/// phantoms in.
#[test]
fn empty_and_partly_consumed_scans_are_tracked() {
    let (db, numbers) = seeded();
    for consume in [0_usize, 1, 2, 3] {
        let (t1, t2) = (db.begin(), db.begin());
        let seen = t1.range(&numbers, text("a")..text("m")).unwrap().take(consume).count();
        assert_eq!(seen, consume.min(2));
        assert_eq!(t2.get(&numbers, "z").unwrap(), None);
        t1.insert(&numbers, "z".into(), 1).unwrap();
        t2.insert(&numbers, "aa".into(), 2).unwrap();
        assert_eq!(kind(t2.commit()), None);
        // `aa` lies behind the first entry and before the second.
        let missed = consume >= 2;
        assert_eq!(kind(t1.commit()), missed.then_some(ConflictKind::Cycle), "{consume}");
        for key in ["aa", "z"] {
            numbers.remove(key).unwrap();
        }
    }
    let (t1, t2) = (db.begin(), db.begin());
    assert_eq!(t1.range(&numbers, text("c")..).unwrap().next(), None);
    assert_eq!(t2.range(&numbers, text("c")..).unwrap().next_back(), None);
    t1.insert(&numbers, "d".into(), 1).unwrap();
    t2.insert(&numbers, "e".into(), 2).unwrap();
    assert_eq!(kind(t1.commit()), None);
    assert_eq!(kind(t2.commit()), Some(ConflictKind::Cycle));
}

/// A read made after the other writer had committed was not compared with newer versions, so
/// skew and lost updates went through.
#[test]
fn reads_after_the_rival_committed_are_compared() {
    let (db, numbers) = seeded();
    let (t1, t2) = (db.begin(), db.begin());
    assert_eq!(t2.get(&numbers, "b").unwrap(), Some(&20));
    t2.insert(&numbers, "a".into(), 11).unwrap();
    t2.commit().unwrap();
    assert_eq!(t1.get(&numbers, "a").unwrap(), Some(&10));
    t1.insert(&numbers, "b".into(), 21).unwrap();
    assert_eq!(kind(t1.commit()), Some(ConflictKind::Cycle));

    let (t1, t2) = (db.begin(), db.begin());
    t2.fetch_add(&numbers, "a".into(), 1).unwrap();
    t2.commit().unwrap();
    t1.fetch_add(&numbers, "a".into(), 1).unwrap();
    assert_eq!(kind(t1.commit()), Some(ConflictKind::WriteWrite));
    assert_eq!(numbers.get("a").unwrap(), Some(12));
}

/// Two committers each checked the flags before the other had set its own; or the second wrote
/// while the first was committing. Both commits went through.
#[test]
fn checks_of_two_committers_do_not_pass_each_other() {
    let (db, numbers) = seeded();
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    let commits = AtomicU64::new(0);
    let count = rounds(4_000);
    thread::scope(|scope| {
        for (mine, other) in [("a", "b"), ("b", "a")] {
            let (db, numbers, start, end, commits) = (&db, &numbers, &start, &end, &commits);
            scope.spawn(move || {
                for round in 0..count {
                    let tx = db.begin();
                    tx.get(numbers, other).unwrap();
                    start.wait();
                    tx.insert(numbers, mine.into(), round as u64).unwrap();
                    if tx.commit().is_ok() {
                        commits.fetch_add(1, Ordering::SeqCst);
                    }
                    end.wait();
                    let both = commits.swap(0, Ordering::SeqCst);
                    assert!(both < 2, "both sides of a write skew committed");
                    start.wait();
                }
            });
        }
    });
}

/// A range and the insert into it shared no key, so nothing connected them.
#[test]
fn a_range_conflicts_with_an_insert_that_shares_no_key() {
    let (db, numbers) = seeded();
    let (t1, t2) = (db.begin(), db.begin());
    let sum = |tx: &Transaction<'_>| tx.iter(&numbers).unwrap().map(|(_, n)| n).sum::<u64>();
    let (one, other) = (sum(&t1), sum(&t2));
    t1.insert(&numbers, "c".into(), one).unwrap();
    t2.insert(&numbers, "d".into(), other).unwrap();
    assert_eq!(kind(t1.commit()), None);
    assert_eq!(kind(t2.commit()), Some(ConflictKind::Cycle));
}

/// Conditional writes looked at the committed value only.
#[test]
fn conditional_writes_see_the_transactions_own_writes() {
    let (db, numbers) = seeded();
    let tx = db.begin();
    tx.insert(&numbers, "a".into(), 11).unwrap();
    assert!(!tx.compare_and_swap(&numbers, "a", &10, 12).unwrap());
    assert!(tx.compare_and_swap(&numbers, "a", &11, 12).unwrap());
    assert!(!tx.insert_if_absent(&numbers, "a".into(), 99).unwrap());
    assert_eq!(tx.remove(&numbers, "a").unwrap(), Some(&12));
    assert_eq!(tx.remove(&numbers, "a").unwrap(), None);
    assert!(!tx.compare_and_swap(&numbers, "a", &12, 13).unwrap());
    assert!(tx.insert_if_absent(&numbers, "a".into(), 14).unwrap());
    assert_eq!(tx.fetch_add(&numbers, "a".into(), 1).unwrap(), Some(14));
    tx.commit().unwrap();
    assert_eq!(numbers.get("a").unwrap(), Some(15));
}

/// Rolling back to a savepoint forgot what had been read since.
#[test]
fn rolled_back_savepoints_and_nested_closures_keep_their_reads() {
    let (db, numbers) = seeded();
    for nested in [false, true] {
        let (t1, t2) = (db.begin(), db.begin());
        if nested {
            let outcome: Result<(), Error> = t1.nested(|tx| {
                tx.get(&numbers, "b")?;
                Err(Error::SavepointMissing { name: "given up".into() })
            });
            assert!(outcome.is_err());
        } else {
            t1.savepoint("s");
            t1.get(&numbers, "b").unwrap();
            t1.rollback_to("s").unwrap();
        }
        t1.insert(&numbers, "a".into(), 11).unwrap();
        t2.get(&numbers, "a").unwrap();
        t2.insert(&numbers, "b".into(), 21).unwrap();
        assert_eq!(kind(t2.commit()), None);
        assert_eq!(kind(t1.commit()), Some(ConflictKind::Cycle), "nested: {nested}");
    }
}

/// A transaction that only locked its reads was not validated, because it wrote nothing.
#[test]
fn locked_reads_without_a_write_are_validated() {
    let (db, numbers) = seeded();
    let (t1, t2) = (db.begin(), db.begin());
    assert_eq!(t1.get_for_update(&numbers, "a").unwrap(), Some(&10));
    t2.insert(&numbers, "a".into(), 11).unwrap();
    t2.commit().unwrap();
    assert_eq!(kind(t1.commit()), Some(ConflictKind::WriteWrite));
}

/// Read-only transactions were left out of the conflict graph, and one of them saw a state that
/// no serial order passes through.
#[test]
fn read_only_snapshots_fit_into_the_serial_order() {
    let (db, numbers) = seeded();
    let (t1, t2) = (db.begin(), db.begin());
    t1.get(&numbers, "a").unwrap();
    t1.get(&numbers, "b").unwrap();
    t2.insert(&numbers, "b".into(), 40).unwrap();
    t2.commit().unwrap();
    let seen = db.read(|snap| snap.iter(&numbers).unwrap().map(|(_, n)| *n).collect::<Vec<_>>());
    assert_eq!(seen, [10, 40]);
    t1.insert(&numbers, "a".into(), 0).unwrap();
    assert_eq!(kind(t1.commit()), Some(ConflictKind::ReadOnlyPivot));
}

/// Garbage collection took a version that an open snapshot still needed: seven, then nothing.
#[test]
fn vacuum_keeps_what_open_snapshots_need() {
    let (db, numbers) = seeded();
    let (snap, tx) = (db.snapshot(), db.begin());
    for n in 0..100 {
        numbers.insert("a".into(), n).unwrap();
        numbers.remove("b").unwrap();
        numbers.insert(format!("new {n}"), n).unwrap();
        db.vacuum(usize::MAX);
    }
    assert_eq!(snap.get(&numbers, "a").unwrap(), Some(&10));
    assert_eq!(tx.get(&numbers, "b").unwrap(), Some(&20));
    assert_eq!(snap.len(&numbers).unwrap(), 2);
    assert_eq!(keys(&tx, &numbers), ["a", "b"]);
}

// Proven defects of one store.

/// F1: an update did not end the version before it, so a later removal uncovered that again.
#[test]
fn f1_removal_after_update_removes() {
    let (db, numbers) = open();
    numbers.insert("a".into(), 1).unwrap();
    numbers.insert("a".into(), 2).unwrap();
    assert_eq!(numbers.remove("a").unwrap(), Some(2));
    assert_eq!(numbers.get("a").unwrap(), None);
    db.vacuum(usize::MAX);
    assert_eq!(numbers.get("a").unwrap(), None);
    assert_eq!(numbers.len().unwrap(), 0);
}

/// F2: vacuum reclaimed nothing of updated keys.
#[test]
fn f2_versions_of_an_updated_key_do_not_pile_up() {
    let (db, numbers) = open();
    for n in 0..20_000 {
        numbers.insert("hot".into(), n).unwrap();
    }
    db.vacuum(usize::MAX);
    assert!(db.stats().retained_versions <= 4, "{:?}", db.stats());
}

/// F3, F4: statuses of aborted transactions were forgotten and then presumed committed, so an
/// aborted write or removal took effect after a vacuum.
#[test]
fn f3_f4_aborted_writes_and_removals_stay_without_effect() {
    let (db, numbers) = seeded();
    let (t1, t2, t3) = (db.begin(), db.begin(), db.begin());
    t2.insert(&numbers, "a".into(), 2).unwrap();
    t2.commit().unwrap();
    t1.insert(&numbers, "a".into(), 999).unwrap();
    t1.insert(&numbers, "new".into(), 999).unwrap();
    assert_eq!(kind(t1.commit()), Some(ConflictKind::WriteWrite));
    t3.remove(&numbers, "b").unwrap();
    t3.remove(&numbers, "a").unwrap();
    assert_eq!(kind(t3.commit()), Some(ConflictKind::WriteWrite));
    for _ in 0..2 {
        assert_eq!(numbers.get("a").unwrap(), Some(2));
        assert_eq!(numbers.get("b").unwrap(), Some(20));
        assert_eq!(numbers.get("new").unwrap(), None);
        assert_eq!(numbers.len().unwrap(), 2);
        db.vacuum(usize::MAX);
    }
    assert_eq!(numbers.remove("b").unwrap(), Some(20), "an aborted removal blocks no later one");
    assert_eq!(numbers.get("b").unwrap(), None);
}

/// F5, F9: both committers checked, then both marked, and a third of all increments was lost;
/// at the snapshot level nothing checked at all.
#[test]
fn f5_f9_no_increment_of_threads_is_lost() {
    const THREADS: u64 = 4;
    for level in [Isolation::Serializable, Isolation::Snapshot] {
        let db = Options::new().isolation(level).in_memory();
        let numbers: Bucket<String, u64> = db.bucket("numbers").unwrap();
        let each = rounds(4_000) as u64;
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..each {
                        db.write(|tx| {
                            let now = tx.get(&numbers, "n")?.copied().unwrap_or(0);
                            tx.insert(&numbers, "n".into(), now + 1)?;
                            Ok(())
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(numbers.get("n").unwrap(), Some(THREADS * each), "{level:?}");
        let stats = db.stats();
        assert!(stats.commits >= THREADS * each, "{stats:?}");
    }
}

/// F6: write skew committed under "serializable": both of two doctors went off duty.
#[test]
fn f6_threads_do_not_write_skew() {
    let (db, duty) = open();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for (me, other) in [("ada", "bob"), ("bob", "ada")] {
            let (db, duty, barrier) = (&db, &duty, &barrier);
            scope.spawn(move || {
                for _ in 0..rounds(2_000) {
                    duty.insert(me.into(), 1).unwrap();
                    barrier.wait();
                    db.write(|tx| {
                        if tx.get(duty, other)? == Some(&1) {
                            tx.insert(duty, me.into(), 0)?;
                        }
                        Ok(())
                    })
                    .unwrap();
                    barrier.wait();
                    let on = db.read(|snap| snap.iter(duty).unwrap().map(|(_, n)| n).sum::<u64>());
                    assert!(on >= 1, "nobody is on duty");
                    barrier.wait();
                }
            });
        }
    });
}

/// F7: skew over two absent keys, and two inserts of one absent key, all on one thread.
#[test]
fn f7_absent_keys_make_conflicts_on_one_thread() {
    let (db, numbers) = open();
    let (t1, t2) = (db.begin(), db.begin());
    for tx in [&t1, &t2] {
        assert!(!tx.contains_key(&numbers, "x").unwrap());
        assert!(!tx.contains_key(&numbers, "y").unwrap());
    }
    t1.insert(&numbers, "x".into(), 1).unwrap();
    t2.insert(&numbers, "y".into(), 1).unwrap();
    assert_eq!(kind(t1.commit()), None);
    assert_eq!(kind(t2.commit()), Some(ConflictKind::Cycle));
}

/// F8: a phantom was missed where the key had existed before and its node was still there.
#[test]
fn f8_phantoms_over_removed_keys_are_met() {
    for vacuum in [false, true] {
        let (db, numbers) = open();
        for key in ["x", "y"] {
            numbers.insert(key.into(), 1).unwrap();
            numbers.remove(key).unwrap();
        }
        if vacuum {
            db.vacuum(usize::MAX);
        }
        let (t1, t2) = (db.begin(), db.begin());
        assert_eq!((t1.len(&numbers).unwrap(), t2.len(&numbers).unwrap()), (0, 0));
        t1.insert(&numbers, "x".into(), 1).unwrap();
        t2.insert(&numbers, "y".into(), 1).unwrap();
        assert_eq!(kind(t1.commit()), None);
        assert_eq!(kind(t2.commit()), Some(ConflictKind::Cycle), "vacuum: {vacuum}");
    }
}

/// F10: an identifier was drawn before it was registered as active, so snapshots were torn and
/// changed while they were read.
#[test]
fn f10_snapshots_are_whole_and_stable() {
    let (db, numbers) = open();
    for key in ["a", "b", "c"] {
        numbers.insert(key.into(), 0).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let snap = db.snapshot();
                    let first =
                        ["a", "b", "c"].map(|key| *snap.get(&numbers, key).unwrap().unwrap());
                    assert!(first.iter().all(|n| *n == first[0]), "torn: {first:?}");
                    let again: Vec<u64> = snap.iter(&numbers).unwrap().map(|(_, n)| *n).collect();
                    assert_eq!(again, first, "changed");
                }
            });
        }
        for n in 1..=rounds(8_000) as u64 {
            db.write(|tx| {
                for key in ["a", "b", "c"] {
                    tx.insert(&numbers, key.into(), n)?;
                }
                Ok(())
            })
            .unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// F11: any single read-write edge aborted, even of read-only transactions and of plain reads.
#[test]
fn f11_a_lone_conflict_edge_aborts_nobody() {
    let (db, numbers) = seeded();
    let (reader, both) = (db.begin(), db.begin());
    assert_eq!(reader.get(&numbers, "a").unwrap(), Some(&10));
    assert_eq!(both.get(&numbers, "a").unwrap(), Some(&10));
    both.insert(&numbers, "c".into(), 30).unwrap();
    numbers.insert("a".into(), 11).unwrap();
    assert_eq!(kind(reader.commit()), None);
    assert_eq!(kind(both.commit()), None);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                numbers.fetch_add("a".into(), 1).unwrap();
            }
        });
        for _ in 0..rounds(20_000) {
            assert!(numbers.get("a").unwrap() >= Some(11));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(db.stats().aborts.cycles, 0, "{:?}", db.stats());
}

/// F12: vacuum broke open snapshots both ways: rows vanished, and committed rows turned
/// invisible to transactions that had seen them.
#[test]
fn f12_vacuum_changes_no_snapshot() {
    let (db, numbers) = open();
    let mut held = Vec::new();
    for n in 0..64_u64 {
        numbers.insert(format!("{}", n % 8), n).unwrap();
        if n % 3 == 0 {
            numbers.remove(&*format!("{}", (n + 4) % 8)).unwrap();
        }
        let list = |snap: &palisade::Snapshot| -> Vec<(String, u64)> {
            snap.iter(&numbers).unwrap().map(|(key, n)| (key.clone(), *n)).collect()
        };
        let snap = db.snapshot();
        let seen = list(&snap);
        held.push((snap, seen));
        db.vacuum(usize::try_from(n % 5).unwrap() * 3);
        if n % 4 == 1 {
            held.remove(usize::try_from(n).unwrap() % held.len());
        }
        for (snap, seen) in &held {
            assert_eq!(&list(snap), seen, "after {n}");
        }
    }
}

/// F13: inserts next to removals under vacuum were lost, and freed nodes were read.
#[test]
fn f13_inserts_beside_removals_and_vacuum_are_kept() {
    let db = Database::in_memory();
    let numbers: Bucket<u64, u64> = db.bucket("numbers").unwrap();
    let done = AtomicBool::new(false);
    let count = rounds(6_000) as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.vacuum(64);
            }
        });
        let workers: Vec<_> = (0..3_u64)
            .map(|worker| {
                let numbers = &numbers;
                scope.spawn(move || {
                    for n in 0..count {
                        let key = n * 3 + worker;
                        numbers.insert(key, n).unwrap();
                        if n % 2 == 1 {
                            assert_eq!(numbers.remove(&key).unwrap(), Some(n));
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let kept: Vec<u64> = numbers.iter().unwrap().map(|(key, _)| key).collect();
    let due: Vec<u64> = (0..count * 3).filter(|key| (key / 3) % 2 == 0).collect();
    assert_eq!(kept, due);
}

/// F33: a transaction that was given up half-way left its handle unusable.
#[test]
fn f33_abandoned_transactions_leave_the_database_usable() {
    let (db, numbers) = seeded();
    let abandoned = db.begin();
    abandoned.insert(&numbers, "a".into(), 99).unwrap();
    drop(abandoned);
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        db.write(|tx| -> Result<(), Error> {
            tx.insert(&numbers, "a".into(), 98)?;
            panic!("inside the closure");
        })
    }));
    assert!(panics.is_err());
    let refused: Result<(), Error> = db.write(|tx| {
        tx.insert(&numbers, "a".into(), 97)?;
        Err(Error::SavepointMissing { name: "given up".into() })
    });
    assert!(refused.is_err());
    assert_eq!(numbers.get("a").unwrap(), Some(10));
    numbers.insert("a".into(), 11).unwrap();
    let options = TransactionOptions::new().label("after").attempts_max(1);
    db.write_with(&options, |tx| tx.insert(&numbers, "b".into(), 21).map(drop)).unwrap();
    assert_eq!((numbers.get("a").unwrap(), numbers.get("b").unwrap()), (Some(11), Some(21)));
    assert!(db.stats().oldest_snapshot.is_none(), "nothing is left open");
}

//! Who reads while values leave memory: nothing that was lent changes or goes, nothing is refused
//! because of it, and who goes through everything takes little room.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "common/stamped.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod stamped;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use palisade::testing::{FaultDisk, Moment, Op};
use palisade::{Bucket, Database, Durability, Error, FetchError, Isolation, Options};
use palisade::{Snapshot, TransactionOptions};
use stamped::{stamped, version_of};

const LIMIT: u64 = 512 << 10;
const KEYS: u64 = 1600;
const LENGTH: usize = 1000;

type Values = Bucket<u64, Vec<u8>>;

fn options(threads: bool) -> Options {
    Options::new()
        .durability(Durability::Relaxed)
        .checkpoint_bytes_per_second(None)
        .segment_bytes(256 << 10)
        .threads(threads)
        .memory_limit(LIMIT)
}

/// A bucket more than four times as large as the limit, all of it in the files.
fn filled(threads: bool) -> (tempfile::TempDir, Database, Values) {
    let folder = tempfile::tempdir().unwrap();
    let db = options(threads).open(folder.path()).unwrap();
    let bucket = db.bucket("values").unwrap();
    write(&bucket, 1);
    db.checkpoint().unwrap();
    (folder, db, bucket)
}

fn write(bucket: &Values, version: u64) {
    for key in 0..KEYS {
        bucket.set(key, stamped(key, version, LENGTH)).unwrap();
    }
}

/// Lets all values leave, so that snapshots hold none back that were in memory before.
fn empty(db: &Database, bucket: &Values) {
    evict_all(db, bucket);
    let memory = db.stats().memory.buckets;
    assert!(memory.total() < LIMIT * 3 / 4, "{memory:?}");
}

fn evict_all(db: &Database, bucket: &Values) {
    db.checkpoint().unwrap();
    for key in 0..KEYS {
        let _ = bucket.evict(&key).unwrap();
    }
}

/// Sets a value; false if a limit leaves no room.
fn is_set(bucket: &Values, key: u64, version: u64) -> bool {
    match bucket.set(key, stamped(key, version, LENGTH)) {
        Ok(()) => true,
        Err(Error::MemoryLimit { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn total(db: &Database) -> u64 {
    db.stats().memory.buckets.total()
}

fn is_no_room(error: Option<&FetchError>) -> bool {
    matches!(error, Some(FetchError::NoRoom { .. }))
}

/// Everything that may make a value leave, and some values come back.
fn stir(db: &Database, bucket: &Values, version: u64) {
    let set = (0..KEYS).rev().step_by(17).filter(|key| is_set(bucket, *key, version));
    // Later ones may find no room beside what the readers hold.
    assert!(set.count() > 0 || version > 2, "nothing was overwritten");
    for key in (1..KEYS).step_by(5) {
        // Not `remove`, which reads the value that it returns, and has no room for it.
        let _ = bucket.remove_range(key..=key).unwrap();
    }
    db.checkpoint().unwrap();
    db.vacuum(usize::MAX);
    for key in 0..KEYS {
        let _ = bucket.evict(&key).unwrap();
        if let Some(bytes) = bucket.get(&key).unwrap() {
            let _ = version_of(key, &bytes);
        }
    }
}

fn bring_back(bucket: &Values) {
    for key in (1..KEYS).step_by(25) {
        let _ = is_set(bucket, key, 1000);
    }
}

/// References from a snapshot and a transaction outlive all that happens to what they refer to.
#[test]
fn what_was_lent_stays_and_stays_equal() {
    for threads in [false, true] {
        let (_folder, db, bucket) = filled(threads);
        empty(&db, &bucket);
        let snapshot = db.snapshot();
        let tx = db.begin();
        let keys = [0, 1, 2, 6, 199, 201, 1599];
        let lent = keys.map(|key| snapshot.get(&bucket, &key).unwrap().unwrap());
        let taken = keys.map(|key| tx.get(&bucket, &key).unwrap().unwrap());
        for round in 2..6 {
            stir(&db, &bucket, round);
            for (at, key) in keys.into_iter().enumerate() {
                for bytes in [lent[at], taken[at]] {
                    assert_eq!(version_of(key, bytes), 1, "round {round}");
                }
                let again = snapshot.get(&bucket, &key).unwrap().unwrap();
                assert!(std::ptr::eq(again, lent[at]), "a second copy of a value that is lent");
            }
            bring_back(&bucket);
        }
        // Nothing of what was read was written by others only because it left or came back.
        let refused = tx.commit();
        assert!(refused.is_ok(), "it only read: {refused:?}");
        drop(snapshot);
        db.vacuum(usize::MAX);
        db.check();
    }
}

/// What a snapshot has not read yet may have left long before, for tables that were replaced.
#[test]
fn a_snapshot_reads_what_it_saw_out_of_tables_that_are_gone() {
    for threads in [false, true] {
        let (_folder, db, bucket) = filled(threads);
        empty(&db, &bucket);
        let old = db.snapshot();
        for key in 0..20 {
            bucket.set(key, stamped(key, 2, LENGTH)).unwrap();
            bucket.remove(&(key + 20)).unwrap();
        }
        let middle = db.snapshot();
        for round in 3..9 {
            let set = (100..KEYS).step_by(19).filter(|key| is_set(&bucket, *key, round));
            assert!(set.count() > 0, "nothing was overwritten");
            db.checkpoint().unwrap();
            db.vacuum(usize::MAX);
        }
        let expect = |snapshot: &Snapshot, key: u64, version: Option<u64>| {
            let read = |bytes: &Vec<u8>| version_of(key, bytes);
            assert_eq!(snapshot.get_with(&bucket, &key, read).unwrap(), version, "{key}");
        };
        for key in 0..KEYS {
            expect(&old, key, Some(1));
            let changed = if key < 20 { Some(2) } else { (key >= 40).then_some(1) };
            expect(&middle, key, changed);
        }
        assert_eq!(old.len(&bucket).unwrap() as u64, KEYS);
        drop(old);
        for key in (0..KEYS).rev() {
            let changed = if key < 20 { Some(2) } else { (key >= 40).then_some(1) };
            expect(&middle, key, changed);
        }
        drop(middle);
        db.vacuum(usize::MAX);
        db.check();
    }
}

/// A checkpoint pointed the cold version that an old snapshot sees to its own value of the key,
/// which is newer: the version between the two was taken out of the chain meanwhile.
#[test]
fn an_old_snapshot_is_not_pointed_to_a_newer_value() {
    let disk = FaultDisk::new(1);
    let options = options(false).storage(Arc::new(disk.clone())).segment_bytes(64 << 10);
    let db = options.open("/db").unwrap();
    let bucket: Values = db.bucket("values").unwrap();
    let set = |version| bucket.set(1, stamped(1, version, LENGTH)).unwrap();
    set(1);
    db.checkpoint().unwrap();
    assert!(bucket.evict(&1).unwrap());
    let old = db.snapshot();
    set(2);
    // The table has version 2; before it is named nobody can see that any more.
    let (to, sweeper) = (bucket.clone(), db.clone());
    disk.observe(move |_, call, moment| {
        if moment == Moment::Before && call.op == Op::Rename && call.path.contains("MANIFEST") {
            to.set(1, stamped(1, 3, LENGTH)).unwrap();
            sweeper.vacuum(usize::MAX);
        }
    });
    assert!(db.checkpoint().unwrap().tables > 0);
    disk.observe(|_, _, _| {});
    let read = |bytes: &Vec<u8>| version_of(1, bytes);
    assert_eq!(bucket.get_with(&1, read).unwrap(), Some(3));
    assert_eq!(old.get_with(&bucket, &1, read).unwrap(), Some(1));
    assert_eq!(version_of(1, old.get(&bucket, &1).unwrap().unwrap()), 1);
    drop(old);
    db.check();
}

/// Two open transactions read the same cold values, which leave and come back under them; each
/// writes what the other has not read.
#[test]
fn no_transaction_is_refused_because_a_value_left_or_came_back() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let (_folder, db, bucket) = filled(true);
        let options = TransactionOptions::new().isolation(isolation);
        for round in 0..20 {
            empty(&db, &bucket);
            let (one, two) = (db.begin_with(&options), db.begin_with(&options));
            for (tx, key) in [(&one, 100), (&two, 200)] {
                for step in 0..4 {
                    tx.get(&bucket, &(round + step)).unwrap().unwrap();
                }
                tx.get_for_update(&bucket, &(key + round)).unwrap().unwrap();
                tx.set(&bucket, key + round, stamped(key + round, 2, LENGTH)).unwrap();
            }
            // Only evicts: nobody writes what the two have read.
            for key in 900..960 {
                assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
            }
            evict_all(&db, &bucket);
            for step in 0..4 {
                two.get(&bucket, &(round + step)).unwrap().unwrap();
            }
            one.commit().unwrap();
            two.commit().unwrap();
        }
        assert_eq!(db.stats().aborts.total(), 0);
        db.check();
    }
}

/// A transaction writes a value that is cold, or removes it, and another one read it: a conflict
/// stays one.
#[test]
fn a_conflict_over_a_cold_value_is_still_one() {
    for evicts in [false, true] {
        let (_folder, db, bucket) = filled(false);
        for key in 0..10 {
            empty(&db, &bucket);
            let (one, two) = (db.begin(), db.begin());
            one.get(&bucket, &key).unwrap().unwrap();
            two.get(&bucket, &(key + 10)).unwrap().unwrap();
            one.set(&bucket, key + 10, stamped(key + 10, 2, LENGTH)).unwrap();
            two.set(&bucket, key, stamped(key, 2, LENGTH)).unwrap();
            one.commit().unwrap();
            if evicts {
                db.checkpoint().unwrap();
                for key in [key, key + 10] {
                    let _ = bucket.evict(&key).unwrap();
                    bucket.get(&key).unwrap().unwrap();
                }
            }
            assert!(matches!(two.commit(), Err(Error::Conflict(_))), "a write skew");
        }
    }
}

#[test]
fn visits_and_owned_iterators_take_little_room() {
    for threads in [false, true] {
        let (_folder, db, bucket) = filled(threads);
        let most = LIMIT + LIMIT / 16;
        let mut entries = bucket.iter().unwrap();
        for (expected, (key, bytes)) in (0..).zip(entries.by_ref()) {
            assert_eq!((key, version_of(key, &bytes)), (expected, 1));
            assert!(total(&db) <= most);
        }
        assert!(entries.error().is_none());
        assert_eq!(bucket.range(10..350).unwrap().rev().count(), 340);
        let (snapshot, tx) = (db.snapshot(), db.begin());
        let mut seen = 0;
        let mut each = |key: &u64, bytes: &Vec<u8>| {
            assert_eq!(version_of(*key, bytes), 1);
            assert!(total(&db) <= most);
            seen += 1;
            ControlFlow::Continue(())
        };
        snapshot.iter(&bucket).unwrap().visit(&mut each).unwrap();
        tx.iter(&bucket).unwrap().visit(&mut each).unwrap();
        assert_eq!(seen, 2 * KEYS);
        drop((snapshot, entries));
        tx.commit().unwrap();
        empty(&db, &bucket);
        // Went through as a whole, so a write by another one is a conflict as ever.
        let (tx, mut first) = (db.begin(), None);
        let visited = tx.iter(&bucket).unwrap().visit(|key, _| {
            first.get_or_insert(*key);
            ControlFlow::Continue(())
        });
        visited.unwrap();
        bucket.set(300, stamped(300, 2, LENGTH)).unwrap();
        tx.get(&bucket, &0).unwrap().unwrap();
        bucket.set(0, stamped(0, 3, LENGTH)).unwrap();
        tx.set(&bucket, 300, stamped(300, 3, LENGTH)).unwrap();
        assert!(matches!(tx.commit(), Err(Error::Conflict(_))));
        assert_eq!(first, Some(0));
    }
}

#[test]
fn an_iterator_that_lends_ends_where_room_ends() {
    let (_folder, db, bucket) = filled(true);
    empty(&db, &bucket);
    let snapshot = db.snapshot();
    let mut entries = snapshot.iter(&bucket).unwrap();
    let lent: Vec<_> = entries.by_ref().collect();
    assert!(is_no_room(entries.error()), "{:?}", entries.error());
    assert!(entries.next().is_none() && entries.next_back().is_none());
    assert!(lent.len() > 100 && (lent.len() as u64) < KEYS / 2, "{}", lent.len());
    assert!(total(&db) <= LIMIT + LIMIT / 16);
    for (expected, (key, bytes)) in (0..).zip(&lent) {
        assert_eq!((**key, version_of(**key, bytes)), (expected, 1));
    }
    // The room is in use, and the snapshot alone says by whom.
    let full = bucket.set(1599, stamped(1599, 2, LENGTH)).unwrap_err();
    assert!(matches!(full, Error::MemoryLimit { .. }), "{full}");
    assert_eq!(version_of(1598, &bucket.get(&1598).unwrap().unwrap()), 1, "for once");
    drop(entries);
    drop(snapshot);
    bucket.set(1599, stamped(1599, 2, LENGTH)).unwrap();
    assert!(total(&db) <= LIMIT);
    db.check();
}

#[test]
fn a_transaction_that_went_through_an_iterator_that_failed_does_not_commit() {
    let (_folder, db, bucket) = filled(true);
    for writes in [false, true] {
        let tx = db.begin();
        let mut entries = tx.iter(&bucket).unwrap();
        assert!((entries.by_ref().count() as u64) < KEYS);
        let counted = entries.error().is_none();
        drop(entries);
        if counted {
            // A count reads no values; so go through them.
            let mut entries = tx.iter(&bucket).unwrap();
            while entries.next().is_some() {}
            assert!(is_no_room(entries.error()), "{:?}", entries.error());
        }
        if writes {
            let _ = tx.remove_range::<_, _, u64>(&bucket, 0..1).unwrap();
        }
        let refused = tx.commit();
        assert!(matches!(refused, Err(Error::Fetch(FetchError::NoRoom { .. }))), "{refused:?}");
        assert_eq!(bucket.len().unwrap() as u64, KEYS);
    }
    bucket.set(0, stamped(0, 2, LENGTH)).unwrap();
}

#[test]
fn nothing_reads_values_that_it_does_not_need() {
    let (_folder, db, bucket) = filled(false);
    let before = db.stats().fetches;
    let snapshot = db.snapshot();
    assert_eq!(bucket.len().unwrap() as u64, KEYS);
    assert_eq!(snapshot.len(&bucket).unwrap() as u64, KEYS);
    assert_eq!(snapshot.iter(&bucket).unwrap().count() as u64, KEYS);
    assert!(!bucket.is_empty().unwrap());
    for key in 0..KEYS {
        assert!(bucket.contains_key(&key).unwrap());
        assert!(snapshot.contains_key(&bucket, &key).unwrap());
        assert!(!bucket.insert_if_absent(key, stamped(key, 2, LENGTH)).unwrap());
    }
    drop(snapshot);
    let tx = db.begin();
    assert_eq!(tx.len(&bucket).unwrap() as u64, KEYS);
    assert!(!tx.is_empty(&bucket).unwrap());
    for key in 0..20 {
        assert!(tx.contains_key(&bucket, &key).unwrap());
        tx.set(&bucket, key, stamped(key, 2, LENGTH)).unwrap();
    }
    assert_eq!(tx.remove_range::<_, _, u64>(&bucket, 20..100).unwrap(), 80);
    tx.commit().unwrap();
    for key in 100..150 {
        bucket.set(key, stamped(key, 2, LENGTH)).unwrap();
    }
    assert_eq!(db.stats().fetches, before);

    let (key, bytes) = bucket.pop_last().unwrap().unwrap();
    assert_eq!((key, version_of(key, &bytes)), (KEYS - 1, 1));
    let (key, bytes) = bucket.pop_first().unwrap().unwrap();
    assert_eq!((key, version_of(key, &bytes)), (0, 2));
    let read = db.stats().fetches;
    assert!(read <= before + 2, "{} values were read for two", read - before);
    assert_eq!(bucket.clear().unwrap() as u64, KEYS - 82);
    assert_eq!(db.stats().fetches, read);
    assert!(bucket.is_empty().unwrap());
    db.check();
}

/// A snapshot that has everything lent refuses others the room, and gives it back.
#[test]
fn a_snapshot_that_pins_everything_refuses_commits_until_it_is_gone() {
    for threads in [false, true] {
        let (_folder, db, bucket) = filled(threads);
        let snapshot = db.snapshot();
        let mut lent = Vec::new();
        while let Ok(found) = snapshot.get(&bucket, &(lent.len() as u64)) {
            lent.push(found.unwrap());
        }
        let refusals = (0..60).filter(|key| !is_set(&bucket, KEYS - 1 - key, 2)).count();
        assert!(refusals > 40, "{refusals} commits were refused");
        // Removals are not refused.
        bucket.remove_range(0..5).unwrap();
        for (key, bytes) in (0..).zip(&lent) {
            assert_eq!(version_of(key, bytes), 1);
        }
        drop(snapshot);
        write(&bucket, 3);
        assert!(total(&db) <= LIMIT);
        for key in 0..KEYS {
            assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 3);
        }
        db.vacuum(usize::MAX);
        db.check();
    }
}

/// Values had left memory but for readers, one of whom was waiting for a processor or a disk; and
/// who needed room in those milliseconds was refused.
#[test]
fn a_commit_waits_for_readers_that_hold_what_has_left() {
    for threads in [false, true] {
        let (_folder, db, bucket) = filled(threads);
        let snapshot = db.snapshot();
        let written = AtomicU64::new(0);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for key in 0..KEYS {
                    bucket.set(key, stamped(key, 2, LENGTH)).unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
            let so_far = || written.load(Ordering::Relaxed);
            let mut before = u64::MAX;
            while so_far() != before {
                before = so_far();
                thread::sleep(Duration::from_millis(20));
            }
            assert!(before < KEYS, "nothing is held back");
            drop(snapshot);
            writer.join().unwrap();
        });
        db.check();
    }
}

/// Who makes room looks for values in the files, which takes as long as a disk does; and what
/// others let leave meanwhile stayed for him, as if he could see it.
#[test]
fn who_makes_room_holds_nothing_back_for_others() {
    let disk = FaultDisk::new(1);
    let db = options(false).storage(Arc::new(disk.clone())).open("/db").unwrap();
    let bucket: Values = db.bucket("values").unwrap();
    write(&bucket, 1);
    db.checkpoint().unwrap();
    let (from, stats, is_first) = (bucket.clone(), db.clone(), AtomicBool::new(true));
    let seen = Arc::new(OnceLock::new());
    let to = Arc::clone(&seen);
    disk.observe(move |_, call, _| {
        if call.op == Op::Read && is_first.swap(false, Ordering::Relaxed) {
            let left = (0..KEYS).filter(|key| from.evict(key).unwrap()).count();
            to.set((left, stats.stats().memory.buckets.retained)).unwrap();
        }
    });
    bucket.set(KEYS - 1, stamped(KEYS - 1, 2, LENGTH)).unwrap();
    disk.observe(|_, _, _| {});
    let &(left, retained) = seen.get().unwrap();
    assert!(left > 200, "{left} were in memory");
    assert_eq!(retained, 0, "bytes that have left and are still there");
    db.check();
}

/// Whoever does not end is waited for once.
#[test]
fn a_reader_that_does_not_end_is_not_waited_for_again() {
    let (_folder, db, bucket) = filled(false);
    let snapshot = db.snapshot();
    while is_set(&bucket, 0, 2) {}
    let start = Instant::now();
    let refusals = (0..60).filter(|key| !is_set(&bucket, *key, 3)).count();
    assert!(refusals > 40, "{refusals} commits were refused");
    assert!(start.elapsed() < Duration::from_secs(20), "each of them waited");
    drop(snapshot);
    write(&bucket, 4);
}

/// What a snapshot needs was superseded by places in files all the same, which took more memory,
/// and nobody had reserved it: 80 bytes for each value that was in memory.
#[test]
fn the_limit_holds_while_nothing_can_leave() {
    let (_folder, db, bucket) = filled(false);
    let snapshot = db.snapshot();
    for key in 0..200 {
        let _ = is_set(&bucket, key, 2);
        assert!(total(&db) <= LIMIT, "after {key}: {:?}", db.stats().memory);
    }
    drop(snapshot);
}

/// References into a bucket that is dropped stay good until their snapshot ends.
#[test]
fn what_was_lent_outlives_its_bucket_and_its_database_handle() {
    let (_folder, db, bucket) = filled(true);
    empty(&db, &bucket);
    let snapshot = db.snapshot();
    let lent: Vec<_> = (0..40).map(|key| snapshot.get(&bucket, &key).unwrap().unwrap()).collect();
    assert!(db.drop_bucket("values").unwrap());
    assert!(matches!(snapshot.get(&bucket, &100), Err(Error::BucketDropped { .. })));
    let other: Values = db.bucket("others").unwrap();
    for round in 0..3 {
        for key in 0..100 {
            let _ = is_set(&other, key, round);
        }
        db.vacuum(usize::MAX);
        db.checkpoint().unwrap();
    }
    drop((bucket, other, db));
    for (key, bytes) in (0..).zip(&lent) {
        assert_eq!(version_of(key, bytes), 1);
    }
}

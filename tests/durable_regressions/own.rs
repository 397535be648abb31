//! What this engine itself once did, or might do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use palisade::testing::{Fault, FaultDisk, Moment, Op};
use palisade::{Error, WalError};

use super::ledger::Ledger;
use super::{numbers, on, relaxed, small, whole};

/// A checkpoint folded the deltas of a bucket that was opened while it ran, and whose ranges
/// it did not write. Symptom: after the next opening the bucket was as before an earlier life.
#[test]
fn bucket_opened_beside_a_checkpoint_keeps_its_deltas() {
    let disk = FaultDisk::new(100);
    let db = on(&disk, &small()).open("store").unwrap();
    let (other, bucket) = (Ledger::open(&db).unwrap(), db.bucket::<u64, u64>("b").unwrap());
    bucket.insert(1, 1).unwrap();
    other.add(10).unwrap();
    db.checkpoint().unwrap();
    bucket.insert(1, 2).unwrap();
    // Nobody opens the bucket in this life: a checkpoint writes a delta.
    let disk = disk.kill(1);
    let db = on(&disk, &small()).open("store").unwrap();
    Ledger::open(&db).unwrap().add(10).unwrap();
    let opener = db.clone();
    disk.observe(move |_, call, _| {
        // A table of the ledger is being written: the plan has been made.
        let is_range = call.op == Op::Write && call.path.contains("/tab-") && call.offset == 0;
        if is_range && call.path.ends_with("5.tmp") {
            assert_eq!(numbers(&opener, "b"), [(1, 2)]);
        }
    });
    db.checkpoint().unwrap();
    assert!(db.buckets().iter().all(|it| &*it.name != "b" || it.records == 1), "opened meanwhile");
    let after = on(&disk.crash(1), &small()).open("store").unwrap();
    assert_eq!(numbers(&after, "b"), [(1, 2)]);
}

/// The number of a delta was used again when a later one of the same checkpoint failed.
/// Symptom: two buckets with one table, and an assertion about the manifest.
#[test]
fn failed_checkpoint_uses_no_number_twice() {
    for nth in 1..30 {
        let disk = FaultDisk::new(101);
        let db = on(&disk, &small()).open("store").unwrap();
        for name in ["a", "b", "c"] {
            db.bucket::<u64, u64>(name).unwrap().insert(1, 1).unwrap();
        }
        let disk = disk.kill(1);
        let db = on(&disk, &small()).open("store").unwrap();
        disk.fail_nth(Op::Write, nth, Fault::NoSpace);
        let first = db.checkpoint();
        if first.is_err() {
            db.checkpoint().unwrap();
        }
        let after = on(&disk.crash(1), &small()).open("store").unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(numbers(&after, name), [(1, 1)], "{nth}, {name}");
        }
    }
}

/// The manifest could name a bucket whose creation was not durable in the log, or no longer
/// one whose end was not. Symptom: after a power cut a later change was there without earlier ones.
#[test]
fn manifest_is_not_ahead_of_the_log() {
    let disk = FaultDisk::new(102);
    let db = on(&disk, &relaxed()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    ledger.add(10).unwrap();
    db.bucket::<u64, u64>("old").unwrap();
    let (changer, writer) = (db.clone(), Ledger::open(&db).unwrap());
    let change = Mutex::new(Some(move || {
        writer.add(10).unwrap();
        changer.drop_bucket("old").unwrap();
        changer.bucket::<u64, u64>("new").unwrap();
    }));
    let early = Ledger::open(&db).unwrap();
    let (written, changing) = (AtomicU64::new(0), Arc::new(Mutex::new(None)));
    let started = Arc::clone(&changing);
    disk.observe(move |_, call, moment| {
        let is_table = call.op == Op::Rename && call.path.contains("/tab-");
        if is_table && written.fetch_add(1, Ordering::Relaxed) == 1 {
            // Both of them are written; and now there is something to sync.
            early.add(10).unwrap();
        }
        // The tables are there, and the log is being synced up to what they hold. Whatever comes
        // now does not belong in the manifest, unless it waits for a turn of its own.
        let is_sync = call.op == Op::SyncData && moment == Moment::During;
        if is_sync && written.load(Ordering::Relaxed) == 2 {
            let Some(change) = change.lock().unwrap().take() else { return };
            let changing = thread::spawn(change);
            let began = Instant::now();
            while !changing.is_finished() && began.elapsed() < Duration::from_millis(200) {
                thread::yield_now();
            }
            *started.lock().unwrap() = Some(changing);
        }
    });
    db.checkpoint().unwrap();
    let states: Vec<_> = (0..100).map(|seed| disk.crash(seed)).collect();
    changing.lock().unwrap().take().expect("the log was synced").join().unwrap();
    for state in states {
        let after = on(&state, &relaxed()).open("store").unwrap();
        let names: Vec<_> = after.buckets().into_iter().map(|it| it.name.to_string()).collect();
        let count = Ledger::open(&after).unwrap().check();
        let has = |name: &str| names.iter().any(|it| it == name);
        let is_later = has("new") || !has("old");
        assert!(!is_later || count == 3, "{names:?} with {count} commits");
    }
}

/// After a failed sync a checkpoint went on to write its tables, and after a failed manifest the
/// next one: it named tables whose names were lost. Symptom: a table was missing at the next
/// opening.
#[test]
fn first_failure_of_the_log_is_told_for_ever() {
    let disk = FaultDisk::new(103);
    let db = on(&disk, &small()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    ledger.add(10).unwrap();
    disk.fail_nth(Op::SyncData, 1, Fault::Io);
    let first = ledger.add(10).unwrap_err();
    let calls = disk.calls();
    for _ in 0..3 {
        let error = ledger.add(10).unwrap_err();
        assert!(matches!(error, Error::Log(WalError::Poisoned { .. })));
        assert_eq!(whole(&error), whole(&first));
        assert!(db.sync().is_err() && db.checkpoint().is_err());
    }
    assert_eq!(ledger.check(), 1, "nothing is shown that nobody was promised");
    let asked = disk.trace().into_iter().filter(|call| call.number > calls && call.op.is_sync());
    assert_eq!(asked.count(), 0, "no sync is asked for again");
    assert!(db.stats().log.unwrap().failure.is_some());
}

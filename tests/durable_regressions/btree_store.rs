//! What btree-store did: B2, B4 and B5 in 0.1.0, C2 and C5 in 2.1.0; and what this engine once did.

use std::path::Path;
use std::time::Duration;

use palisade::testing::{Fault, FaultDisk, Op};
use palisade::{Error, WalError};
use tempfile::tempdir;

use super::ledger::Ledger;
use super::{numbers, on, relaxed, small, whole, within};

/// B2: pages of the free list were used again before the commit: after a kill the file could be
/// read, and every later write answered `Corruption`, 5 times of 6.
#[test]
fn store_that_was_killed_can_be_written_to() {
    let mut disk = FaultDisk::new(4);
    let mut expected = 0;
    for life in 0..40 {
        let options = on(&disk, &if life % 2 == 0 { small() } else { relaxed() });
        let db = options.open("store").unwrap();
        let ledger = Ledger::open(&db).unwrap();
        assert_eq!(ledger.check(), expected, "life {life}");
        for step in 0..10 + life {
            expected = ledger.add(500).unwrap();
            if step % 13 == 5 {
                db.checkpoint().unwrap();
            }
        }
        let next = disk.kill(life);
        drop((ledger, db));
        disk = next;
    }
    assert_eq!(expected, (10..50).sum::<u64>());
}

/// B4: large values lay on pages of their own without a checksum: a changed byte was returned.
#[test]
fn changed_byte_of_a_large_value_is_an_error() {
    for with_checkpoint in [false, true] {
        let disk = FaultDisk::new(6);
        let db = on(&disk, &small()).open("store").unwrap();
        let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
        let value = vec![0x5a; 300_000];
        bucket.insert(1, value.clone()).unwrap();
        bucket.insert(2, vec![1]).unwrap();
        if with_checkpoint {
            db.checkpoint().unwrap();
        }
        drop(bucket);
        db.close().unwrap();
        let content = |path: &String| disk.content(Path::new(path)).unwrap();
        let holds = |path: &String| content(path).windows(1000).any(|it| it == &value[..1000]);
        let ending = if with_checkpoint { ".tab" } else { ".log" };
        let mut paths = disk.paths().into_iter().filter(|path| path.ends_with(ending));
        let file = paths.find(holds).expect("the value is somewhere");
        let start = content(&file).windows(1000).position(|it| it == &value[..1000]).unwrap();
        for at in (start..start + value.len()).step_by(29_989) {
            let damaged = disk.kill(1);
            damaged.edit(Path::new(&file), |bytes| bytes[at] ^= 1);
            let opened = on(&damaged, &small()).open("store");
            let read = opened.and_then(|db| db.bucket::<u64, Vec<u8>>("b")?.get(&1));
            let error = read.expect_err("a byte of it was changed");
            assert!(whole(&error).contains(&file), "{at}: {}", whole(&error));
        }
    }
}

/// B5: there was no rollback: what a failed step left was a part of the next commit.
#[test]
fn what_was_rolled_back_is_in_no_file() {
    let disk = FaultDisk::new(5);
    let db = on(&disk, &small()).open("store").unwrap();
    let bucket = db.bucket::<u64, u64>("b").unwrap();
    bucket.insert(1, 1).unwrap();
    let tx = db.begin();
    tx.insert(&bucket, 2, 2).unwrap();
    drop(tx);
    let failed = db.write(|tx| {
        tx.insert(&bucket, 3, 3)?;
        tx.remove(&bucket, &1)?;
        Err::<(), _>(Error::Overflow)
    });
    assert!(matches!(failed, Err(Error::Overflow)));
    bucket.insert(4, 4).unwrap();
    db.checkpoint().unwrap();
    bucket.insert(5, 5).unwrap();
    let after = on(&disk.crash(1), &small()).open("store").unwrap();
    assert_eq!(numbers(&after, "b"), [(1, 1), (4, 4), (5, 5)]);
}

/// C2: corruption or a full disk while running aborted the process. (That this process is still
/// there to assert anything is half of the test.)
#[test]
fn failing_calls_while_running_are_errors() {
    for (op, fault) in [
        (Op::Write, Fault::Io),
        (Op::Store, Fault::NoSpace),
        (Op::SyncData, Fault::Io),
        (Op::SyncAll, Fault::Io),
        (Op::SyncDir, Fault::Io),
        (Op::Rename, Fault::Io),
        (Op::Allocate, Fault::NoSpace),
        (Op::Open, Fault::Io),
        (Op::Read, Fault::Io),
        (Op::Remove, Fault::Io),
        (Op::SyncData, Fault::WriteBack),
    ] {
        for nth in [1, 3, 9] {
            let disk = FaultDisk::new(nth);
            let db = on(&disk, &small()).open("store").unwrap();
            let ledger = Ledger::open(&db).unwrap();
            let mut acked = ledger.add(400).unwrap();
            disk.fail_nth(op, nth, fault);
            for step in 0..60 {
                match ledger.add(400) {
                    Ok(number) => acked = number,
                    Err(Error::Log(_)) => {}
                    Err(other) => panic!("{op:?} {fault:?} {nth}: {}", whole(&other)),
                }
                if step % 20 == 19 {
                    // Its error is told, too; what matters is below.
                    let _ = db.checkpoint();
                }
            }
            assert!(ledger.check() >= acked, "reads go on");
            let after = on(&disk.crash(nth), &small()).open("store").unwrap();
            let found = Ledger::open(&after).unwrap().check();
            assert!(found >= acked, "{op:?} {fault:?} {nth}: {acked} told, {found} there");
        }
    }
}

/// C2, a table that is damaged while it is in use: opening its bucket says so, all else goes on.
#[test]
fn damage_found_while_running_is_an_error_of_its_bucket() {
    let disk = FaultDisk::new(8);
    let options = on(&disk, &small());
    let db = options.open("store").unwrap();
    db.bucket::<u64, u64>("b").unwrap().insert(1, 1).unwrap();
    db.checkpoint().unwrap();
    drop(db);
    let db = options.open("store").unwrap();
    let table = disk.paths().into_iter().find(|path| path.ends_with(".tab")).unwrap();
    disk.edit(Path::new(&table), |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    for _ in 0..2 {
        let error = db.bucket::<u64, u64>("b").unwrap_err();
        assert!(matches!(error, Error::Checkpoint(_)), "{}", whole(&error));
    }
    let ledger = Ledger::open(&db).unwrap();
    assert_eq!(ledger.add(10).unwrap(), 1);
}

/// C5: a write inside a write waited for itself for ever.
#[test]
fn nested_writes_end() {
    within(Duration::from_secs(60), || {
        let folder = tempdir().unwrap();
        let db = small().open(folder.path()).unwrap();
        let bucket = db.bucket::<u64, u64>("b").unwrap();
        let mut inner = 0;
        db.write(|tx| {
            tx.insert(&bucket, 1, 1)?;
            // Another key, and another bucket made on the way: neither waits for the outer one.
            inner += 1;
            bucket.insert(100 + inner, 1)?;
            db.bucket::<u64, u64>("made inside")?.insert(inner, inner)?;
            db.checkpoint()?;
            db.write(|nested| nested.insert(&bucket, 2, 2).map(drop))?;
            Ok(())
        })
        .unwrap();
        assert!(inner >= 1);
        assert_eq!(bucket.get(&1).unwrap(), Some(1));
        assert_eq!(bucket.get(&2).unwrap(), Some(2));
    });
}

/// Ours: a checkpoint folded the deltas of a bucket that was opened while it ran, and whose ranges
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

/// Ours: the number of a delta was used again when a later one of the same checkpoint failed.
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

/// Ours: the manifest could name a bucket whose creation was not durable in the log, or no longer
/// one whose end was not. Symptom: after a power cut a later change was there without earlier ones.
#[test]
fn manifest_is_not_ahead_of_the_log() {
    let disk = FaultDisk::new(102);
    let db = on(&disk, &relaxed()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    ledger.add(10).unwrap();
    db.bucket::<u64, u64>("old").unwrap();
    let (changer, writer) = (db.clone(), Ledger::open(&db).unwrap());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    disk.observe(move |_, call, _| {
        // The checkpoint has synced the log, or is about to, and the manifest comes next.
        let is_table = call.op == Op::Rename && call.path.contains("/tab-");
        if is_table && !is_done.swap(true, std::sync::atomic::Ordering::Relaxed) {
            writer.add(10).unwrap();
            changer.drop_bucket("old").unwrap();
            changer.bucket::<u64, u64>("new").unwrap();
        }
    });
    db.checkpoint().unwrap();
    for seed in 0..100 {
        let after = on(&disk.crash(seed), &relaxed()).open("store").unwrap();
        let names: Vec<_> = after.buckets().into_iter().map(|it| it.name.to_string()).collect();
        let count = Ledger::open(&after).unwrap().check();
        let has = |name: &str| names.iter().any(|it| it == name);
        let is_later = has("new") || !has("old");
        assert!(!is_later || count == 2, "{names:?} with {count} commits");
    }
}

/// A failed sync is fatal, and stays so: its cause is told again and again, and nothing is retried.
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

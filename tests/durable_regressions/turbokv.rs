//! What turbokv 0.4.0 did: T1 to T3, T9 to T12.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use palisade::testing::{FaultDisk, Moment};
use palisade::{Durability, Error, Options};
use tempfile::tempdir;

use super::ledger::Ledger;
use super::{files, on, relaxed, small, whole};

/// T1: the log stood behind a buffer of the process, so a kill took 282 515 of 1 421 900 writes
/// that had been acknowledged as durable. (`tests/kill.rs` kills real processes.)
#[test]
fn killed_process_loses_no_acknowledged_commit() {
    for options in [relaxed(), small()] {
        let disk = FaultDisk::new(1);
        let db = on(&disk, &options).open("store").unwrap();
        let ledger = Ledger::open(&db).unwrap();
        for number in 1..=200 {
            ledger.add(60).unwrap();
            if number % 7 == 0 {
                let after = on(&disk.kill(number), &options).open("store").unwrap();
                assert_eq!(Ledger::open(&after).unwrap().check(), number);
            }
        }
    }
}

/// T2: the same with a flush every 50 ms, whose checkpoint was taken from the newest sequence
/// number and not from the table that was written: 64 to 80 % lost, each time.
#[test]
fn checkpoint_covers_no_commit_that_its_tables_lack() {
    let options = relaxed();
    let disk = FaultDisk::new(2);
    let db = on(&disk, &options).open("store").unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.checkpoint().unwrap();
            }
        });
        let ledger = Ledger::open(&db).unwrap();
        for number in 1..=600 {
            ledger.add(60).unwrap();
            if number % 20 == 0 {
                let after = on(&disk.kill(number), &options).open("store").unwrap();
                assert_eq!(Ledger::open(&after).unwrap().check(), number);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// T3: after a normal exit 632 to 840 of 1 000 sampled keys were found again.
#[test]
fn normal_exit_keeps_every_key() {
    let folder = tempdir().unwrap();
    let options = Options::new()
        .durability(Durability::Relaxed)
        .segment_bytes(64 << 10)
        .table_bytes(64 << 10)
        .checkpoint_after(256 << 10, 100)
        .checkpoint_bytes_per_second(None);
    let key = |n: u64| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let total = 20_000;
    let db = options.open(folder.path()).unwrap();
    let bucket = db.bucket::<String, u64>("b").unwrap();
    for n in 0..total {
        bucket.insert(key(n), n).unwrap();
    }
    // No close: handles just go, as at the end of `main`.
    drop(bucket);
    drop(db);
    let db = options.open(folder.path()).unwrap();
    let bucket = db.bucket::<String, u64>("b").unwrap();
    assert_eq!(bucket.len().unwrap() as u64, total);
    assert!((0..total).all(|n| bucket.get(&key(n)).unwrap() == Some(n)));
}

/// T9: 7 990 of 171 139 scans saw a part of a batch.
#[test]
fn scan_sees_a_batch_or_nothing_of_it() {
    let folder = tempdir().unwrap();
    let options = small().durability(Durability::Relaxed).threads(true).checkpoint_after(0, 0);
    let db = options.open(folder.path()).unwrap();
    let (left, right) = (db.bucket::<u64, u64>("l").unwrap(), db.bucket::<u64, u64>("r").unwrap());
    let done = AtomicBool::new(false);
    let scans = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut scans = 0;
            while !done.load(Ordering::Relaxed) {
                let snapshot = db.snapshot();
                let mut rounds =
                    snapshot.iter(&left).unwrap().chain(snapshot.iter(&right).unwrap());
                let first = rounds.next().map(|(_, &round)| round);
                assert!(rounds.all(|(_, &round)| Some(round) == first), "a part of a batch");
                let keys = snapshot.iter(&left).unwrap().count();
                assert!(keys == 0 || keys == 50);
                scans += 1;
            }
            scans
        });
        for round in 0..300 {
            db.write(|tx| {
                for key in 0..50 {
                    tx.insert(&left, key, round)?;
                    tx.insert(&right, key, round)?;
                }
                Ok(())
            })
            .unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(scans > 10, "{scans}");
}

/// T10: a log that ended in half a batch could not be opened: "failed to fill whole buffer".
#[test]
fn torn_end_of_the_log_is_cut_off_at_a_whole_commit() {
    let folder = tempdir().unwrap();
    let (store, copy) = (folder.path().join("store"), folder.path().join("copy"));
    let options = relaxed().segment_bytes(64 << 10);
    let db = options.open(&store).unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for _ in 0..9 {
        ledger.add(1000).unwrap();
    }
    let position = || db.stats().log.unwrap().position.get() & 0xffff_ffff;
    let before = position();
    ledger.add(1000).unwrap();
    let after = position();
    for cut in (before + 1..after).step_by(97).chain([after - 16]) {
        // What a power cut leaves of the last record: its first bytes.
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&store).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let segment = files(&copy, "log").into_iter().next_back().unwrap();
        let mut bytes = fs::read(&segment).unwrap();
        let torn = usize::try_from(cut).unwrap()..usize::try_from(after).unwrap();
        bytes.get_mut(torn).unwrap().fill(0);
        fs::write(&segment, bytes).unwrap();

        let (db, recovery) = options.recover(&copy).unwrap();
        let ledger = Ledger::open(&db).unwrap();
        assert_eq!(ledger.check(), 9, "cut at {cut} of {before}..{after}");
        assert!(!recovery.was_closed && recovery.newest.get() == 11, "{recovery:?}");
        assert_eq!(ledger.add(10).unwrap(), 10, "and it goes on");
        drop((ledger, db));
        fs::remove_dir_all(&copy).unwrap();
    }
}

/// T11: with one bit flipped in a table the store opened, and 142 of 20 000 reads failed one by
/// one. The log's part is `flipped_bits_in_the_log_are_told_by_file_and_place`.
#[test]
fn flipped_bits_in_a_table_are_told_before_anything_is_read() {
    let disk = FaultDisk::new(11);
    let db = on(&disk, &small()).open("store").unwrap();
    let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
    for n in 0..300 {
        bucket.insert(n, vec![3; 40]).unwrap();
    }
    db.checkpoint().unwrap();
    drop(bucket);
    db.close().unwrap();
    let table = disk.paths().into_iter().find(|path| path.ends_with(".tab")).unwrap();
    let bits = disk.content(Path::new(&table)).unwrap().len() as u64 * 8;
    let mut told = 0;
    for bit in (0..bits).step_by(251) {
        let damaged = disk.kill(1);
        assert!(damaged.flip_bit(Path::new(&table), bit));
        let opened = on(&damaged, &small()).open("store");
        match opened.and_then(|db| db.bucket::<u64, Vec<u8>>("b")) {
            Err(error @ Error::Checkpoint(_)) => {
                assert!(whole(&error).contains(&table), "bit {bit}: {}", whole(&error));
                told += 1;
            }
            Err(other) => panic!("bit {bit}: {}", whole(&other)),
            Ok(bucket) => {
                // Padding that nothing reads.
                let entries: Vec<_> = bucket.iter().unwrap().collect();
                let expected: Vec<_> = (0..300).map(|n| (n, vec![3; 40])).collect();
                assert!(entries == expected, "bit {bit} changed what is read");
            }
        }
    }
    assert!(told > 300, "{told}");
}

/// T12: two processes could open one directory. (`tests/faults.rs` has the second process, and
/// `directory_has_one_handle_whatever_it_is_called` the second handle.) Here: the refused one must
/// not have touched anything.
#[test]
fn refused_opening_changes_nothing() {
    let disk = FaultDisk::new(12);
    let options = on(&disk, &small());
    let db = options.open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    ledger.add(100).unwrap();
    let content = || {
        let read = |path: String| (disk.content(Path::new(&path)), path);
        disk.paths().into_iter().map(read).collect::<Vec<_>>()
    };
    let before = content();
    assert!(matches!(options.open("store"), Err(Error::AlreadyOpen { .. })));
    assert!(before == content());
    assert_eq!(ledger.add(100).unwrap(), 2);
}

/// T1 once more, at every call: a process that dies between any two of its system calls.
#[test]
fn kill_between_any_two_calls_loses_nothing() {
    let disk = FaultDisk::new(3);
    let acked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (seen, options) = (std::sync::Arc::clone(&acked), relaxed());
    let checked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&checked);
    disk.observe(move |disk, call, moment| {
        if moment != Moment::Before || !call.op.changes() {
            return;
        }
        let acked = seen.load(Ordering::Relaxed);
        let after = on(&disk.kill(call.number), &options).open("store").unwrap();
        let found = Ledger::open(&after).unwrap().check();
        assert!((acked..=acked + 1).contains(&found), "{call:?}: {acked} told, {found} there");
        count.fetch_add(1, Ordering::Relaxed);
    });
    let db = on(&disk, &relaxed()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for step in 1..=60 {
        acked.store(ledger.add(400).unwrap(), Ordering::Relaxed);
        if step % 15 == 0 {
            db.checkpoint().unwrap();
        }
    }
    assert!(checked.load(Ordering::Relaxed) > 150, "{checked:?}");
}

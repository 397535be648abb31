//! What btree-store did: B2, B4 and B5 in 0.1.0, C2 and C5 in 2.1.0.

use std::path::Path;
use std::time::Duration;

use palisade::Error;
use palisade::testing::{Fault, FaultDisk, Op};
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

//! Calls that fail: which failures end the log, which leave it as it was, and that none of them is
//! taken for something else.

use super::*;
use crate::storage::{Fault, Op};

fn assert_poisoned(result: Result<impl std::fmt::Debug, WalError>, cause: &str) {
    match result {
        Err(WalError::Poisoned { cause: found }) => {
            assert!(found.to_string().contains(cause), "{found}");
        }
        other => panic!("not poisoned: {other:?}"),
    }
}

#[test]
fn failed_sync_poisons_and_is_not_tried_again() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let ends = commit_all(&wal, 1..=2, 100);
    let end = commit(&wal, 3, &[1; 100]).unwrap();
    disk.fail_nth(Op::SyncData, 1, Fault::Io);
    assert_poisoned(wal.sync_to(end), "cannot sync wal-00000001.log");
    let calls = disk.calls();
    assert_poisoned(wal.sync_to(end), "cannot sync");
    assert_poisoned(commit(&wal, 4, &[1; 100]), "cannot sync");
    assert_poisoned(wal.mark(), "cannot sync");
    assert_poisoned(wal.close(), "cannot sync");
    assert_poisoned(wal.release(end), "cannot sync");
    assert_poisoned(wal.prepare_spare(), "cannot sync");
    assert_eq!(disk.calls(), calls, "the disk was not asked again");
    assert_eq!(wal.durable(), ends[1]);
    wal.sync_to(ends[1]).unwrap();
    assert!(wal.poison_cause().is_some());
    let mut found = Vec::new();
    wal.read(Lsn::ZERO, ends[1], &mut keep(&mut found)).unwrap();
    assert_eq!(found.len(), 2, "reading goes on");
    let (_, found) = look(&disk.crash(5), &all()).unwrap();
    assert!(found.len() >= 2 && contents(1..=2, 100) == found[..2]);
}

#[test]
fn failed_write_poisons() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let ends = commit_all(&wal, 1..=1, 100);
    disk.fail_nth(Op::Write, 1, Fault::Io);
    assert_poisoned(commit(&wal, 2, &[2; 100]), "cannot write");
    assert_poisoned(commit(&wal, 3, &[3; 100]), "cannot write");
    assert_eq!(wal.position(), ends[0]);
    let found = open(&disk.kill(1)).1;
    assert!(found.len() <= 2 && found[0] == contents(1..=1, 100)[0]);
}

#[test]
fn caller_may_poison() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let told = wal.poison(Arc::new(std::io::Error::other("the manifest is lost")));
    assert_poisoned(Err::<(), _>(told), "manifest");
    assert_poisoned(commit(&wal, 1, &[1; 10]), "manifest");
    let later = wal.poison(Arc::new(std::io::Error::other("something else")));
    assert_poisoned(Err::<(), _>(later), "manifest");
}

#[test]
fn full_disk_is_an_ordinary_error_and_passes() {
    for is_full in [false, true] {
        let disk = FaultDisk::new(1);
        disk.set_capacity(Some(3 * 8192));
        let (wal, ..) = open_with(&disk, &all(), WalOptions { is_full, ..small() }).unwrap();
        let mut timestamp = 0;
        let refused = loop {
            match commit(&wal, timestamp + 1, &content(timestamp + 1, 700)) {
                Ok(_) => timestamp += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, WalError::NoSpace { .. }), "{refused}");
        assert_eq!(timestamp, 15, "three segments are full");
        let position = wal.position();
        assert!(commit(&wal, 16, &[0; 700]).is_err());
        assert!(matches!(wal.prepare_spare(), Err(WalError::NoSpace { .. })));
        assert_eq!(wal.position(), position);
        assert!(wal.poison_cause().is_none());
        wal.sync_to(position).unwrap();
        disk.set_capacity(None);
        commit(&wal, 16, &content(16, 700)).unwrap();
        wal.close().unwrap();
        assert_eq!(look(&disk.crash(1), &all()).unwrap().1, contents(1..=16, 700));
        assert!(!disk.paths().iter().any(|path| path.contains(".tmp")), "{:?}", disk.paths());
    }
}

#[test]
fn segment_that_cannot_be_made_leaves_nothing_behind() {
    for op in [Op::Open, Op::Allocate, Op::Write, Op::SyncAll, Op::Rename, Op::Map] {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = FaultDisk::new(3);
            let (wal, ..) =
                open_with(&disk, &all(), WalOptions { is_full: false, ..small() }).unwrap();
            let before = disk.paths();
            disk.fail_nth(op, 1, fault);
            let refused = wal.prepare_spare().unwrap_err();
            assert_eq!(
                matches!(refused, WalError::NoSpace { .. }),
                fault == Fault::NoSpace,
                "{op:?}: {refused}"
            );
            assert_eq!(disk.paths(), before, "{op:?}");
            assert!(wal.poison_cause().is_none(), "{op:?}");
            assert!(wal.prepare_spare().unwrap(), "{op:?}: the next one is made");
        }
    }
}

#[test]
fn failed_sync_of_names_poisons() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    disk.fail_nth(Op::SyncDir, 1, Fault::Io);
    assert_poisoned(wal.prepare_spare(), "sync");
    assert_poisoned(commit(&wal, 1, &[1; 10]), "sync");
}

/// Fails each call of an opening in turn: it refuses, for the right reason, or it was not needed.
#[test]
fn failure_while_opening_is_never_the_end_of_the_log() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=20, 700);
    while wal.prepare_spare().unwrap() {}
    for timestamp in 21..=23 {
        commit(&wal, timestamp, &content(timestamp, 700)).unwrap();
    }
    let mut refused = 0;
    for call in 1.. {
        let image = disk.kill(call);
        for fault in [Fault::Io, Fault::Interrupted, Fault::Short, Fault::NoSpace] {
            let image = image.kill(call);
            image.set_write_back(0);
            image.fail_at(call, fault);
            match open_with(&image, &all(), small()) {
                Ok((.., found)) => assert_eq!(found, contents(1..=23, 700), "{fault:?} at {call}"),
                Err(WalError::Io { .. } | WalError::NoSpace { .. } | WalError::Poisoned { .. }) => {
                    refused += 1;
                }
                Err(other) => panic!("{fault:?} at {call}: {other}"),
            }
            let found = open(&image.kill(9)).1;
            assert_eq!(found, contents(1..=23, 700), "again after {fault:?} at {call}");
        }
        let quiet = disk.kill(0);
        open(&quiet);
        if call > quiet.calls() {
            break;
        }
    }
    assert!(refused > 50, "{refused} failures were told");
}
/// A segment whose only commit was torn, and behind it a large one that says how far the first was
/// durable. While the recovery puts a new segment in their place, the power goes at each call.
#[test]
fn recovery_may_be_cut_at_every_call() {
    let disk = FaultDisk::new(1);
    commit_all(&open(&disk).0, 1..=3, 100);
    let (wal, _) = open(&disk);
    let torn = wal.position();
    commit(&wal, 4, &content(4, 100)).unwrap();
    commit(&wal, 5, &content(5, 9000)).unwrap();
    drop(wal);
    let disk = disk.kill(1);
    disk.edit(Path::new("wal-00000002.log"), |bytes| bytes[torn.offset() as usize..].fill(0));
    disk.settle();
    for call in 1.. {
        let image = disk.kill(0);
        image.fail_at(call, Fault::PowerOff);
        let opened = open_with(&image, &all(), small());
        for seed in 0..20 {
            let found = look(&image.crash(seed), &all());
            let found = found.unwrap_or_else(|error| panic!("cut at {call}, seed {seed}: {error}"));
            assert_eq!(found.1, contents(1..=3, 100), "cut at {call}, seed {seed}");
        }
        if !image.is_off() {
            assert!(opened.is_ok() && call > 15, "{call} calls");
            break;
        }
    }
}

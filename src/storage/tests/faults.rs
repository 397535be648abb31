//! What goes wrong on the simulated disk without a power cut, and what the tools for it do.

use super::{TOP, content, crashes, create, create_synced, quiet};
use crate::storage::{Access, Fault, FaultDisk, File, Moment, Op, Storage};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

#[test]
fn failed_sync_loses_bytes_and_the_next_one_says_nothing() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 16_384]);
    file.write_all_at(&[2; 16_384], 0).unwrap();
    disk.fail_nth(Op::SyncData, 1, Fault::Io);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "a").unwrap(), [2; 16_384], "the process sees its own bytes");
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert_eq!(left.len(), 1, "nothing is pending");
    assert!(left.iter().all(|bytes| bytes.contains(&1) && bytes.contains(&2)), "a part is lost");
    file.write_all_at(&[2; 16_384], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(crashes(&disk, |disk| content(disk, "a").unwrap()).len(), 1);
    assert_eq!(content(&disk.crash(1), "a").unwrap(), [2; 16_384], "written again, it is kept");
}

#[test]
fn failed_write_back_is_told_once_to_each_open_file() {
    let disk = quiet();
    let first = create_synced(&disk, "a", &[1; 4096]);
    let second = disk.open(Path::new("a"), Access::Write).unwrap();
    let unharmed = create_synced(&disk, "b", &[1; 4096]);
    first.write_all_at(&[2; 4096], 0).unwrap();
    disk.fail_nth(Op::Len, 1, Fault::WriteBack);
    first.len().unwrap();
    assert!(first.sync_data().is_err());
    first.sync_data().unwrap();
    assert!(second.sync_all().is_err());
    second.sync_all().unwrap();
    disk.open(Path::new("a"), Access::Write).unwrap().sync_data().unwrap();
    unharmed.sync_data().unwrap();
}

#[test]
fn of_two_overlapping_syncs_only_one_hears_of_the_failure() {
    let disk = quiet();
    let file: Arc<dyn File> = create_synced(&disk, "a", &[1; 4096]).into();
    file.write_all_at(&[2; 4096], 0).unwrap();
    let (other, inner) = (Arc::clone(&file), Arc::new(Mutex::new(None)));
    let (heard, once) = (Arc::clone(&inner), AtomicU64::new(0));
    disk.observe(move |_, _, moment| {
        if moment == Moment::During && once.fetch_add(1, Ordering::Relaxed) == 0 {
            let result = other.sync_data();
            *heard.lock() = Some(result.is_err());
        }
    });
    disk.fail_nth(Op::SyncData, 1, Fault::Io);
    let outer = file.sync_data().is_err();
    assert_eq!((*inner.lock(), outer), (Some(true), false), "the one that sent the bytes does not");
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert!(left.iter().any(|bytes| bytes.contains(&1)), "although a part of them is lost");
}

#[test]
fn later_sync_is_not_undone_by_an_earlier_one() {
    let disk = quiet();
    let file: Arc<dyn File> = create_synced(&disk, "a", &[1; 4096]).into();
    file.write_all_at(&[2; 4096], 0).unwrap();
    let (other, once) = (Arc::clone(&file), AtomicU64::new(0));
    disk.observe(move |_, _, moment| {
        if moment == Moment::During && once.fetch_add(1, Ordering::Relaxed) == 0 {
            other.write_all_at(&[3; 4096], 0).unwrap();
            other.sync_data().unwrap();
            other.write_all_at(&[4; 512], 0).unwrap();
        }
    });
    file.sync_data().unwrap();
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert!(left.iter().all(|bytes| !bytes.contains(&2) && bytes[512..] == [3; 3584]));
}

#[test]
fn bytes_written_back_while_a_sync_runs_are_not_undone_by_it() {
    let disk = quiet();
    let file: Arc<dyn File> = create_synced(&disk, "a", &[1; 4096]).into();
    file.write_all_at(&[2; 4096], 0).unwrap();
    let (other, once) = (Arc::clone(&file), AtomicU64::new(0));
    disk.observe(move |disk, _, moment| {
        if moment == Moment::During && once.fetch_add(1, Ordering::Relaxed) == 0 {
            other.write_all_at(&[3; 4096], 0).unwrap();
            disk.set_write_back(1);
            for _ in 0..100 {
                other.len().unwrap();
            }
            disk.set_write_back(0);
        }
    });
    file.sync_data().unwrap();
    file.sync_data().unwrap();
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert_eq!(left, BTreeSet::from([vec![3; 4096]]));
}

#[test]
fn lying_sync_does_nothing() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 512]);
    file.write_all_at(&[2; 512], 0).unwrap();
    create(&disk, "b", b"");
    for op in [Op::SyncData, Op::SyncAll, Op::SyncDir] {
        disk.fail_nth(op, 1, Fault::Lie);
    }
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new(TOP)).unwrap();
    let left =
        crashes(&disk, |disk| (content(disk, "a").unwrap()[0], content(disk, "b").is_some()));
    assert_eq!(left.len(), 4, "both are still open");
}

#[test]
fn failed_sync_of_a_directory_leaves_names_open() {
    let sure: BTreeSet<Vec<String>> = (0..100)
        .map(|seed| {
            let disk = FaultDisk::new(seed);
            create(&disk, "a", b"");
            create(&disk, "b", b"");
            disk.fail_nth(Op::SyncDir, 1, Fault::Io);
            assert!(disk.sync_dir(Path::new(TOP)).is_err());
            assert_eq!(disk.list(Path::new(TOP)).unwrap(), ["a", "b"], "the process sees them");
            let left = crashes(&disk, FaultDisk::paths);
            let is_sure = |name: &String| left.iter().all(|names| names.contains(name));
            let sure = disk.paths().into_iter().filter(is_sure).collect();
            disk.sync_dir(Path::new(TOP)).unwrap();
            let left = crashes(&disk, FaultDisk::paths);
            assert_eq!(left.len(), 1, "seed {seed}: nothing is pending");
            assert!(left.iter().all(|names| names.len() == 2), "seed {seed}: nothing is lost");
            sure
        })
        .collect();
    assert_eq!(sure.len(), 4, "each part of the names is kept by some seed");
}

#[test]
fn faults_come_at_the_call_they_are_planned_for() {
    let disk = quiet();
    disk.fail_at(3, Fault::NoSpace);
    let file = disk.open(Path::new("a"), Access::Create).unwrap();
    assert_eq!(file.write_at(b"one", 0).unwrap(), 3);
    assert_eq!(file.write_at(b"two", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a").unwrap(), b"one", "nothing happened");
    disk.fail_nth(Op::Read, 2, Fault::Io);
    let mut buffer = [0; 3];
    file.read_at(&mut buffer, 0).unwrap();
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert_eq!((disk.calls(), disk.trace().len()), (5, 5));
    let last = disk.trace().pop().unwrap();
    assert_eq!((last.number, last.op, &*last.path, last.length), (5, Op::Read, "a", 3));
}

#[test]
fn short_and_interrupted_calls_are_taken_up_again() {
    let disk = quiet();
    let file = create(&disk, "a", b"");
    for nth in [1, 1, 1, 3] {
        disk.fail_nth(Op::Write, nth, Fault::Short);
        disk.fail_nth(Op::Write, nth + 1, Fault::Interrupted);
        disk.fail_nth(Op::Read, nth, Fault::Interrupted);
        disk.fail_nth(Op::Read, nth + 1, Fault::Short);
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let before = disk.calls();
    file.write_all_at(&bytes, 0).unwrap();
    let mut read = vec![0; 5000];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    assert!(disk.calls() - before > 8, "it took several calls");
}

#[test]
fn failed_write_may_have_written_a_part() {
    let lengths: BTreeSet<usize> = (0..200)
        .map(|seed| {
            let disk = FaultDisk::new(seed);
            let file = create(&disk, "a", b"");
            disk.fail_nth(Op::Write, 1, Fault::Io);
            assert!(file.write_at(&[1; 100], 0).is_err());
            content(&disk, "a").unwrap().len()
        })
        .collect();
    assert_eq!((lengths.first(), lengths.last()), (Some(&0), Some(&100)));
}

#[test]
fn failed_rename_may_have_happened() {
    let outcomes: BTreeSet<Vec<String>> = (0..50)
        .map(|seed| {
            let disk = FaultDisk::new(seed);
            create(&disk, "a", b"");
            disk.fail_nth(Op::Rename, 1, Fault::Io);
            assert!(disk.rename(Path::new("a"), Path::new("b")).is_err());
            disk.paths()
        })
        .collect();
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn full_disk_takes_what_fits_and_heals_when_a_file_goes() {
    let disk = quiet();
    disk.set_capacity(Some(3 * 4096));
    let first = create(&disk, "a", &[1; 4096]);
    let second = create(&disk, "b", b"");
    assert_eq!(second.allocate(3 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(second.len().unwrap(), 2 * 4096, "a part is done");
    assert_eq!(first.write_at(&[2; 100], 4090).unwrap(), 6, "up to the end of the block");
    assert_eq!(first.write_at(&[2; 100], 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    first.write_all_at(&[3; 4096], 0).unwrap();
    disk.remove(Path::new("b")).unwrap();
    assert!(first.allocate(2 * 4096).is_err(), "open, it keeps its blocks");
    drop(second);
    first.allocate(3 * 4096).unwrap();
}

#[test]
fn without_power_nothing_answers_and_nothing_changes() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 512]);
    let mut map = file.map(512).unwrap();
    disk.fail_nth(Op::Write, 1, Fault::PowerOff);
    assert!(file.write_at(&[2; 512], 0).is_err());
    assert!(disk.is_off());
    map.store(0, &[3; 512]);
    assert!(file.sync_data().is_err() && file.len().is_err());
    assert!(disk.open(Path::new("a"), Access::Read).is_err());
    assert!(disk.remove(Path::new("a")).is_err());
    assert_eq!(crashes(&disk, |disk| content(disk, "a").unwrap()), BTreeSet::from([vec![1; 512]]));
}

#[test]
fn power_that_goes_during_a_sync_ends_it() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 512]);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.observe(|disk, _, moment| {
        if moment == Moment::During {
            disk.power_off();
        }
    });
    assert!(file.sync_data().is_err());
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert!(left.contains(&vec![1; 512]) && left.contains(&vec![2; 512]));
}

#[test]
fn observer_sees_every_call_before_it_happens() {
    let disk = quiet();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.observe(move |disk, call, moment| {
        let length = disk.crash(0).content(Path::new("a")).map(|bytes| bytes.len());
        log.lock().push((call.op, moment, length));
    });
    let file = create(&disk, "a", b"one");
    file.sync_all().unwrap();
    disk.sync_dir(Path::new(TOP)).unwrap();
    file.len().unwrap();
    let ops: Vec<_> = seen.lock().iter().map(|&(op, moment, _)| (op, moment)).collect();
    let before = |op| (op, Moment::Before);
    assert_eq!(
        ops,
        [
            before(Op::Open),
            before(Op::Write),
            before(Op::SyncAll),
            (Op::SyncAll, Moment::During),
            before(Op::SyncDir),
            before(Op::Len),
        ]
    );
    assert_eq!(seen.lock().first().unwrap().2, None, "not there before it is made");
    assert_eq!(seen.lock().last().unwrap().2, Some(3), "there for sure after the syncs");
}

#[test]
fn damage_is_durable_and_hits_what_it_names() {
    let disk = quiet();
    let bytes: Vec<u8> = (0..4_u8).flat_map(|sector| [sector; 512]).collect();
    let path = Path::new("a");
    create_synced(&disk, "a", &bytes);
    let after = |expected: &[u8]| {
        assert_eq!(
            crashes(&disk, |disk| content(disk, "a").unwrap()),
            BTreeSet::from([expected.to_vec()])
        );
        assert_eq!(content(&disk, "a").unwrap(), expected);
    };
    let mut expected = bytes.clone();
    assert!(disk.flip_bit(path, 8 * 600 + 3));
    expected[600] ^= 8;
    after(&expected);
    assert!(
        disk.swap_sectors(path, 0, 3) && disk.zero_sector(path, 2) && disk.copy_sector(path, 3, 1)
    );
    after(&[[3; 512], [0; 512], [0; 512], [0; 512]].concat());
    disk.truncate(path, 700);
    after(&[vec![3; 512], vec![0; 188]].concat());
    assert!(!disk.flip_bit(path, 8 * 700) && !disk.zero_sector(path, 1));
    disk.put(path, b"foreign");
    after(b"foreign");
    disk.put(Path::new("b"), b"other");
    disk.swap_files(path, Path::new("b"));
    after(b"other");
    disk.delete(path);
    assert_eq!(crashes(&disk, FaultDisk::paths), BTreeSet::from([vec!["b".to_owned()]]));
    assert!(disk.open(path, Access::Read).is_err());
}

#[test]
fn damage_of_unsynced_bytes_leaves_them_unsynced() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 1024]);
    file.write_all_at(&[2; 512], 512).unwrap();
    assert!(disk.flip_bit(Path::new("a"), 0));
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert!(left.iter().all(|bytes| bytes[0] == 0));
    assert!(left.iter().any(|bytes| bytes[600] == 1) && left.iter().any(|bytes| bytes[600] == 2));
}

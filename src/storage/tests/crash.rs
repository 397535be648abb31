//! What a power cut may do to the simulated disk, rule by rule.
//!
//! Aim: what is promised holds for every seed, and each outcome that may happen does for some.

use crate::storage::{Access, Fault, FaultDisk, File, Op, Storage};
use std::collections::BTreeSet;
use std::path::Path;

const SEEDS: u64 = 400;

/// A disk on which nothing is written back by itself.
fn quiet() -> FaultDisk {
    let disk = FaultDisk::new(1);
    disk.set_write_back(0);
    disk
}

fn create(disk: &FaultDisk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.open(Path::new(path), Access::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// The same, durable with its name.
fn create_synced(disk: &FaultDisk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = create(disk, path, bytes);
    file.sync_all().unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    file
}

fn content(disk: &FaultDisk, path: &str) -> Option<Vec<u8>> {
    disk.content(Path::new(path))
}

/// What crashes leave, each once.
fn crashes<T: Ord>(disk: &FaultDisk, look: impl Fn(&FaultDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.crash(seed))).collect()
}

#[test]
fn synced_bytes_survive_every_crash() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 5000]);
    assert_eq!(crashes(&disk, |disk| content(disk, "a")), BTreeSet::from([Some(vec![1; 5000])]));
    file.write_all_at(&[2; 100], 1000).unwrap();
    file.sync_data().unwrap();
    let mut expected = vec![1; 5000];
    expected[1000..1100].fill(2);
    assert_eq!(crashes(&disk, |disk| content(disk, "a")), BTreeSet::from([Some(expected)]));
}

#[test]
fn unsynced_sector_is_old_new_or_cut() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 1024]);
    file.write_all_at(&[2; 512], 512).unwrap();
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert!(left.contains(&[1; 1024].to_vec()), "old");
    assert!(left.contains(&[[1; 512], [2; 512]].concat()), "new");
    let cut = left.iter().filter(|bytes| bytes[512..].contains(&1) && bytes[512..].contains(&2));
    assert!(cut.count() > 10, "cut at several places");
    assert!(left.iter().all(|bytes| bytes.len() == 1024 && bytes[..512] == [1; 512]));
}

#[test]
fn unsynced_rename_is_kept_or_lost() {
    let disk = quiet();
    create_synced(&disk, "a", b"old");
    create_synced(&disk, "b", b"new");
    disk.rename(Path::new("b"), Path::new("a")).unwrap();
    let look = |disk: &FaultDisk| (content(disk, "a").unwrap(), content(disk, "b"));
    let lost = (b"old".to_vec(), Some(b"new".to_vec()));
    let kept = (b"new".to_vec(), None);
    assert_eq!(crashes(&disk, look), BTreeSet::from([lost, kept.clone()]));
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(crashes(&disk, look), BTreeSet::from([kept]));
}

#[test]
fn failed_sync_loses_bytes_and_the_next_one_says_nothing() {
    let disk = quiet();
    let file = create_synced(&disk, "a", &[1; 8192]);
    file.write_all_at(&[2; 8192], 0).unwrap();
    disk.fail_nth(Op::SyncData, 1, Fault::Io);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "a").unwrap(), [2; 8192], "the process sees its own bytes");
    let left = crashes(&disk, |disk| content(disk, "a").unwrap());
    assert_eq!(left.len(), 1, "nothing is pending");
    assert!(left.iter().all(|bytes| bytes.contains(&1) && bytes.contains(&2)), "a part is lost");
}

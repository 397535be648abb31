//! The files on disk are for ever: stores that an earlier version wrote must open, and hold what
//! they held.
//!
//! `tests/fixtures/v1` has two stores of format 1: one that was closed, and one whose process was
//! killed, with a checkpoint, a delta of a bucket that nobody opened, a record larger than its
//! segment, and a tail of commits in the log.
//!
//! For a new version of the format, and only then, add its stores once, beside the old ones:
//!
//! ```text
//! cargo test --all-features --test format -- --ignored write_the_stores_of_a_new_version
//! ```
//!
//! Until a version is released, its stores are written anew whenever it changes: remove the folder
//! and run the same command. From its release on they are never touched.
//!
//! The policy is in `src/design/format.rs`.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade::testing::FaultDisk;
use palisade::{CheckpointError, Database, Error, Options, WalError};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn on(disk: &FaultDisk) -> Options {
    // Small, so that a store in the repository is.
    let small = Options::new().segment_bytes(8 << 10).table_bytes(1 << 10).threads(false);
    small.storage(Arc::new(disk.clone())).seed(1)
}

type Odd = (Option<u32>, (i16, bool), [u8; 3]);

/// More than a segment takes.
fn large() -> Vec<u8> {
    (0..=250).cycle().take(9000).collect()
}

/// What every version writes: an entry for each thing that has bytes of its own on disk.
fn write(disk: &FaultDisk) {
    let db = on(disk).open("store").unwrap();
    let numbers = db.bucket::<u64, u64>("numbers").unwrap();
    let words = db.bucket::<String, Vec<u8>>("wörter").unwrap();
    let odd = db.bucket::<Odd, f64>("odd").unwrap();
    let sleeper = db.bucket::<i32, String>("sleeper").unwrap();
    for n in 0..300 {
        numbers.insert(n, n * n).unwrap();
    }
    words.insert(String::new(), vec![]).unwrap();
    words.insert("large".into(), vec![1; 9000]).unwrap();
    odd.insert((None, (-5, true), *b"abc"), -0.5).unwrap();
    odd.insert((Some(7), (5, false), [0, 255, 0]), f64::INFINITY).unwrap();
    sleeper.insert(-1, "first".into()).unwrap();
    sleeper.insert(2, "gone".into()).unwrap();
    db.bucket::<u8, u8>("dropped").unwrap().insert(1, 1).unwrap();
    db.checkpoint().unwrap();
    // From here on the log tells, and in the next life a delta.
    numbers.remove_range(10..90).unwrap();
    sleeper.remove(&2).unwrap();
    sleeper.insert(3, "second".into()).unwrap();
    db.drop_bucket("dropped").unwrap();
    drop((numbers, words, odd, sleeper));
    db.close().unwrap();

    let db = on(disk).open("store").unwrap();
    let numbers = db.bucket::<u64, u64>("numbers").unwrap();
    numbers.insert(1000, 1).unwrap();
    db.checkpoint().unwrap();
    db.rename_bucket("odd", "renamed").unwrap();
    let words = db.bucket::<String, Vec<u8>>("wörter").unwrap();
    words.insert("large".into(), large()).unwrap();
    db.write(|tx| {
        tx.insert(&numbers, 1001, 2)?;
        tx.remove(&numbers, &0)?;
        Ok(())
    })
    .unwrap();
    db.bucket::<(), ()>("new").unwrap().insert((), ()).unwrap();
    std::mem::forget(db);
}

fn check(db: &Database) {
    let names: Vec<_> = db.buckets().into_iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["new", "numbers", "renamed", "sleeper", "wörter"]);
    let numbers = db.bucket::<u64, u64>("numbers").unwrap();
    let expected = (1..10).chain(90..300).map(|n| (n, n * n)).chain([(1000, 1), (1001, 2)]);
    assert!(numbers.iter().unwrap().eq(expected));
    let words = db.bucket::<String, Vec<u8>>("wörter").unwrap();
    assert_eq!(words.len().unwrap(), 2);
    assert_eq!(words.get("").unwrap(), Some(vec![]));
    assert_eq!(words.get("large").unwrap(), Some(large()));
    let odd = db.bucket::<Odd, f64>("renamed").unwrap().iter().unwrap();
    let (first, second) = ((None, (-5, true), *b"abc"), (Some(7), (5, false), [0, 255, 0]));
    assert!(odd.eq([(first, -0.5), (second, f64::INFINITY)]));
    let sleeper = db.bucket::<i32, String>("sleeper").unwrap().iter().unwrap();
    assert!(sleeper.eq([(-1, "first".to_owned()), (3, "second".to_owned())]));
    assert_eq!(db.bucket::<(), ()>("new").unwrap().len().unwrap(), 1);
    let refused = db.bucket::<u64, u32>("numbers").unwrap_err();
    assert!(matches!(refused, Error::TypeMismatch { .. }), "{refused}");
}

/// A fixture, copied to where it may be written to.
fn load(folder: &Path) -> FaultDisk {
    let disk = FaultDisk::new(1);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        disk.put(&Path::new("store").join(name), &fs::read(entry.path()).unwrap());
    }
    disk
}

fn versions() -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn stores_of_every_version_open_and_hold_what_they_held() {
    let versions = versions();
    assert!(versions.contains(&fixtures().join("v1")), "{versions:?}");
    for version in versions {
        for (state, was_closed) in [("closed", true), ("killed", false)] {
            let disk = load(&version.join(state));
            let (db, recovery) = on(&disk).recover("store").unwrap();
            assert!(!recovery.is_new && recovery.was_closed == was_closed, "{recovery:?}");
            check(&db);
            // It is a database like any other from here on.
            db.bucket::<u64, u64>("numbers").unwrap().insert(5, 25).unwrap();
            db.checkpoint().unwrap();
            check(&db);
            drop(db);
            let db = on(&disk.crash(1)).open("store").unwrap();
            check(&db);
        }
    }
}

#[test]
fn what_this_version_writes_has_a_store_here() {
    let disk = FaultDisk::new(1);
    write(&disk);
    check(&on(&disk.kill(1)).open("store").unwrap());
    let newest = versions().pop().unwrap();
    assert_eq!(newest, folder_of(&disk), "a new version, and its stores are not written yet");
    let stored = load(&newest.join("killed"));
    // Magic and version, of each kind of file.
    let starts = |disk: &FaultDisk| -> BTreeSet<[u8; 10]> {
        let paths = disk.paths().into_iter().filter(|path| !path.ends_with("LOCK"));
        let content = paths.map(|path| disk.content(Path::new(&path)).unwrap());
        content.map(|content| *content.first_chunk().unwrap()).collect()
    };
    assert_eq!(starts(&disk), starts(&stored));
    assert_eq!(starts(&disk).len(), 3, "manifest, tables, segments");
}

/// Where the stores of the version are that a manifest has.
fn folder_of(disk: &FaultDisk) -> PathBuf {
    let manifest = disk.content(Path::new("store/MANIFEST")).unwrap();
    fixtures().join(format!("v{}", manifest.get(8).unwrap()))
}

/// Puts a version that nobody has written yet into a file, with checksums that fit.
fn from_the_future(bytes: &mut [u8], checksum_at: usize) {
    let (head, _) = bytes.split_at_mut(checksum_at);
    head.get_mut(8..10).unwrap().copy_from_slice(&u16::MAX.to_le_bytes());
    let crc = crc32fast::hash(head).to_le_bytes();
    bytes.get_mut(checksum_at..checksum_at + 4).unwrap().copy_from_slice(&crc);
}

#[test]
fn later_versions_are_refused_by_number_and_left_alone() {
    let paths = load(&fixtures().join("v1/killed")).paths();
    for path in paths.iter().filter(|path| !path.ends_with("LOCK")) {
        let disk = load(&fixtures().join("v1/killed"));
        let is_manifest = path.ends_with("MANIFEST");
        disk.edit(Path::new(path), |bytes| {
            let checksum_at = if is_manifest { bytes.len() - 4 } else { 60 };
            from_the_future(bytes, checksum_at);
        });
        let content = disk.content(Path::new(path));
        let opened = on(&disk).open("store").and_then(|db| {
            db.bucket::<String, Vec<u8>>("wörter")?;
            db.bucket::<u64, u64>("numbers")?;
            db.bucket::<i32, String>("sleeper")?;
            db.bucket::<Odd, f64>("renamed").map(drop)
        });
        let found = match opened.expect_err("nobody knows that version") {
            Error::Log(WalError::Version { found, path: at, .. })
            | Error::Checkpoint(CheckpointError::Version { found, path: at, .. }) => {
                assert_eq!(at, Path::new(path));
                found
            }
            other => panic!("{path}: {other}"),
        };
        assert_eq!(found, u16::MAX);
        assert_eq!(disk.content(Path::new(path)), content);
    }
}

fn save(disk: &FaultDisk, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for path in disk.paths() {
        let name = Path::new(&path).file_name().unwrap();
        fs::write(folder.join(name), disk.content(Path::new(&path)).unwrap()).unwrap();
    }
}

/// Adds stores to `tests/fixtures` if this version has none there.
#[test]
#[ignore = "writes to the repository, once for each version of the format"]
fn write_the_stores_of_a_new_version() {
    let disk = FaultDisk::new(1);
    write(&disk);
    let folder = folder_of(&disk);
    assert!(!folder.exists(), "{} is there for ever", folder.display());
    let killed = disk.kill(1);
    save(&killed, &folder.join("killed"));
    on(&killed).open("store").unwrap().close().unwrap();
    save(&killed, &folder.join("closed"));
    let bytes: u64 = [folder.join("killed"), folder.join("closed")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 256 << 10, "{bytes} bytes are too many for a repository");
}

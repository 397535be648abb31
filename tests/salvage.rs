//! Salvage brings back what is undamaged, says what it left out, and invents nothing.
//!
//! Method: databases whose whole past is known are damaged on the simulated disk and salvaged.
//! Every entry of the result must have been committed at some time; what the damage did not touch
//! must be there; what is missing must be told of, with a file of the database. The damaged files
//! must stay as they are.
#![cfg(feature = "testing")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the files' names are ours, and the numbers small"
)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::files::{HOME, Map, crashed, entries, files, fill, filled, on, words};
use common::rng::{Rng, env, seed};
use palisade::testing::{Access, FaultDisk, File, Lock, Map as FileMap, Storage};
use palisade::{Database, Error, Options, Salvaged};

const SAVED: &str = "saved";

/// Salvages, and opens the result.
fn salvage(disk: &FaultDisk) -> (Salvaged, Database) {
    let before = files(disk, HOME);
    let salvaged = on(disk).salvage(HOME, SAVED).unwrap();
    assert_eq!(files(disk, HOME), before, "salvage changed what it was to save");
    let verified = on(disk).verify(SAVED).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.problems);
    let db = on(disk).open(SAVED).unwrap();
    assert_eq!(db.buckets().len(), salvaged.buckets);
    assert_eq!(db.stats().now, salvaged.newest);
    for dropped in &salvaged.dropped {
        assert!(dropped.path.starts_with(HOME) && !dropped.why.is_empty(), "{dropped:?}");
    }
    (salvaged, db)
}

/// Whether each entry was committed at some time by [`fill`].
fn assert_true(found: &Map, what: &str) {
    for (n, word) in found {
        assert!(*n < 80 && *word == format!("word {n}"), "{what}: {n} is {word}");
    }
}

fn manifest() -> PathBuf {
    Path::new(HOME).join("MANIFEST")
}

fn named(disk: &FaultDisk, end: &str) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.ends_with(end)).map(PathBuf::from).collect()
}

#[test]
fn a_sound_database_is_saved_whole() {
    let disk = crashed();
    let (salvaged, db) = salvage(&disk);
    assert_eq!(salvaged.dropped, []);
    assert!(!salvaged.is_manifest_lost && salvaged.named.is_empty(), "{salvaged:?}");
    assert_eq!(words(&db), filled(0, 80));
    assert_eq!(db.bucket::<u8, u8>("other").unwrap().get(&1).unwrap(), Some(2));
    assert!(db.bucket::<String, u8>("empty").unwrap().is_empty().unwrap());
    // It is a database like any other.
    fill(&db, 80, 90);
    db.checkpoint().unwrap();
    drop(db);
    let db = on(&disk).open(SAVED).unwrap();
    assert_eq!(words(&db), filled(0, 90));
    drop(db);
    let taken = on(&disk).salvage(HOME, SAVED);
    assert!(matches!(taken, Err(Error::NotEmpty { .. })), "{taken:?}");
    let itself = on(&disk).salvage(HOME, HOME);
    assert!(itself.is_err(), "{itself:?}");
    let nothing = on(&disk).salvage("nowhere", "new");
    assert!(matches!(nothing, Err(Error::NotFound { .. })), "{nothing:?}");
    let _writer = on(&disk).open(HOME).unwrap();
    let busy = on(&disk).salvage(HOME, "new");
    assert!(matches!(busy, Err(Error::AlreadyOpen { .. })), "{busy:?}");
    assert!(files(&disk, "new").is_empty(), "nothing was begun");
}

/// A bit of each file, one at a time: only what hangs on it is missing.
#[test]
fn flipped_bits_cost_what_they_hit() {
    let mut random = Rng::new(seed());
    let whole = crashed();
    let (mut same, mut less) = (0, 0);
    for (path, bytes) in files(&whole, HOME).into_iter().filter(|(path, _)| !path.ends_with("LOCK"))
    {
        let step = env("DAMAGE_STEP", 61) as usize;
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 * 8;
        for bit in (random.next() % step as u64..used).step_by(step) {
            let what = format!("bit {bit} of {path}");
            let disk = whole.kill(1);
            let _ = disk.flip_bit(Path::new(&path), bit);
            let (salvaged, db) = salvage(&disk);
            let is_refused = on(&disk).verify(HOME).is_ok_and(|verified| !verified.is_sound());
            assert_eq!(salvaged.is_manifest_lost, path.ends_with("MANIFEST"), "{what}");
            if is_refused {
                assert!(!salvaged.dropped.is_empty(), "{what} is not told");
                assert!(
                    salvaged.dropped.iter().any(|dropped| Path::new(&path) == dropped.path),
                    "{what}: {:?}",
                    salvaged.dropped
                );
            }
            if salvaged.is_manifest_lost {
                continue;
            }
            let found = words(&db);
            assert_true(&found, &what);
            if found == filled(0, 80) {
                same += 1;
                continue;
            }
            less += 1;
            assert!(is_refused || !salvaged.dropped.is_empty(), "{what}: lost without a word");
            if path.ends_with(".tab") {
                // A table is at most 400 bytes; the rest, and the log, are untouched.
                assert!(found.len() > 40, "{what}: {found:?}");
                let missing = filled(0, 80).keys().filter(|key| !found.contains_key(key)).count();
                let told: u64 = salvaged.dropped.iter().map(|dropped| dropped.entries).sum();
                assert!(told as usize >= missing || path_is_delta(&path), "{what}: {told}");
            }
        }
    }
    assert!(same > 100 && less > 100, "{same} {less}");
}

/// The delta of [`crashed`] holds removals: without them entries come back.
fn path_is_delta(path: &str) -> bool {
    path.ends_with("5.tab") || path.ends_with("6.tab")
}

/// A log that is damaged in its middle: everything before is there, what is behind is counted.
#[test]
fn a_damaged_log_is_saved_up_to_the_damage() {
    let disk = FaultDisk::new(5);
    let db = on(&disk).open(HOME).unwrap();
    fill(&db, 0, 20);
    let position = db.stats().log.unwrap().position;
    fill(&db, 20, 40);
    let disk = disk.kill(1);
    let segment = named(&disk, ".log").remove(0);
    let offset = (position.get() & 0xffff_ffff) as usize;
    disk.edit(&segment, |bytes| bytes[offset + 50] ^= 0x10);
    let refused = on(&disk).open(HOME);
    assert!(matches!(refused, Err(Error::Log(_))), "{refused:?}");
    let (salvaged, db) = salvage(&disk);
    assert_eq!(words(&db), filled(0, 20));
    let [dropped] = &salvaged.dropped[..] else { panic!("{:?}", salvaged.dropped) };
    assert_eq!((&dropped.path, dropped.offset), (&segment, offset as u64));
    // Of 24 commits behind, the first is the damaged one.
    assert_eq!(dropped.records, 24, "a damaged payload has a sound header: {dropped:?}");
    assert!(dropped.bytes > 24 * 40, "{dropped:?}");
    assert_eq!(salvaged.commits, 25);
}

/// Without the manifest the tables and the log tell what they know.
#[test]
fn a_lost_manifest_costs_names_and_no_entries() {
    for way in 0..3 {
        let disk = crashed();
        match way {
            0 => disk.delete(&manifest()),
            1 => disk.truncate(&manifest(), 40),
            _ => disk.edit(&manifest(), |bytes| bytes[50] ^= 4),
        }
        let (salvaged, db) = salvage(&disk);
        assert!(salvaged.is_manifest_lost);
        assert_eq!(salvaged.dropped[0].path, manifest());
        // Even a segment that is not needed any more tells how the buckets were called.
        assert!(salvaged.named.is_empty(), "{:?}", salvaged.named);
        assert_eq!(words(&db), filled(0, 80), "way {way}");
    }
}

/// Without manifest and log there are only tables. What they hold is not for sure the newest.
#[test]
fn tables_alone_have_entries_and_no_names() {
    let disk = crashed();
    named(&disk, ".log").iter().chain([&manifest()]).for_each(|path| disk.delete(path));
    let (salvaged, db) = salvage(&disk);
    assert_eq!(salvaged.named, ["salvaged 0", "salvaged 2"], "the third one had no table");
    assert_eq!(entries(&db, "salvaged 0"), filled(0, 60));
    // From now on the bucket has these types.
    db.rename_bucket("salvaged 0", "words").unwrap();
    fill(&db, 60, 90);
    db.checkpoint().unwrap();
    drop(db);
    let db = on(&disk).open(SAVED).unwrap();
    assert_eq!(words(&db), filled(0, 90));
    let other = db.bucket::<u8, u8>("words");
    assert!(matches!(other, Err(Error::TypeMismatch { .. })), "{other:?}");
    assert_eq!(db.bucket::<u8, u8>("salvaged 2").unwrap().get(&1).unwrap(), Some(2));
}

/// While the log still has the creation of a bucket, its name and types come from there.
#[test]
fn a_lost_manifest_before_the_first_checkpoint_costs_nothing() {
    let disk = FaultDisk::new(6);
    let db = on(&disk).open(HOME).unwrap();
    fill(&db, 0, 80);
    db.rename_bucket("words", "phrases").unwrap();
    db.bucket::<u8, u8>("gone").unwrap().insert(1, 1).unwrap();
    db.drop_bucket("gone").unwrap();
    let disk = disk.kill(1);
    disk.delete(&manifest());
    let (salvaged, db) = salvage(&disk);
    assert!(salvaged.named.is_empty(), "{:?}", salvaged.named);
    assert_eq!(entries(&db, "phrases"), filled(0, 80));
    assert_eq!(db.buckets().len(), 1);
}

#[test]
fn tables_that_are_gone_or_in_the_wrong_place_are_told_of() {
    let whole = crashed();
    let tables = named(&whole, ".tab");
    let disk = whole.kill(1);
    disk.delete(&tables[0]);
    let (salvaged, db) = salvage(&disk);
    let [dropped] = &salvaged.dropped[..] else { panic!("{:?}", salvaged.dropped) };
    assert_eq!(dropped.path, tables[0]);
    let found = words(&db);
    assert_true(&found, "a table is gone");
    assert_eq!(found.len() as u64, filled(0, 80).len() as u64 - dropped.entries);
    drop(db);

    let disk = whole.kill(1);
    disk.swap_files(&tables[0], &tables[1]);
    let (salvaged, db) = salvage(&disk);
    let paths: Vec<_> = salvaged.dropped.iter().map(|dropped| dropped.path.clone()).collect();
    assert!(paths.contains(&tables[0]) && paths.contains(&tables[1]), "{paths:?}");
    assert_true(&words(&db), "two tables changed places");
    drop(db);

    // Of another database, in a directory without a manifest.
    let other = FaultDisk::new(8);
    let db = on(&other).seed(70).open(HOME).unwrap();
    db.bucket::<u64, String>("words").unwrap().insert(1, "a lie".into()).unwrap();
    db.checkpoint().unwrap();
    let disk = whole.kill(1);
    let foreign = other.content(&named(&other, ".tab")[0]).unwrap();
    disk.put(&tables[0], &foreign);
    disk.delete(&manifest());
    let (_, db) = salvage(&disk);
    assert_true(&words(&db), "a foreign table");
}

/// A device that cannot read some parts of some files.
#[derive(Clone, Debug)]
struct Scratched {
    disk: FaultDisk,
    /// The part of a file, by its bounds.
    scratch: (PathBuf, u64, u64),
}

#[derive(Debug)]
struct ScratchedFile {
    file: Box<dyn File>,
    scratch: Option<(u64, u64)>,
}

impl Storage for Scratched {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let (scratched, from, to) = &self.scratch;
        let file = self.disk.open(path, access)?;
        let scratch = (path == scratched).then_some((*from, *to));
        Ok(Box::new(ScratchedFile { file, scratch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.disk.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.disk.lock_shared(path)
    }
}

impl File for ScratchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        match self.scratch {
            Some((from, to)) if offset < to && from < end => Err(io::Error::other("a scratch")),
            _ => self.file.read_at(buffer, offset),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn write_back(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.write_back(offset, length)
    }

    fn map(&self, length: usize) -> io::Result<Box<dyn FileMap>> {
        self.file.map(length)
    }
}

/// Where the device gives errors the rest is saved, and the place is told.
#[test]
fn what_the_device_cannot_read_is_left_out() {
    let disk = FaultDisk::new(9);
    let options = on(&disk).table_bytes(1 << 20);
    let db = options.open(HOME).unwrap();
    let bucket = db.bucket::<u64, String>("words").unwrap();
    let value = |n: u64| format!("{n} {}", "v".repeat(500));
    for n in 0..1000 {
        bucket.insert(n, value(n)).unwrap();
    }
    db.checkpoint().unwrap();
    for n in 1000..1020 {
        bucket.insert(n, value(n)).unwrap();
    }
    let disk = disk.kill(1);
    drop((bucket, db));
    let table = named(&disk, ".tab").remove(0);
    let whole: BTreeMap<_, _> = (0..1020).map(|n| (n, value(n))).collect();
    for (path, from, to) in [
        (table.clone(), 200_000, 200_001),
        (table.clone(), 0, 10),
        (table.clone(), disk.content(&table).unwrap().len() as u64 - 3, u64::MAX),
        (manifest(), 0, 4),
    ] {
        let disk = disk.kill(1);
        let device = Scratched { disk: disk.clone(), scratch: (path.clone(), from, to) };
        let options = Options::new().storage(Arc::new(device)).threads(false).segment_bytes(8192);
        let salvaged = options.salvage(HOME, SAVED).unwrap();
        let told = salvaged.dropped.iter().find(|it| it.why.contains("scratch")).unwrap();
        assert_eq!(told.path, path);
        assert!(told.offset <= from && from < told.offset + told.bytes, "{told:?}");
        let db = on(&disk).open(SAVED).unwrap();
        let found = if salvaged.is_manifest_lost { entries(&db, "salvaged 0") } else { words(&db) };
        assert!(found.iter().all(|entry| whole.get(entry.0) == Some(entry.1)));
        // A block is 64 KiB, so a hundred entries and some.
        assert!(found.len() >= 1020 - 2 * 130, "{path:?} {from}: {}", found.len());
        assert_eq!(found.len() < 1020, from == 200_000, "{path:?} {from}: {}", found.len());
        assert!((1000..1020).all(|n| found.contains_key(&n)), "the log is sound");
    }
}

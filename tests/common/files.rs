//! Small durable databases on the simulated disk, for tests of their files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use palisade::testing::FaultDisk;
use palisade::{Database, Options};

pub(crate) type Map = BTreeMap<u64, String>;

/// Where databases are.
pub(crate) const HOME: &str = "db";

/// Options for small files.
pub(crate) fn on(disk: &FaultDisk) -> Options {
    Options::new()
        .storage(Arc::new(disk.clone()))
        .threads(false)
        .segment_bytes(8192)
        .table_bytes(400)
        .checkpoint_bytes_per_second(None)
        .seed(7)
}

/// What is in a bucket.
pub(crate) fn entries(db: &Database, bucket: &str) -> Map {
    let bucket = db.bucket::<u64, String>(bucket).expect("the bucket opens");
    bucket.iter().expect("it is not dropped").collect()
}

pub(crate) fn words(db: &Database) -> Map {
    entries(db, "words")
}

/// Puts entries into "words", and removes some of them, each in a commit of its own.
pub(crate) fn fill(db: &Database, from: u64, to: u64) {
    let bucket = db.bucket::<u64, String>("words").expect("the bucket opens");
    for n in from..to {
        bucket.insert(n, format!("word {n}")).expect("a disk without faults");
        if n % 5 == 4 {
            bucket.remove(&(n - 2)).expect("a disk without faults");
        }
    }
}

/// What [`fill`] leaves. Both bounds are multiples of five.
pub(crate) fn filled(from: u64, to: u64) -> Map {
    (from..to).filter(|n| n % 5 != 2).map(|n| (n, format!("word {n}"))).collect()
}

/// All files of a disk below a directory.
pub(crate) fn files(disk: &FaultDisk, directory: &str) -> BTreeMap<String, Vec<u8>> {
    let within = |path: &String| Path::new(path).starts_with(directory);
    let content = |path: String| {
        let bytes = disk.content(Path::new(&path)).expect("it was listed");
        (path, bytes)
    };
    disk.paths().into_iter().filter(within).map(content).collect()
}

/// A database with ranges, a delta and a log, left by a process that was killed: "words" up to 80,
/// "empty", and "other" with one to two.
pub(crate) fn crashed() -> FaultDisk {
    let disk = FaultDisk::new(1);
    disk.set_write_back(0);
    let db = on(&disk).open(HOME).expect("a new database");
    fill(&db, 0, 40);
    db.checkpoint().expect("a disk without faults");
    db.bucket::<String, u8>("empty").expect("a new bucket");
    fill(&db, 40, 60);
    db.close().expect("a disk without faults");
    // Nobody opens "words", so its part of the log goes to a delta.
    let db = on(&disk).open(HOME).expect("a whole database");
    let other = db.bucket::<u8, u8>("other").expect("a new bucket");
    other.insert(1, 2).expect("a disk without faults");
    db.checkpoint().expect("a disk without faults");
    fill(&db, 60, 80);
    disk.kill(2)
}

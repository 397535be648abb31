//! Commits that need room while a checkpoint is under way: they save between its tables, and what
//! they save is newer than ranges that the same checkpoint has written already.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "common/stamped.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod stamped;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use palisade::{Bucket, Database, Durability, Options};
use stamped::{Backwards, stamped, version_of};

const KEYS: u64 = 1000;
const LENGTH: usize = 2000;
const LIMIT: u64 = 1 << 20;

fn open(path: &Path) -> (Database, Bucket<u64, Vec<u8>>) {
    let options = Options::new().durability(Durability::Relaxed).threads(false);
    let db = options.memory_limit(LIMIT).table_bytes(32 << 10).open(path).unwrap();
    let bucket = db.bucket("values").unwrap();
    (db, bucket)
}

/// Writes all keys once, from the last to the first, unless told to stop.
fn write(bucket: &Bucket<u64, Vec<u8>>, versions: &mut [u64], stops: &AtomicBool) {
    for (key, version) in (0..).zip(versions.iter_mut()).collect::<Vec<_>>().into_iter().rev() {
        if stops.load(Ordering::Relaxed) {
            return;
        }
        *version += 1;
        bucket.set(key, stamped(key, *version, LENGTH)).unwrap();
    }
}

/// A delta that was saved beside a checkpoint went with the next one, although a range that it
/// touches had been written before it, and was not written again: after a reopening the old values
/// were back.
#[test]
fn what_is_saved_beside_a_checkpoint_survives_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut versions = vec![0; usize::try_from(KEYS).unwrap()];
    for round in 0..4 {
        let (db, bucket) = open(folder.path());
        // All ranges are touched, so that the checkpoint has much to do.
        let stops = AtomicBool::new(false);
        write(&bucket, &mut versions, &stops);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !stops.load(Ordering::Relaxed) {
                    write(&bucket, &mut versions, &stops);
                }
            });
            db.checkpoint().unwrap();
            stops.store(true, Ordering::Relaxed);
            writer.join().unwrap();
        });
        db.checkpoint().unwrap();
        drop(bucket);
        db.close().unwrap();
        let (db, bucket) = open(folder.path());
        for (key, &version) in (0..).zip(&versions) {
            let bytes = bucket.get(&key).unwrap().unwrap();
            assert_eq!(version_of(key, &bytes), version, "round {round}, key {key}");
        }
        db.check();
    }
}

/// Values did not leave of keys whose encodings do not sort as the keys do: a save wrote them where
/// they are not looked for.
#[test]
fn values_leave_whatever_the_order_of_the_encoded_keys() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Relaxed).threads(false);
    let db = options.memory_limit(LIMIT).open(folder.path()).unwrap();
    let bucket = db.bucket::<Backwards, Vec<u8>>("values").unwrap();
    for key in 0..2 * KEYS {
        bucket.set(Backwards(key), stamped(key, 1, LENGTH)).unwrap();
    }
    for key in 0..2 * KEYS {
        assert_eq!(version_of(key, &bucket.get(&Backwards(key)).unwrap().unwrap()), 1);
    }
    assert!(db.stats().memory.buckets.total() <= LIMIT);
    db.check();
}

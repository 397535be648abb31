//! What nobody needs leaves by itself: nobody calls a vacuum here, and no thread runs one.
//!
//! Method: what the allocator gave out is compared with what the same entries took before the work,
//! on one thread and on several, with and without a snapshot that was taken before. A snapshot is
//! compared at the end with what it must show.

use std::collections::BTreeMap;
use std::sync::Barrier;

use palisade::{BucketOptions, Snapshot};

use super::rng::{Rng, seed};
use super::{Bucket, Database, in_places, scale, turn};

/// What was let go of and is not freed yet: some thousand pieces, leaves of an index among them.
/// The commits to be tidied up after are fewer.
const WAITING: isize = 1 << 20;

/// What a value takes that was written over another: a place of its own beside the record's.
const MOVED: isize = 48;

fn filled(db: &Database, count: u64, length: usize) -> Bucket<u64, Vec<u8>> {
    let bucket = db.bucket("entries").unwrap();
    for key in 0..count {
        bucket.insert(key, vec![1; length]).unwrap();
    }
    bucket
}

fn shown(snapshot: &Snapshot, bucket: &Bucket<u64, Vec<u8>>) -> BTreeMap<u64, Vec<u8>> {
    snapshot.iter(bucket).unwrap().map(|(key, value)| (*key, value.clone())).collect()
}

fn is_flat(before: isize, allowed: isize, what: &str) {
    let grown = in_places() - before;
    eprintln!("{what}: {grown} bytes more than before, {allowed} allowed");
    assert!(grown <= allowed, "{what}: {grown} bytes more than before, {allowed} allowed");
}

#[test]
fn what_was_overwritten_leaves() {
    let _turn = turn();
    let db = Database::in_memory();
    let count = scale(100_000);
    let bucket = filled(&db, count, 200);
    let (before, entries) = (in_places(), isize::try_from(count).unwrap());
    for key in 0..count {
        bucket.insert(key, vec![2; 200]).unwrap();
    }
    is_flat(before, WAITING + MOVED * entries, "each value overwritten once");
    assert!(db.stats().retained_versions < 200, "{:?}", db.stats());
}

const LARGE: usize = 1 << 20;

/// A large version is cut off by the next commit or two, and more pass until nobody can hold it.
const LARGE_WAITING: isize = 8 << 20;

/// What waits to be freed is bounded by its bytes, and not only by how many things it is.
#[test]
fn large_values_that_were_overwritten_leave_soon() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 2, LARGE);
    let before = in_places();
    let (mut grown, mut garbage) = (0, 0);
    for at in 0..300 {
        bucket.insert(at % 2, vec![2; LARGE]).unwrap();
        grown = grown.max(in_places() - before);
        garbage = garbage.max(db.stats().memory.garbage);
    }
    eprintln!("{grown} bytes more than before, {garbage} known to wait");
    assert!(grown <= LARGE_WAITING, "{grown} bytes more than before");
    assert!(garbage > LARGE as u64, "what waits is measured: {garbage}");
}

#[test]
fn large_values_that_were_removed_leave_soon() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 2, 10);
    let before = in_places();
    let mut grown = 0;
    for key in 2..300 {
        bucket.insert(key, vec![2; LARGE]).unwrap();
        bucket.remove(&key).unwrap();
        grown = grown.max(in_places() - before);
    }
    eprintln!("{grown} bytes more than before");
    assert!(grown <= LARGE_WAITING, "{grown} bytes more than before");
}

/// What a reader held up is made good for by whoever writes after it.
#[test]
fn large_values_that_a_reader_held_up_leave_after_it() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 2, LARGE);
    let before = in_places();
    let (reading, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let read = |_: &Vec<u8>| (reading.wait(), done.wait());
            assert!(bucket.get_with(&0, read).unwrap().is_some());
        });
        reading.wait();
        for _ in 0..200 {
            bucket.insert(1, vec![2; LARGE]).unwrap();
        }
        assert!(in_places() - before > 2 * LARGE_WAITING, "the reader holds it up");
        done.wait();
    });
    for _ in 0..300 {
        bucket.insert(1, vec![2; LARGE]).unwrap();
    }
    is_flat(before, LARGE_WAITING, "large values behind a reader");
}

#[test]
fn what_several_threads_overwrote_leaves() {
    let _turn = turn();
    let db = Database::in_memory();
    let count = scale(200_000);
    let bucket = filled(&db, count, 200);
    let (before, entries) = (in_places(), isize::try_from(count).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (db, bucket) = (&db, &bucket);
            scope.spawn(move || {
                for key in (thread..count).step_by(4) {
                    let write = db.write(|tx| {
                        let old = tx.get(bucket, &((key * 7) % count))?.map(Vec::len);
                        tx.insert(bucket, key, vec![2; old.unwrap_or(0).max(200)])?;
                        Ok(())
                    });
                    write.unwrap();
                }
            });
        }
    });
    // A commit that was held up by the scheduler may hold up all that came after it.
    for _ in 0..10_000 {
        bucket.insert(0, vec![2; 200]).unwrap();
    }
    is_flat(before, 4 * WAITING + MOVED * entries, "each value overwritten once, by four threads");
}

/// Keys come at one end and go at the other.
fn run_queue(bucket: &Bucket<u64, Vec<u8>>, from: u64, to: u64) {
    for key in from..to {
        bucket.insert(key, vec![3; 20]).unwrap();
        let first = bucket.pop_first().unwrap();
        assert_eq!(first.map(|it| it.0), Some(key - 100));
    }
}

#[test]
fn what_a_queue_removed_leaves() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 100, 20);
    let before = in_places();
    run_queue(&bucket, 100, scale(200_000));
    is_flat(before, WAITING, "a queue of a hundred");
}

#[test]
fn what_was_removed_here_and_there_leaves() {
    let _turn = turn();
    let db = Database::in_memory();
    let before = in_places();
    let count = scale(100_000);
    let bucket = filled(&db, count, 20);
    let mut rng = Rng::new(seed());
    let mut keys: Vec<u64> = (0..count).collect();
    for at in (1..keys.len()).rev() {
        keys.swap(at, usize::try_from(rng.below(u32::try_from(at + 1).unwrap())).unwrap());
    }
    for key in &keys {
        assert!(bucket.remove(key).unwrap().is_some());
    }
    drop(keys);
    is_flat(before, WAITING, "everything removed");
    assert_eq!(bucket.len().unwrap(), 0);
}

/// A snapshot keeps what it can see, and nothing of what came after it.
#[test]
fn snapshot_keeps_what_it_sees_and_no_more() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 100, 20);
    let snapshot = db.snapshot();
    let expected = shown(&snapshot, &bucket);
    let before = in_places();
    run_queue(&bucket, 100, scale(200_000));
    is_flat(before, WAITING, "a queue of a hundred under a snapshot");
    for key in 0..scale(100_000) {
        bucket.insert(key % 1000 + 5_000_000, vec![4; 20]).unwrap();
        bucket.remove(&((key + 500) % 1000 + 5_000_000)).unwrap();
    }
    is_flat(before, WAITING + 200_000, "a thousand keys that come and go under a snapshot");
    assert_eq!(shown(&snapshot, &bucket), expected);
}

/// The same of a cache, whose entries leave by themselves.
#[test]
fn snapshot_keeps_nothing_of_what_leaves_a_cache_later() {
    let _turn = turn();
    let db = Database::in_memory();
    let options = BucketOptions::new().memory_limit(160_000).evict(palisade::EvictionPolicy::Lru);
    let cache: Bucket<u64, u64> = db.bucket_with("cache", options).unwrap();
    for key in 0..5000 {
        cache.insert(key, key).unwrap();
    }
    let snapshot = db.snapshot();
    let expected: Vec<_> = snapshot.iter(&cache).unwrap().map(|(k, v)| (*k, *v)).collect();
    assert!(!expected.is_empty());
    let before = in_places();
    for key in 5000..scale(200_000) {
        cache.insert(key, key).unwrap();
    }
    // All that it sees has left since, and stays for it.
    is_flat(before, WAITING + 160_000, "a cache under a snapshot");
    let found: Vec<_> = snapshot.iter(&cache).unwrap().map(|(k, v)| (*k, *v)).collect();
    assert_eq!(found, expected);
}

/// What was kept for a snapshot leaves when it is dropped, as others commit.
#[test]
fn what_a_snapshot_kept_leaves_after_it() {
    let _turn = turn();
    let db = Database::in_memory();
    let count = scale(100_000);
    let bucket = filled(&db, count, 200);
    let (before, entries) = (in_places(), isize::try_from(count).unwrap());
    let snapshot = db.snapshot();
    for key in 0..count {
        bucket.insert(key, vec![2; 200]).unwrap();
    }
    assert!(in_places() - before > isize::try_from(count * 200).unwrap());
    drop(snapshot);
    for _ in 0..count {
        bucket.insert(7, vec![3; 200]).unwrap();
    }
    let what = "each value overwritten once under a snapshot that ended";
    is_flat(before, WAITING + MOVED * entries, what);
}

/// So does what was kept for a transaction, though it may commit and so is compared with others.
#[test]
fn what_a_transaction_kept_leaves_after_it() {
    let _turn = turn();
    let db = Database::in_memory();
    let bucket = filled(&db, 100, 20);
    let before = in_places();
    let open = db.begin();
    assert!(open.get(&bucket, &50).unwrap().is_some());
    run_queue(&bucket, 100, scale(10_000));
    drop(open);
    run_queue(&bucket, scale(10_000), scale(20_000));
    is_flat(before, WAITING, "a queue of a hundred after a transaction");
}

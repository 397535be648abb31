//! Memory: an empty database is small, what is dropped is freed, and nothing that is read or
//! overwritten piles up.
//!
//! Method: an allocator that counts the bytes in use; the tests take turns, so that the figures
//! are theirs. The proofs that need no allocator are in `regressions`, the long ones in `churn` and
//! `steady`.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use palisade::{Bucket, BucketOptions, Database, EvictionPolicy};

#[path = "memory/churn.rs"]
mod churn;
#[path = "memory/held_up.rs"]
mod held_up;
#[path = "memory/leaving.rs"]
mod leaving;
#[path = "common/policies.rs"]
mod policies;
#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/rng.rs"]
mod rng;
#[path = "memory/steady.rs"]
mod steady;

struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);
/// What the allocator adds to what it is asked for: eight bytes, rounded up to 16, 32 at least.
static OVERHEAD: AtomicIsize = AtomicIsize::new(0);

fn overhead(bytes: usize) -> isize {
    let chunk = (bytes + 8).next_multiple_of(16).max(32);
    isize::try_from(chunk - bytes).expect("fits")
}

fn grow(bytes: usize) {
    IN_USE.fetch_add(isize::try_from(bytes).expect("fits"), Ordering::Relaxed);
    OVERHEAD.fetch_add(overhead(bytes), Ordering::Relaxed);
}

fn shrink(bytes: usize) {
    IN_USE.fetch_sub(isize::try_from(bytes).expect("fits"), Ordering::Relaxed);
    OVERHEAD.fetch_sub(overhead(bytes), Ordering::Relaxed);
}

// SAFETY: every call goes to the system allocator with the same arguments; counting allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: `ptr` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_use() -> isize {
    IN_USE.load(Ordering::Relaxed)
}

/// As [`in_use`], but of the pages with the engine's small things only the places that are taken:
/// what is scattered over many pages holds them all, and others will fill them.
fn in_places() -> isize {
    let (held, out) = palisade::testing::slab_usage();
    in_use() - isize::try_from(held - out).expect("fits")
}

/// Bytes that the system's allocator spends: each piece has a header and is rounded up.
fn spent() -> isize {
    in_use() + OVERHEAD.load(Ordering::Relaxed)
}

/// What other threads of the test harness may allocate, or free, meanwhile.
const SLACK: isize = 16 << 10;

fn scale(full: u64) -> u64 {
    if cfg!(debug_assertions) { full / 10 } else { full }
}

#[test]
fn an_empty_database_costs_less_than_64_kib() {
    let _turn = turn();
    let before = in_use();
    let db = Database::in_memory();
    let numbers: Bucket<u64, u64> = db.bucket("numbers").unwrap();
    let used = in_use() - before;
    eprintln!("an empty database with a bucket: {used} bytes");
    assert!(used < 64 << 10, "{used} bytes");
    drop((db, numbers));
}

/// F16: dropping a database leaked all keys and values.
#[test]
fn f16_dropping_a_database_frees_everything() {
    let _turn = turn();
    let mut left = Vec::new();
    let before = in_use();
    for round in 0..4 {
        let db = Database::in_memory();
        let numbers: Bucket<u64, String> = db.bucket("numbers").unwrap();
        for n in 0..scale(40_000) {
            numbers.insert(n, format!("value {n} of round {round}")).unwrap();
            if n % 3 == 0 {
                numbers.remove(&(n / 2)).unwrap();
            }
        }
        let open = db.begin();
        open.insert(&numbers, 1, "never committed".into()).unwrap();
        drop(open);
        let held = db.snapshot();
        drop((db, numbers));
        drop(held);
        left.push(in_use() - before);
    }
    assert!(left.iter().all(|bytes| *bytes < SLACK), "{left:?} bytes left after each round");
}

/// F2: one hot key that is updated for ever stays flat without any vacuum.
#[test]
fn f2_a_hot_key_stays_flat() {
    let _turn = turn();
    let db = Database::in_memory();
    let numbers: Bucket<u64, u64> = db.bucket("numbers").unwrap();
    let mut figures = Vec::new();
    for _ in 0..4 {
        for n in 0..scale(100_000) {
            numbers.insert(7, n).unwrap();
        }
        figures.push(in_use());
    }
    let (first, last) = (figures[0], figures[3]);
    assert!(last - first < SLACK, "grows: {figures:?}");
}

/// F15: every read left a status entry behind until the next vacuum.
#[test]
fn f15_reads_leave_nothing_behind() {
    let _turn = turn();
    let db = Database::in_memory();
    let numbers: Bucket<u64, u64> = db.bucket("numbers").unwrap();
    for n in 0..1_000 {
        numbers.insert(n, n).unwrap();
    }
    let read = |count: u64| {
        for n in 0..count {
            assert_eq!(numbers.get(&(n % 1_000)).unwrap(), Some(n % 1_000));
            if n % 16 == 0 {
                let snap = db.snapshot();
                assert!(snap.contains_key(&numbers, &(n % 1_000)).unwrap());
                let tx = db.begin();
                assert_eq!(tx.get(&numbers, &(n % 1_000)).unwrap(), Some(&(n % 1_000)));
                tx.commit().unwrap();
            }
        }
        in_use()
    };
    let first = read(scale(50_000));
    let last = read(scale(200_000));
    assert!(last - first < SLACK, "from {first} to {last} bytes");
}

/// Keys that come and go leave no tombstone that vacuum does not take.
#[test]
fn keys_that_come_and_go_are_given_back() {
    let _turn = turn();
    let db = Database::in_memory();
    let texts: Bucket<String, String> = db.bucket("texts").unwrap();
    let mut figures = Vec::new();
    for round in 0..5 {
        for n in 0..scale(20_000) {
            texts.insert(format!("{round} {n}"), "x".repeat(20)).unwrap();
        }
        texts.clear().unwrap();
        for _ in 0..8 {
            db.vacuum(usize::MAX);
        }
        figures.push(in_use());
    }
    assert!(texts.is_empty().unwrap());
    assert!(figures[4] - figures[1] < 4 * SLACK, "grows: {figures:?}");
}

/// Versions that a snapshot had kept back were counted for ever when their bucket was dropped, and
/// what a cache remembers of those that left was kept with the empty bucket.
#[test]
fn what_a_dropped_bucket_held_is_counted_no_more() {
    let _turn = turn();
    let db = Database::in_memory();
    let options = BucketOptions::new().memory_limit(100_000).evict(EvictionPolicy::S3Fifo);
    let cache = db.volatile_bucket_with::<u64, u64>("cache", options).unwrap();
    let empty = db.stats().memory.eviction;
    for key in 0..5_000 {
        cache.insert(key, key).unwrap();
    }
    let snapshot = db.snapshot();
    for key in 4_900..5_000 {
        cache.insert(key, key + 1).unwrap();
    }
    let (kept, remembered) = (db.stats().retained_versions, db.stats().memory.eviction);
    assert!(kept >= 100 && remembered > empty, "{kept} versions, {remembered} bytes");
    drop(cache);
    assert!(db.drop_bucket("cache").unwrap());
    drop(snapshot);
    for _ in 0..4 {
        db.vacuum(usize::MAX);
    }
    let stats = db.stats();
    assert_eq!((stats.retained_versions, stats.records), (0, 0), "{stats:?}");
    assert_eq!((stats.memory.buckets.total(), stats.memory.eviction), (0, empty), "{stats:?}");
}

#[test]
fn a_large_value_is_held_once() {
    let _turn = turn();
    let db = Database::in_memory();
    let blobs: Bucket<u64, Vec<u8>> = db.bucket("blobs").unwrap();
    let before = in_places();
    blobs.insert(1, vec![7; 8 << 20]).unwrap();
    let used = in_places() - before;
    assert!((used - (8 << 20)).abs() < SLACK, "{used} bytes");
    db.read(|snap| assert_eq!(snap.get(&blobs, &1).unwrap().map(Vec::len), Some(8 << 20)));
}

/// Fills a bucket and compares what the statistics say of it with what the allocator spent.
fn compare_with_allocator<K, V>(name: &str, entries: u64, entry: impl Fn(u64) -> (K, V))
where
    K: palisade::Key + palisade::Encode + palisade::Decode,
    V: palisade::Value + palisade::Encode + palisade::Decode + Clone,
{
    let db = Database::in_memory();
    let bucket: Bucket<K, V> = db.bucket("entries").unwrap();
    let before = spent();
    for n in 0..entries {
        let (key, value) = entry(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        bucket.insert(key, value).unwrap();
    }
    db.vacuum(usize::MAX);
    let spent = u64::try_from(spent() - before).unwrap();
    let counted = db.stats().memory.buckets.total();
    eprintln!("{name}: {counted} bytes counted, {spent} spent");
    assert!(counted * 10 >= spent * 9, "{name}: {counted} counted, {spent} spent");
    assert!(counted * 10 <= spent * 11, "{name}: {counted} counted, {spent} spent");
}

/// What the statistics say of the entries is what the allocator gave out for them, within a tenth:
/// the counting allocator adds what `malloc` puts around each piece.
#[test]
fn counted_bytes_are_those_of_the_allocator() {
    let _turn = turn();
    let entries = scale(400_000);
    compare_with_allocator("u64 to u64", entries, |n| (n, n));
    compare_with_allocator("u64 to String", entries, |n| (n, format!("value {n}")));
    let bytes = |n| (format!("key {n:020}"), vec![7_u8; 100]);
    compare_with_allocator("String to bytes", entries / 2, bytes);
    compare_with_allocator("u64 to 4 KiB", entries / 40, |n| (n, vec![7_u8; 4096]));
}

//! A window that is given up in the middle of a commit, and a commit that the log goes on to before
//! it is settled.
//!
//! Method: where a commit measures values, others do meanwhile what they may.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use palisade::{Bucket, BucketOptions, ConflictKind, Database, Error, Options};

type Meanwhile = Box<dyn FnOnce()>;

thread_local! {
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

fn short_of_memory(bytes: usize) -> Database {
    Options::new().retained_bytes_max(bytes).in_memory()
}

/// A transaction has found its window there and is taking what it writes, record by record; then
/// the window is given up, and records that it is about to take leave.
fn commit_whose_records_leave() -> Error {
    const KEYS: u64 = 20;
    const OLD: u64 = 1;
    let db = short_of_memory(10_000);
    // What is overwritten is measured when its record is taken.
    let measure = |value: &u64| {
        if *value == OLD
            && let Some(meanwhile) = MEANWHILE.take()
        {
            meanwhile();
        }
        8
    };
    // With a limit a commit ends its reads before it makes room.
    let limited = BucketOptions::new().memory_limit(1 << 30).measure_values(measure);
    let bucket: Bucket<u64, u64> = db.volatile_bucket_with("slow", limited).unwrap();
    let other: Bucket<u64, u64> = db.volatile_bucket("other").unwrap();
    db.write(|tx| (0..KEYS).try_for_each(|key| tx.set(&bucket, key, OLD).map(drop))).unwrap();
    let tx = db.begin();
    (0..=KEYS).for_each(|key| tx.set(&bucket, key, 2).unwrap());
    // Records are taken in the order of their addresses, and lie in the order of keys, or against
    // it: one of those that stay comes first.
    for key in KEYS / 2 - 2..KEYS / 2 + 2 {
        assert_eq!(bucket.remove(&key).unwrap(), Some(OLD));
    }
    MEANWHILE.set(Some(Box::new(move || {
        for key in 0..1000 {
            other.insert(key, key).unwrap();
        }
    })));
    let refused = tx.commit().unwrap_err();
    assert!(MEANWHILE.take().is_none(), "values are measured when records are taken");
    for key in 0..=KEYS {
        let stays = key < KEYS && !(KEYS / 2 - 2..KEYS / 2 + 2).contains(&key);
        assert_eq!(bucket.get(&key).unwrap(), stays.then_some(OLD), "nothing of it was written");
    }
    db.check();
    refused
}

#[test]
fn records_that_leave_within_a_commit_are_not_waited_for() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || done.send(commit_whose_records_leave()));
    let error = is_done.recv_timeout(Duration::from_secs(30)).expect("a commit ends");
    let Error::Conflict(evidence) = &error else { panic!("{error:?}") };
    assert_eq!(evidence.kind(), ConflictKind::WindowLost, "{error}");
}

/// Values that were made and not dropped.
static ALIVE: AtomicIsize = AtomicIsize::new(0);

struct Counted;

impl Counted {
    fn new() -> Self {
        ALIVE.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
    }
}

/// Others tidy up after a removal while it measures what it cuts off its chains.
#[test]
fn removal_is_settled_before_its_records_die() {
    const KEYS: usize = 100;
    let db = short_of_memory(10_000);
    let other: Bucket<u64, u64> = db.volatile_bucket("other").unwrap();
    let others_commit = || {
        for key in 0..1000 {
            other.insert(key, key).unwrap();
        }
    };
    // Measured once before the commit point, and again when its value is cut off.
    let (left, turn) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(Barrier::new(2)));
    let (count, meets) = (Arc::clone(&left), Arc::clone(&turn));
    let measure = move |_: &Counted| {
        if count.fetch_sub(1, Relaxed) == 0 {
            meets.wait();
            meets.wait();
        }
        8
    };
    let options = BucketOptions::new().measure_values(measure);
    let bucket: Bucket<usize, Counted> = db.volatile_bucket_with("counted", options).unwrap();
    // The first value of each key lives in its record, and goes when the key is removed.
    for _ in 0..2 {
        db.write(|tx| (0..KEYS).try_for_each(|key| tx.set(&bucket, key, Counted::new()).map(drop)))
            .unwrap();
    }
    others_commit();
    thread::scope(|scope| {
        scope.spawn(|| {
            turn.wait();
            others_commit();
            turn.wait();
        });
        let tx = db.begin();
        for key in 0..KEYS {
            tx.remove(&bucket, &key).unwrap();
        }
        left.store(KEYS, Relaxed);
        tx.commit().unwrap();
    });
    assert!(bucket.is_empty().unwrap());
    db.check();
    drop((bucket, other, db));
    assert_eq!(ALIVE.load(Relaxed), 0);
}

//! Threads share caches: limits hold, counters are exact, and everybody gets on.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use super::*;

fn insert_unless_full(cache: &Bucket<u64, String>, key: u64) {
    unless_full(cache.insert(key, format!("{key}")));
}

#[test]
fn threads_share_a_tight_cache() {
    for policy in POLICIES {
        let db = Database::in_memory();
        let cache = cache(&db, policy, 60_000);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (cache, db) = (&cache, &db);
                scope.spawn(move || {
                    for step in 0..3000_u64 {
                        let key = (step * 31 + thread * 17) % 1500;
                        match step % 5 {
                            0 => insert_unless_full(cache, key),
                            1 => drop(cache.remove(&key).unwrap()),
                            2 => drop(cache.evict(&key).unwrap()),
                            3 => {
                                let snapshot = db.snapshot();
                                let first = snapshot.get(cache, &key).unwrap().cloned();
                                insert_unless_full(cache, key + 1);
                                let again = snapshot.get(cache, &key).unwrap().cloned();
                                assert_eq!(first, again);
                            }
                            _ => {
                                if let Some(value) = cache.get(&key).unwrap() {
                                    assert_eq!(value, format!("{key}"));
                                }
                            }
                        }
                    }
                });
            }
        });
        db.check();
        let memory = used(&db, "cache");
        assert!(limited(&memory) <= 60_000, "{policy:?}: {memory:?}");
        cache.clear().unwrap();
        for _ in 0..8 {
            db.vacuum(usize::MAX);
        }
        assert_eq!(used(&db, "cache").total(), 0, "{policy:?}");
    }
}

/// A vacuum took the record of a new key away before the version with the deadline was on it, and
/// the commit waited for ever that somebody else would put a new one into its place.
#[test]
fn new_entries_with_a_time_to_live_beside_vacuums_are_committed() {
    const COUNT: u64 = 40_000;
    let db = Database::in_memory();
    let bucket =
        db.volatile_bucket_with::<u64, u64>("sessions", BucketOptions::new().expires()).unwrap();
    let (vacuums, inserts) = (db.clone(), bucket.clone());
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let vacuum = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            vacuums.vacuum(usize::MAX);
        }
    });
    let (ended, end) = mpsc::channel();
    let insert = thread::spawn(move || {
        for key in 0..COUNT {
            inserts.insert_for(key, key, Duration::from_secs(3600)).unwrap();
            if key >= 20 {
                assert_eq!(inserts.remove(&(key - 20)).unwrap(), Some(key - 20));
            }
        }
        ended.send(()).unwrap();
    });
    let outcome = end.recv_timeout(Duration::from_secs(60));
    assert_ne!(outcome, Err(RecvTimeoutError::Timeout), "it hangs");
    insert.join().unwrap();
    done.store(true, Ordering::Relaxed);
    vacuum.join().unwrap();
    assert_eq!(bucket.len().unwrap(), 20);
    db.check();
}

/// Who makes room at the limit of the database asks the largest cache first. What was asked while
/// sorting changed meanwhile, and the sort panicked over that.
#[test]
fn threads_make_room_in_many_caches_of_one_database() {
    let db = Options::new().memory_limit(400_000).in_memory();
    let caches: Vec<Bucket<u64, String>> = (0..64)
        .map(|number| {
            let options = BucketOptions::new().evict(POLICIES[number % POLICIES.len()]);
            db.volatile_bucket_with(&format!("cache {number}"), options).unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for number in 0..8 {
            let caches = &caches;
            scope.spawn(move || {
                for step in 0..8_000 {
                    let at = (step * 31 + number * 7) % caches.len();
                    let key = (step * 8 + number) as u64;
                    caches[at].insert(key, "x".repeat(40)).unwrap();
                }
            });
        }
    });
    db.check();
    let memory = db.stats().memory.buckets;
    assert!(limited(&memory) <= 400_000, "{memory:?}");
}

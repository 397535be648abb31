//! Limits hold, caches evict, and nobody's snapshot or transaction notices.
//!
//! Method: small limits and many entries, under every policy; what is counted is compared with a
//! walk over everything, what is read with what a snapshot or a transaction must see.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use palisade::{
    Bucket, BucketOptions, Database, Departure, Error, EvictionPolicy, Isolation, Options,
    TransactionOptions,
};

#[path = "eviction/histories.rs"]
mod histories;
#[path = "eviction/open.rs"]
mod open;
#[path = "common/policies.rs"]
mod policies;
#[path = "eviction/threads.rs"]
mod threads;

use policies::POLICIES;

fn cache(db: &Database, policy: EvictionPolicy, limit: u64) -> Bucket<u64, String> {
    let options = BucketOptions::new().memory_limit(limit).evict(policy);
    db.volatile_bucket_with("cache", options).unwrap()
}

fn used(db: &Database, bucket: &str) -> palisade::BucketMemory {
    db.buckets().into_iter().find(|info| &*info.name == bucket).unwrap().memory
}

/// What counts for a limit.
fn limited(memory: &palisade::BucketMemory) -> u64 {
    memory.keys + memory.live + memory.retained
}

#[test]
fn limit_holds_under_every_policy() {
    for policy in POLICIES {
        let db = Database::in_memory();
        let limit = 200_000;
        let cache = cache(&db, policy, limit);
        for key in 0..20_000_u64 {
            cache.insert(key, format!("value {key}")).unwrap();
            if key % 100 == 0 {
                let memory = used(&db, "cache");
                assert!(limited(&memory) <= limit, "{policy:?}: {memory:?} at {key}");
                // What is swept late is bounded, too.
                assert!(memory.dead <= limit / 8, "{policy:?}: {memory:?} at {key}");
            }
        }
        let left = cache.len().unwrap();
        assert!((500..2500).contains(&left), "{policy:?}: {left} are left");
        assert!(db.stats().departures >= 17_000, "{policy:?}");
        db.check();
    }
}

#[test]
fn counters_return_to_nothing_when_all_is_removed() {
    for policy in POLICIES {
        let db = Database::in_memory();
        let cache = cache(&db, policy, 50_000);
        for round in 0..3 {
            for key in 0..3000_u64 {
                cache.insert(key * 7 % 3001, "x".repeat((key % 40) as usize)).unwrap();
            }
            for key in 0..3001_u64 {
                if key % 3 != round {
                    cache.remove(&key).unwrap();
                }
            }
        }
        cache.clear().unwrap();
        for _ in 0..8 {
            db.vacuum(usize::MAX);
        }
        let memory = used(&db, "cache");
        assert_eq!(memory.total(), 0, "{policy:?}: {memory:?}");
        assert_eq!(db.stats().records, 0, "{policy:?}");
    }
}

#[test]
fn snapshot_goes_on_reading_what_was_evicted() {
    for policy in POLICIES {
        let db = Database::in_memory();
        let cache = cache(&db, policy, 1 << 20);
        for key in 0..100 {
            cache.insert(key, format!("value {key}")).unwrap();
        }
        let snapshot = db.snapshot();
        for key in 0..100 {
            assert!(cache.evict(&key).unwrap());
            assert_eq!(cache.get(&key).unwrap(), None);
        }
        db.vacuum(usize::MAX);
        for key in 0..100 {
            let value = snapshot.get(&cache, &key).unwrap();
            assert_eq!(value, Some(&format!("value {key}")), "{policy:?}");
        }
        assert_eq!(snapshot.len(&cache).unwrap(), 100);
        drop(snapshot);
        for _ in 0..8 {
            db.vacuum(usize::MAX);
        }
        assert_eq!(used(&db, "cache").total(), 0, "{policy:?}");
    }
}

#[test]
fn transaction_is_not_refused_because_an_entry_left() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let db = Database::in_memory();
        let cache = cache(&db, EvictionPolicy::Lru, 1 << 20);
        let other = db.bucket::<u64, u64>("other").unwrap();
        cache.insert(1, "one".into()).unwrap();
        cache.insert(2, "two".into()).unwrap();
        let options = TransactionOptions::new().isolation(isolation);
        let tx = db.begin_with(&options);
        assert_eq!(tx.get(&cache, &1).unwrap().map(String::as_str), Some("one"));
        tx.insert(&other, 1, 1).unwrap();
        tx.insert(&cache, 2, "two again".into()).unwrap();
        assert!(cache.evict(&1).unwrap() && cache.evict(&2).unwrap());
        assert_eq!(tx.get(&cache, &1).unwrap().map(String::as_str), Some("one"));
        tx.commit().unwrap();
        assert_eq!(cache.get(&1).unwrap(), None);
        assert_eq!(cache.get(&2).unwrap().as_deref(), Some("two again"));
    }
}

#[test]
fn first_committer_still_wins_behind_an_eviction() {
    let db = Database::in_memory();
    let cache = cache(&db, EvictionPolicy::Lru, 1 << 20);
    cache.insert(1, "one".into()).unwrap();
    let tx = db.begin();
    tx.insert(&cache, 1, "mine".into()).unwrap();
    cache.insert(1, "theirs".into()).unwrap();
    assert!(cache.evict(&1).unwrap());
    db.vacuum(usize::MAX);
    assert!(matches!(tx.commit(), Err(Error::Conflict(_))));
    assert_eq!(cache.get(&1).unwrap(), None);
}

#[test]
fn reader_of_an_evicted_key_is_protected_from_its_return() {
    let db = Database::in_memory();
    let cache = cache(&db, EvictionPolicy::Lru, 1 << 20);
    let other = db.bucket::<u64, u64>("other").unwrap();
    cache.insert(1, "one".into()).unwrap();
    other.insert(1, 0).unwrap();
    cache.evict(&1).unwrap();
    // Two that each read what the other writes: one of them is refused, although one of the reads
    // found nothing.
    let (a, b) = (db.begin(), db.begin());
    assert_eq!(a.get(&cache, &1).unwrap(), None);
    assert_eq!(b.get(&other, &1).unwrap(), Some(&0));
    a.insert(&other, 1, 1).unwrap();
    b.insert(&cache, 1, "back".into()).unwrap();
    a.commit().unwrap();
    assert!(matches!(b.commit(), Err(Error::Conflict(_))));
}

#[test]
fn full_bucket_refuses_before_anything_takes_effect() {
    let db = Database::in_memory();
    let options = BucketOptions::new().memory_limit(20_000);
    let data = db.bucket_with::<u64, String>("data", options).unwrap();
    let mut key = 0_u64;
    let (needed, in_use, limit) = loop {
        match data.insert(key, "x".repeat(100)) {
            Ok(_) => key += 1,
            Err(Error::MemoryLimit { bucket, needed, used, limit }) => {
                assert_eq!(bucket.as_deref(), Some("data"));
                break (needed, used, limit);
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(in_use + needed > limit && limit == 20_000 && key > 50, "{needed} {in_use} {key}");
    assert_eq!(data.get(&key).unwrap(), None, "F29: a refused write takes no effect");
    assert_eq!(data.len().unwrap() as u64, key, "nothing left by itself");
    // Removing works, and makes room.
    for gone in 0..10 {
        data.remove(&gone).unwrap();
    }
    db.vacuum(usize::MAX);
    db.vacuum(usize::MAX);
    data.insert(key, "y".repeat(100)).unwrap();
}

#[test]
fn limit_of_the_database_is_shared() {
    let db = Options::new().memory_limit(300_000).in_memory();
    let options = BucketOptions::new().evict(EvictionPolicy::S3Fifo);
    let cache = db.volatile_bucket_with::<u64, Vec<u8>>("cache", options).unwrap();
    let data = db.bucket::<u64, Vec<u8>>("data").unwrap();
    for key in 0..2000 {
        cache.insert(key, vec![1; 100]).unwrap();
    }
    let before = cache.len().unwrap();
    for key in 0..1000 {
        data.insert(key, vec![2; 100]).unwrap();
    }
    assert_eq!(data.len().unwrap(), 1000, "data stays, and the cache gives way");
    let after = cache.len().unwrap();
    assert!(after < before / 2, "{before} before, {after} after");
    let memory = db.stats().memory.buckets;
    assert!(limited(&memory) <= 300_000, "{memory:?}");
    let refused = (1000..5000).find(|&key| data.insert(key, vec![3; 100]).is_err());
    assert!(refused.is_some(), "without anything to evict the write is refused");
    assert!(cache.is_empty().unwrap());
}

#[test]
fn limit_holds_when_entries_that_left_come_back() {
    let limit = 60_000;
    for policy in POLICIES {
        let db = Database::in_memory();
        let cache = cache(&db, policy, limit);
        for key in 0..50 {
            cache.insert(key, "first".into()).unwrap();
        }
        // It overwrites entries that it sees, and that have left when it commits.
        let tx = db.begin();
        for key in 0..50 {
            assert_eq!(tx.insert(&cache, key, "again".into()).unwrap().unwrap(), "first");
        }
        for key in 0..50 {
            assert!(cache.evict(&key).unwrap());
        }
        for key in 100..1000 {
            cache.insert(key, "another".into()).unwrap();
        }
        tx.commit().unwrap();
        let memory = used(&db, "cache");
        assert!(limited(&memory) <= limit, "{policy:?}: {memory:?}");
        db.check();
    }
}

#[test]
fn pinned_entries_stay() {
    for policy in POLICIES {
        let db = Database::in_memory();
        let cache = cache(&db, policy, 100_000);
        for key in 0..50 {
            cache.insert(key, "pinned".into()).unwrap();
            assert!(cache.pin(&key).unwrap());
        }
        for key in 50..10_000 {
            cache.insert(key, "passing".into()).unwrap();
        }
        for key in 0..50 {
            assert_eq!(cache.get(&key).unwrap().as_deref(), Some("pinned"), "{policy:?}");
            assert!(cache.unpin(&key).unwrap());
        }
        for key in 10_000..40_000 {
            cache.insert(key, "passing".into()).unwrap();
        }
        // The other policies may prefer what was read before to what passes.
        if matches!(policy, EvictionPolicy::Lru | EvictionPolicy::Random) {
            let left = (0..50).filter(|key| cache.contains_key(key).unwrap()).count();
            assert!(left < 10, "{policy:?}: {left} of the unpinned are left");
        }
    }
}

#[test]
fn expired_entries_cannot_be_read_and_leave() {
    let db = Database::in_memory();
    let ttl = Duration::from_millis(80);
    let told = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&told);
    let options = BucketOptions::new().time_to_live(ttl).on_departure(
        move |key: &u64, value: &String, cause| {
            assert_eq!((format!("{key}"), cause), (value.clone(), Departure::Expired));
            seen.fetch_add(1, Ordering::Relaxed);
        },
    );
    let bucket = db.volatile_bucket_with("sessions", options).unwrap();
    let begun = Instant::now();
    for key in 0..100_u64 {
        bucket.insert(key, key.to_string()).unwrap();
    }
    let inserted = Instant::now();
    let old = db.snapshot();
    let was_there = old.len(&bucket).unwrap();
    // Only if the machine did not stop us for longer than entries live.
    if begun.elapsed() < ttl / 2 {
        assert_eq!(was_there, 100);
    }
    while inserted.elapsed() < ttl {
        std::thread::yield_now();
    }
    assert_eq!(bucket.get(&5).unwrap(), None, "F27: TTL is honoured on read");
    assert_eq!(db.snapshot().len(&bucket).unwrap(), 0);
    assert_eq!(old.len(&bucket).unwrap(), was_there, "what a snapshot has seen it goes on seeing");
    drop(old);
    bucket.insert(5, "again".into()).unwrap();
    assert_eq!(bucket.get(&5).unwrap().as_deref(), Some("again"));
    bucket.remove(&5).unwrap();
    for _ in 0..8 {
        db.vacuum(usize::MAX);
    }
    assert_eq!(told.load(Ordering::Relaxed), 99, "the one that was written again did not expire");
    assert_eq!(used(&db, "sessions").total(), 0);
}

/// A vacuum went over all of a bucket whose entries expire, at each of its steps: it took a time
/// that grew with the square of their number, and commits at a limit vacuum, too.
#[test]
fn vacuum_looks_for_expired_entries_within_its_budget() {
    let db = Database::in_memory();
    let options = BucketOptions::new().time_to_live(Duration::from_millis(1));
    let bucket = db.volatile_bucket_with::<u64, u64>("short", options).unwrap();
    let count = 20_000;
    for at in 0..count {
        bucket.insert(at, at).unwrap();
    }
    let inserted = Instant::now();
    while inserted.elapsed() < Duration::from_millis(1) {
        std::thread::yield_now();
    }
    for vacuums in 1..=3 {
        db.vacuum(1000);
        assert_eq!(db.stats().departures, vacuums * 1000);
    }
    db.vacuum(usize::MAX);
    assert_eq!(db.stats().departures, count, "a whole vacuum goes on and leaves none");
}

#[test]
fn listener_is_told_what_left_and_why() {
    let db = Database::in_memory();
    let evicted = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&evicted);
    let options = BucketOptions::new()
        .memory_limit(50_000)
        .evict(EvictionPolicy::Lru)
        .on_departure(move |key: &u64, value: &u64, cause| {
            assert_eq!(*value, key * 2);
            if cause == Departure::Evicted {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
    let cache = db.volatile_bucket_with("cache", options).unwrap();
    for key in 0..5000 {
        cache.insert(key, key * 2).unwrap();
    }
    let left = cache.len().unwrap();
    assert_eq!(evicted.load(Ordering::Relaxed), 5000 - left);
    assert!(cache.evict(&4999).unwrap());
    assert_eq!(evicted.load(Ordering::Relaxed), 5000 - left);
    assert!(!cache.evict(&4999).unwrap());
}

#[test]
fn hot_keys_survive_a_scan_of_cold_ones() {
    for policy in [EvictionPolicy::S3Fifo, EvictionPolicy::Lfu, EvictionPolicy::Arc] {
        let db = Database::in_memory();
        let cache = cache(&db, policy, 150_000);
        for round in 0..200_u64 {
            for hot in 0..100 {
                if cache.get(&hot).unwrap().is_none() {
                    cache.insert(hot, "hot".into()).unwrap();
                }
            }
            for cold in 0..100 {
                cache.insert(1000 + round * 100 + cold, "cold".into()).unwrap();
            }
        }
        let hot = (0..100).filter(|key| cache.contains_key(key).unwrap()).count();
        assert!(hot >= 90, "{policy:?}: {hot} hot keys are left");
    }
}

#[test]
fn what_is_not_measured_gets_no_limit() {
    #[derive(Clone)]
    struct Opaque(#[allow(dead_code, reason = "it is there to own memory")] Box<[u64]>);
    let db = Database::in_memory();
    let limited = BucketOptions::<u64, Opaque>::new().memory_limit(1000);
    let refused = db.volatile_bucket_with("opaque", limited).unwrap_err();
    assert!(matches!(refused, Error::Unmeasured { .. }), "{refused}");
    let measured = BucketOptions::<u64, Opaque>::new()
        .memory_limit(10_000)
        .measure_values(|value| value.0.len() * 8);
    let bucket = db.volatile_bucket_with("opaque", measured).unwrap();
    bucket.insert(1, Opaque(vec![0; 1000].into())).unwrap();
    assert!(used(&db, "opaque").live >= 8000);
    let again = BucketOptions::<u64, Opaque>::new();
    assert!(matches!(db.volatile_bucket_with("opaque", again), Err(Error::BucketExists { .. })));
}

#[test]
fn cache_is_volatile() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open(folder.path()).unwrap();
    let options = || BucketOptions::<u64, u64>::new().evict(EvictionPolicy::Lru);
    let expiring = options().time_to_live(Duration::from_secs(60));
    assert!(matches!(db.bucket_with("cache", expiring), Err(Error::DurableCache { .. })));
    let cache = db.volatile_bucket_with("cache", options().memory_limit(20_000)).unwrap();
    for key in 0..2000 {
        cache.insert(key, key).unwrap();
    }
    assert!(cache.len().unwrap() < 400);
    drop((cache, db));
    let db = Database::open(folder.path()).unwrap();
    let cache = db.volatile_bucket::<u64, u64>("cache").unwrap();
    assert!(cache.is_empty().unwrap(), "F30: what was evicted does not come back");
}

/// What snapshots hold back counts, so there may be no room while one is open.
fn unless_full<T>(outcome: Result<T, Error>) {
    match outcome {
        Ok(_) | Err(Error::MemoryLimit { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn bounded_snapshot_refuses_with_the_reason() {
    let age_max = Duration::from_millis(20);
    let db = Options::new().snapshot_age_max(age_max).in_memory();
    let bucket = db.bucket::<u64, u64>("numbers").unwrap();
    let snapshot = db.snapshot();
    let taken = Instant::now();
    while taken.elapsed() <= age_max {
        std::thread::yield_now();
    }
    assert!(matches!(snapshot.get(&bucket, &1), Err(Error::SnapshotTooOld { .. })));

    let db = Options::new().snapshot_retained_bytes_max(10_000).in_memory();
    let bucket = db.bucket::<u64, String>("texts").unwrap();
    let fill = |letter: &str| {
        (0..200).for_each(|key| drop(bucket.insert(key, letter.repeat(100)).unwrap()));
    };
    fill("a");
    let old = db.snapshot();
    assert_eq!(old.get(&bucket, &1).unwrap(), Some(&"a".repeat(100)));
    fill("b");
    let young = db.snapshot();
    assert_eq!(young.get(&bucket, &1).unwrap(), Some(&"b".repeat(100)), "not the cause");
    assert!(matches!(old.get(&bucket, &1), Err(Error::SnapshotTooLarge { .. })));
    drop((old, young));
    db.vacuum(usize::MAX);
    db.vacuum(usize::MAX);
    assert_eq!(db.stats().memory.buckets.retained, 0);
}

#[test]
fn entry_with_a_time_to_live_of_its_own() {
    let db = Database::in_memory();
    let options = BucketOptions::new().expires();
    let bucket = db.volatile_bucket_with::<u64, String>("sessions", options).unwrap();
    let short = Duration::from_millis(30);
    bucket.insert(1, "stays".into()).unwrap();
    bucket.insert_for(2, "goes".into(), short).unwrap();
    bucket.insert_for(1, "goes, too".into(), short).unwrap();
    db.write(|tx| {
        tx.insert_for(&bucket, 3, "for long".into(), Duration::from_secs(3600))?;
        tx.insert_for(&bucket, 4, "first".into(), short)?;
        tx.insert_for(&bucket, 4, "for long, then".into(), Duration::from_secs(3600))?;
        Ok(())
    })
    .unwrap();
    let rolled_back = db.begin();
    rolled_back.insert_for(&bucket, 5, "never".into(), short).unwrap();
    drop(rolled_back);
    let inserted = Instant::now();
    while inserted.elapsed() < short {
        std::thread::yield_now();
    }
    let seen = |key: u64| bucket.get(&key).unwrap();
    assert_eq!((seen(1), seen(2), seen(5)), (None, None, None));
    assert_eq!(seen(3).as_deref(), Some("for long"));
    assert_eq!(seen(4).as_deref(), Some("for long, then"));
    let keys: Vec<u64> = bucket.iter().unwrap().map(|(key, _)| key).collect();
    assert_eq!(keys, [3, 4]);
    bucket.insert(2, "stays again".into()).unwrap();
    for _ in 0..8 {
        db.vacuum(usize::MAX);
    }
    assert_eq!(db.stats().departures, 1, "the other one was written again");
    assert_eq!(bucket.len().unwrap(), 3);
    db.check();
    let plain = db.volatile_bucket::<u64, String>("plain").unwrap();
    let refused = plain.insert_for(1, "x".into(), short);
    assert!(matches!(refused, Err(Error::NotExpiring { .. })));
}

/// A snapshot that is kept open holds the one version that it sees, not all that come after it.
#[test]
fn old_snapshot_pins_only_what_it_can_read() {
    let db = Database::in_memory();
    let bucket = db.bucket::<u64, u64>("hot").unwrap();
    bucket.insert(1, 0).unwrap();
    let first = db.snapshot();
    for n in 1..10_000 {
        bucket.insert(1, n).unwrap();
    }
    let second = db.snapshot();
    for n in 10_000..20_000 {
        bucket.insert(1, n).unwrap();
    }
    assert_eq!(first.get(&bucket, &1).unwrap(), Some(&0));
    assert_eq!(second.get(&bucket, &1).unwrap(), Some(&9_999));
    let stats = db.stats();
    assert!(stats.retained_versions < 100, "{stats:?}");
    assert!(stats.memory.buckets.retained < 10_000, "{stats:?}");
    drop((first, second));
    db.vacuum(usize::MAX);
    db.vacuum(usize::MAX);
    assert_eq!(db.stats().retained_versions, 0);
    db.check();
}

#[test]
fn read_of_an_entry_that_left_is_overwritten_by_its_return() {
    let db = Database::in_memory();
    let cache = cache(&db, EvictionPolicy::Random, 1 << 20);
    let other = db.bucket::<u64, u64>("other").unwrap();
    cache.insert(1, "one".into()).unwrap();
    other.insert(1, 0).unwrap();
    // Each reads what the other writes. The entry leaves between the two, so that nobody sees it
    // any more once the first has ended, and its place in the index is given up.
    let first = db.begin();
    assert_eq!(first.get(&cache, &1).unwrap().map(String::as_str), Some("one"));
    first.insert(&other, 1, 1).unwrap();
    assert!(cache.evict(&1).unwrap());
    let second = db.begin();
    assert_eq!(second.get(&other, &1).unwrap(), Some(&0));
    first.commit().unwrap();
    for _ in 0..8 {
        db.vacuum(usize::MAX);
    }
    // Others take the memory that was given up, if it was.
    let spare = db.bucket::<u64, String>("spare").unwrap();
    for key in 0..100 {
        spare.insert(key, "another".into()).unwrap();
    }
    second.insert(&cache, 1, "back".into()).unwrap();
    assert!(matches!(second.commit(), Err(Error::Conflict(_))), "neither can be first");
}

//! Values that leave memory and come back: durable buckets that are larger than their limit lose
//! nothing, whatever is done with them.
//!
//! Method: `cold/model` compares long random runs with a sorted map, for each way to open a
//! database; the tests below are about one thing each. `STEPS` and `SEED` make the runs longer and
//! others.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "cold/model.rs"]
mod model;
#[path = "common/rng.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod rng;
#[path = "common/stamped.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod stamped;

use model::{Case, World, assert_sound};
use palisade::{BucketOptions, Database, Durability, Error, EvictionPolicy, Isolation, Options};
use stamped::{Backwards, Name, stamped, version_of};

fn case() -> Case {
    let case = Case::new(rng::seed());
    Case { steps: rng::env("STEPS", case.steps), ..case }
}

fn relaxed() -> Options {
    case().options.durability(Durability::Relaxed)
}

/// A folder, and what is opened in it under a limit.
fn open(path: &std::path::Path, limit: u64) -> Database {
    relaxed().memory_limit(limit).open(path).unwrap()
}

fn total(db: &Database) -> u64 {
    db.stats().memory.buckets.total()
}

#[test]
fn runs_at_every_durability_with_and_without_threads() {
    for durability in [Durability::Relaxed, Durability::Full] {
        for threads in [false, true] {
            let options = case().options.durability(durability).threads(threads);
            World::<u64>::new(Case { options, ..case() }).run();
        }
    }
}

#[test]
fn runs_at_the_level_snapshot_with_a_vacuum_beside() {
    let options =
        relaxed().isolation(Isolation::Snapshot).vacuum_every(std::time::Duration::from_millis(1));
    World::<u64>::new(Case { options, ..case() }).run();
}

#[test]
fn runs_over_keys_that_do_not_sort_as_their_bytes() {
    for threads in [false, true] {
        let options = relaxed().threads(threads).table_bytes(8 << 10);
        World::<Backwards>::new(Case { options, ..case() }).run();
    }
}

#[test]
fn runs_over_strings_and_bytes_and_empty_keys() {
    World::<String>::new(Case { options: relaxed(), ..case() }).run();
    World::<Vec<u8>>::new(Case { options: relaxed().threads(false), ..case() }).run();
}

#[test]
fn runs_with_many_small_tables() {
    let options = relaxed().threads(false).table_bytes(3000).segment_bytes(8 << 10);
    World::<u64>::new(Case { options, ..case() }).run();
}

#[test]
fn runs_with_several_buckets_under_one_limit_and_under_their_own() {
    for each in [false, true] {
        let case = Case { options: relaxed(), buckets: 4, each, keys: 80, ..case() };
        World::<String>::new(Case { limit: if each { 96 << 10 } else { case.limit }, ..case })
            .run();
    }
}

#[test]
fn runs_under_every_policy() {
    use EvictionPolicy::{Arc, Lfu, Lru, Random, S3Fifo};
    for policy in [S3Fifo, Lru, Lfu, Arc, Random] {
        let options = relaxed().threads(false);
        World::<u64>::new(Case { options, policy: Some(policy), ..case() }).run();
    }
}

/// Values of many blocks, which take one after the other most of the room.
#[test]
fn runs_over_values_larger_than_blocks_and_than_a_megabyte() {
    const LENGTHS: &[usize] = &[0, 100, 65_535, 65_536, 65_537, 140_000, 1_200_000];
    let options = relaxed().segment_bytes(1 << 20);
    let case = Case { options, lengths: LENGTHS, limit: 6 << 20, keys: 24, ..case() };
    World::<u64>::new(Case { steps: case.steps / 4, ..case }).run();
}

#[test]
fn a_bucket_larger_than_the_limit_is_written_read_and_recovered() {
    const KEYS: u64 = 20_000;
    const LIMIT: u64 = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    {
        let db = open(folder.path(), LIMIT);
        let bucket = db.bucket::<u64, Vec<u8>>("large").unwrap();
        for key in 0..KEYS {
            bucket.set(key, stamped(key, 0, 1000)).unwrap();
            assert!(total(&db) <= LIMIT);
        }
        for key in (0..KEYS).rev() {
            assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 0);
        }
        assert!(db.stats().fetches > KEYS / 2);
        for key in (0..KEYS).step_by(3) {
            let before = bucket.insert(key, stamped(key, 1, 1000)).unwrap().unwrap();
            assert_eq!(version_of(key, &before), 0);
        }
        db.close().unwrap();
    }
    let db = open(folder.path(), LIMIT);
    let bucket = db.bucket::<u64, Vec<u8>>("large").unwrap();
    assert!(total(&db) <= LIMIT, "{:?}", db.stats().memory);
    assert_eq!(bucket.len().unwrap() as u64, KEYS);
    for (place, (key, bytes)) in (0..).zip(bucket.iter().unwrap()) {
        assert_eq!((key, version_of(key, &bytes)), (place, u64::from(place % 3 == 0)));
    }
    db.check();
}

/// A database with 3 MB of which a part is in the log only, opened with room for less.
fn recovered(limit: u64, threads: bool, checkpoints: bool) -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let db = relaxed().threads(false).open(folder.path()).unwrap();
    let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    for key in 0..1000 {
        bucket.set(key, stamped(key, 1, 3000)).unwrap();
        if checkpoints && key == 500 {
            db.checkpoint().unwrap();
        }
    }
    for key in (0..1000).step_by(7) {
        bucket.remove(&key).unwrap();
    }
    drop((bucket, db));
    let db = relaxed().threads(threads).memory_limit(limit).open(folder.path()).unwrap();
    (folder, db)
}

/// What stands in the log only is brought into memory by an opening, which has less of it now.
#[test]
fn a_log_larger_than_the_limit_is_recovered() {
    const LIMIT: u64 = 512 << 10;
    for (threads, checkpoints) in [(false, false), (true, false), (false, true)] {
        let (_folder, db) = recovered(LIMIT, threads, checkpoints);
        let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
        bucket.set(1, stamped(1, 1, 3000)).unwrap();
        assert!(total(&db) <= LIMIT, "{:?}", db.stats().memory);
        for key in 0..1000 {
            let found = bucket.get(&key).unwrap();
            assert_eq!(found.is_none(), key % 7 == 0, "{key}");
            assert!(found.is_none_or(|bytes| version_of(key, &bytes) == 1 && bytes.len() == 3000));
        }
        assert_sound(&db);
        db.check();
    }
}

/// An opening brings all that the log has into memory, and lets nothing leave before the first
/// commit that needs room.
#[test]
fn the_limit_holds_after_an_opening_with_a_long_log() {
    const LIMIT: u64 = 512 << 10;
    let (_folder, db) = recovered(LIMIT, false, false);
    let _bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    assert!(total(&db) <= LIMIT, "{:?}", db.stats().memory);
}

/// At the durability `Full` what left stayed for readers of the last confirmed moment, which no
/// commit moved on while none had room: all were refused, and reads were soon refused, too.
#[test]
fn values_leave_at_full_durability_without_another_commit() {
    const LIMIT: u64 = 512 << 10;
    for threads in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let options = case().options.durability(Durability::Full).threads(threads);
        let db = options.memory_limit(LIMIT).open(folder.path()).unwrap();
        let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
        for key in 0..500 {
            bucket.set(key, stamped(key, 1, 1500)).unwrap();
        }
        db.checkpoint().unwrap();
        for key in (0..500).rev().chain(0..500) {
            let snapshot = db.snapshot();
            assert_eq!(version_of(key, snapshot.get(&bucket, &key).unwrap().unwrap()), 1);
        }
        assert!(db.stats().fetches > 200);
        db.check();
    }
}

#[test]
fn a_database_opened_to_be_read_only_fetches_values() {
    const LIMIT: u64 = 512 << 10;
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), LIMIT);
    let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    for key in 0..1000 {
        bucket.set(key, stamped(key, 1, 3000)).unwrap();
    }
    db.checkpoint().unwrap();
    drop(bucket);
    db.close().unwrap();
    let db = relaxed().memory_limit(LIMIT).open_read_only(folder.path()).unwrap();
    let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    for key in (0..1000).rev() {
        assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
        assert!(total(&db) <= LIMIT + LIMIT / 16);
    }
    assert_eq!(bucket.iter().unwrap().count(), 1000);
    assert!(db.stats().fetches >= 1000 - LIMIT / 3000);
}

/// Memory for some of the values, none of which may leave.
#[test]
fn nothing_leaves_by_the_policy_manual_and_what_exceeds_is_refused() {
    const LIMIT: u64 = 200 << 10;
    for threads in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let db = relaxed().threads(threads).open(folder.path()).unwrap();
        let options = BucketOptions::new().memory_limit(LIMIT).evict(EvictionPolicy::Manual);
        let bucket = db.bucket_with::<u64, Vec<u8>>("kept", options).unwrap();
        let mut kept = 0;
        let refused = loop {
            match bucket.set(kept, stamped(kept, 1, 2000)) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
        assert!(kept > 80 && kept < 110, "{kept} values had room");
        db.checkpoint().unwrap();
        let refused = bucket.set(kept, stamped(kept, 1, 2000)).unwrap_err();
        assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
        assert_eq!(bucket.get(&kept).unwrap(), None);
        for key in 0..kept {
            assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
        }
        assert_eq!((db.stats().fetches, db.stats().departures), (0, 0));
        // Removals go on, and make room.
        for key in 0..10 {
            assert!(bucket.remove(&key).unwrap().is_some());
        }
        db.vacuum(usize::MAX);
        bucket.set(kept, stamped(kept, 1, 2000)).unwrap();
        db.check();
    }
}

/// `Bucket::evict` put a tombstone on an entry of a durable bucket as on one of a cache: it was
/// gone, until the database was opened again.
#[test]
fn an_entry_of_a_durable_bucket_that_is_asked_to_leave_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), 256 << 10);
    let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    for is_saved in [false, true] {
        for key in 0..20 {
            bucket.set(key, stamped(key, 1, 300)).unwrap();
        }
        if is_saved {
            db.checkpoint().unwrap();
        }
        for key in 0..20 {
            let _ = bucket.evict(&key).unwrap();
            assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1, "{is_saved}");
        }
        assert_eq!(bucket.len().unwrap(), 20);
    }
    assert_eq!(db.stats().fetches, 20, "what is in the files left, and nothing else");
    db.check();
}

/// Keys stay in memory, so a limit is full of them at last; the rest goes on.
///
/// Where nothing could leave any more, a commit made one checkpoint after the other and did not
/// return: each was taken for room that was made.
#[test]
fn a_limit_full_of_keys_refuses_new_ones_and_no_removal() {
    const LIMIT: u64 = 64 << 10;
    for threads in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let options = relaxed().threads(threads).memory_limit(LIMIT);
        let db = options.open(folder.path()).unwrap();
        let bucket = db.bucket::<u64, Vec<u8>>("keys").unwrap();
        let mut next = 0;
        let refused = loop {
            assert!(next < 5000, "keys take no memory");
            match bucket.set(next, stamped(next, 1, 300)) {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
            assert!(total(&db) <= LIMIT);
        };
        assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
        assert!(next * 300 > LIMIT, "only {next} values of 300 bytes had room");
        let tx = db.begin();
        for key in 0..next {
            tx.remove_range::<_, _, u64>(&bucket, key..=key).unwrap();
        }
        tx.commit().unwrap();
        assert!(bucket.is_empty().unwrap());
        db.vacuum(usize::MAX);
        for key in 0..50 {
            bucket.set(key, stamped(key, 2, 300)).unwrap();
        }
        assert_eq!(bucket.len().unwrap(), 50);
        db.check();
    }
}

/// A value that has no room by itself, and leaves everything as it was.
#[test]
fn a_value_larger_than_the_limit_is_refused_before_it_takes_effect() {
    const LIMIT: u64 = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), LIMIT);
    let bucket = db.bucket::<u64, Vec<u8>>("all").unwrap();
    for key in 0..200 {
        bucket.set(key, stamped(key, 1, 3000)).unwrap();
    }
    for key in [7, 1000] {
        let refused = bucket.set(key, stamped(key, 2, 300_000)).unwrap_err();
        assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
    }
    for key in 0..200 {
        assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
    }
    assert_eq!(bucket.get(&1000).unwrap(), None);
    bucket.set(7, stamped(7, 3, 3000)).unwrap();
    assert_eq!(version_of(7, &bucket.get(&7).unwrap().unwrap()), 3);
    db.check();
}

/// A durable and a volatile bucket share the room; one loses entries and the other none.
#[test]
fn a_cache_beside_a_durable_bucket_takes_nothing_from_it() {
    const LIMIT: u64 = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path(), LIMIT);
    let kept = db.bucket::<u64, Vec<u8>>("kept").unwrap();
    let options = BucketOptions::new().evict(EvictionPolicy::Lru);
    let cache = db.volatile_bucket_with::<u64, Vec<u8>>("cache", options).unwrap();
    for key in 0..400 {
        kept.set(key, stamped(key, 1, 2000)).unwrap();
        cache.set(key, stamped(key, 2, 2000)).unwrap();
        let memory = db.stats().memory.buckets;
        // What left the cache and waits for a sweep is not counted for a limit.
        assert!(memory.total() - memory.dead <= LIMIT, "{memory:?}");
    }
    for key in 0..400 {
        assert_eq!(version_of(key, &kept.get(&key).unwrap().unwrap()), 1);
        assert!(cache.get(&key).unwrap().is_none_or(|bytes| version_of(key, &bytes) == 2));
    }
    assert_eq!(kept.len().unwrap(), 400);
    db.check();
}

#[test]
fn dropped_and_renamed_buckets_keep_apart_what_is_cold() {
    const LIMIT: u64 = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let mut db = open(folder.path(), LIMIT);
    for round in 0..6_u64 {
        let bucket = db.bucket::<String, Vec<u8>>("one").unwrap();
        assert!(bucket.is_empty().unwrap());
        for number in 0..200 {
            bucket.set(String::of(number), stamped(number.into(), round, 3000)).unwrap();
        }
        let _ = db.drop_bucket("two").unwrap();
        db.rename_bucket("one", "two").unwrap();
        if round == 3 {
            drop(bucket);
            db.close().unwrap();
            db = open(folder.path(), LIMIT);
        }
        let bucket = db.bucket::<String, Vec<u8>>("two").unwrap();
        for number in (0..200).rev() {
            let found = bucket.get(&String::of(number)).unwrap().unwrap();
            assert_eq!(version_of(number.into(), &found), round);
        }
        db.vacuum(usize::MAX);
        assert!(total(&db) <= LIMIT + LIMIT / 16);
    }
    assert_sound(&db);
    db.check();
}

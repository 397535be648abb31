//! Caches that are full and in use for a long time take no more memory than soon after the start.
//!
//! Method: one thread asks caches of all policies for skewed keys, writes, removes, reads ranges,
//! lets entries expire and commits transactions under open snapshots. Nobody vacuums. Samples of
//! what the statistics count, of what the allocator gave out and of what the system calls resident
//! are compared: the highest of the second half with the highest of the time just after warming up.
//! `CACHE_OPERATIONS` says how many operations.

use std::time::{Duration, Instant};

use palisade::{BucketOptions, Error};

use super::policies::POLICIES;
use super::rng::{Rng, env, seed};
use super::{Bucket, Database, in_use, scale, turn};

const LIMIT: u64 = 1 << 20;
/// About five times as many as there is room for.
const KEYS: u32 = 40_000;
const SAMPLES: u64 = 200;
/// Until the caches are full, and their memory of what left, too.
const WARM_UP: u64 = 500_000;

/// What is in memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    counted: u64,
    allocated: u64,
    resident: u64,
}

impl Sample {
    fn of(db: &Database) -> Self {
        let memory = db.stats().memory;
        let counted = memory.buckets.total() + memory.garbage + memory.eviction + memory.log;
        let allocated = u64::try_from(in_use()).unwrap();
        Self { counted, allocated, resident: resident() }
    }

    fn highest(samples: &[Self]) -> Self {
        let highest = |of: fn(&Self) -> u64| samples.iter().map(of).max().unwrap();
        Self {
            counted: highest(|it| it.counted),
            allocated: highest(|it| it.allocated),
            resident: highest(|it| it.resident),
        }
    }
}

/// What the system says this process has in memory; nothing where it does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// The keys that were drawn least often come last by far.
fn key(rng: &mut Rng) -> u64 {
    let bound = rng.below(KEYS) + 1;
    u64::from(rng.below(bound)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Its length changes from write to write, so that the allocator has to move.
fn value(rng: &mut Rng) -> String {
    "x".repeat(rng.below(100) as usize)
}

fn unless_full<T>(outcome: Result<T, Error>) {
    match outcome {
        Ok(_) | Err(Error::MemoryLimit { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

fn transact(db: &Database, from: &Bucket<u64, String>, to: &Bucket<u64, String>, rng: &mut Rng) {
    let snapshot = db.snapshot();
    let read = key(rng);
    let seen = snapshot.get(from, &read).unwrap();
    unless_full(db.write(|tx| {
        assert_eq!(tx.get(from, &read)?, seen);
        tx.insert(to, read, value(rng))?;
        tx.insert(from, key(rng), value(rng)).map(drop)
    }));
    assert_eq!(snapshot.get(from, &read).unwrap(), seen);
}

fn operate(db: &Database, caches: &[Bucket<u64, String>], rng: &mut Rng) {
    let at = rng.below(5) as usize;
    let (cache, other, key) = (&caches[at], &caches[(at + 1) % 5], key(rng));
    match rng.below(100) {
        0..85 => {
            if cache.get_with(&key, |_| ()).unwrap().is_none() {
                cache.insert(key, value(rng)).unwrap();
            }
        }
        85..90 => drop(cache.insert(key, value(rng)).unwrap()),
        90..93 => drop(cache.remove(&key).unwrap()),
        93..95 => drop(cache.evict(&key).unwrap()),
        95..96 => drop(cache.insert_for(key, value(rng), Duration::from_micros(500)).unwrap()),
        96..97 => drop(cache.range(key..).unwrap().take(10).count()),
        97..98 => {
            cache.pin(&key).unwrap();
            cache.unpin(&key).unwrap();
        }
        _ => transact(db, cache, other, rng),
    }
}

#[test]
fn full_caches_do_not_grow() {
    let _turn = turn();
    let operations = env("CACHE_OPERATIONS", scale(4_000_000)).max(SAMPLES);
    let db = Database::in_memory();
    let caches = POLICIES.map(|policy| {
        let options = BucketOptions::new().memory_limit(LIMIT).expires().evict(policy);
        db.volatile_bucket_with::<u64, String>(&format!("{policy:?}"), options).unwrap()
    });
    let mut rng = Rng::new(seed());
    (0..WARM_UP).for_each(|_| operate(&db, &caches, &mut rng));
    let start = Instant::now();
    let mut samples = Vec::new();
    for number in 1..=SAMPLES {
        (0..operations / SAMPLES).for_each(|_| operate(&db, &caches, &mut rng));
        samples.push(Sample::of(&db));
        if number % (SAMPLES / 10) == 0 {
            let done = operations / SAMPLES * number;
            eprintln!("{done} operations in {:.0?}: {:?}", start.elapsed(), samples.last());
        }
    }
    let departures = db.stats().departures;
    assert!(departures > operations / 100, "only {departures} left by themselves");
    for cache in &caches {
        assert!(cache.len().unwrap() > 1_000, "{} is not full", cache.name());
    }
    let before = Sample::highest(&samples[..samples.len() / 5]);
    let after = Sample::highest(&samples[samples.len() / 2..]);
    eprintln!("after warming up at most {before:?}, in the second half {after:?}");
    let grown = |before: u64, after: u64| after * 100 > before * 103;
    assert!(!grown(before.counted, after.counted), "{before:?} {after:?}");
    assert!(!grown(before.allocated, after.allocated), "{before:?} {after:?}");
    assert!(!grown(before.resident, after.resident), "{before:?} {after:?}");
}

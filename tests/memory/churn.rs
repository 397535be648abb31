//! Eight threads do everything at once to buckets of every kind; at rest the counters are exact,
//! and when all is deleted they say that nothing is there.
//!
//! Method: rounds of random operations on a cache of each policy with little room, on one whose
//! entries expire, on one without a limit, and on buckets that are made, renamed and dropped
//! meanwhile, under a limit of the database, with snapshots and transactions that stay open for a
//! while. After each round everybody stops, and a walk over everything is compared with what was
//! counted. `MEMORY_OPERATIONS` says how many operations, `SEED` where to begin.

use std::thread;
use std::time::{Duration, Instant};

use palisade::{BucketOptions, Database, Error, EvictionPolicy, Options, Snapshot};

use super::policies::POLICIES;
use super::rng::{Rng, env, seed};
use super::{Bucket, SLACK, in_use, scale, turn};

const THREADS: u8 = 8;
const ROUNDS: u64 = 16;
const KEYS: u32 = 3_000;
const LIMIT: u64 = 100_000;
/// Now and then too little for all caches, and never full of what cannot leave: a commit that is
/// refused looks everywhere for room first.
const LIMIT_OF_ALL: u64 = 1_200_000;
/// Open at one time, on each thread.
const SNAPSHOTS_MAX: usize = 3;

type Texts = Bucket<u64, String>;

/// A thread, between operations.
struct Worker<'d> {
    db: &'d Database,
    buckets: &'d [Texts],
    rng: Rng,
    number: u8,
    snapshots: Vec<Snapshot>,
}

/// Whatever other threads may cause; what happened otherwise is passed on.
fn allowed<T>(outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(it) => Some(it),
        Err(Error::MemoryLimit { .. } | Error::Conflict(_) | Error::BucketDropped { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

impl Worker<'_> {
    fn key(&mut self) -> u64 {
        u64::from(self.rng.below(KEYS))
    }

    fn value(&mut self) -> String {
        "x".repeat(self.rng.below(90) as usize)
    }

    /// A place in a short list.
    fn place(&mut self, len: usize) -> usize {
        self.rng.small(len).into()
    }

    /// The bucket of another thread may be gone already, or have changed its kind.
    fn passing(&mut self) -> Option<Texts> {
        let name = format!("passing {}", self.rng.below(THREADS.into()));
        let limit = BucketOptions::new().memory_limit(LIMIT / 4);
        let options = match self.rng.below(3) {
            0 => limit.evict(EvictionPolicy::S3Fifo),
            1 => limit.evict(EvictionPolicy::Arc).time_to_live(Duration::from_millis(2)),
            _ => limit,
        };
        match self.db.volatile_bucket_with(&name, options) {
            Err(Error::BucketExists { .. }) => self.db.volatile_bucket(&name).ok(),
            other => Some(other.unwrap()),
        }
    }

    fn transact(&mut self, bucket: &Texts) {
        let other = &self.buckets[self.place(self.buckets.len())];
        let tx = self.db.begin();
        for _ in 0..=self.rng.below(4) {
            let (key, value) = (self.key(), self.value());
            let written = match self.rng.below(4) {
                0 => tx.get(other, &key).map(drop),
                1 => tx.remove(bucket, &key).map(drop),
                2 => tx.insert(other, key, value).map(drop),
                _ => tx.insert(bucket, key, value).map(drop),
            };
            allowed(written);
        }
        if self.rng.percent(80) {
            allowed(tx.commit());
        }
    }

    /// Something that is rare and touches many entries, or none.
    fn upheaval(&mut self, bucket: &Texts) {
        let name = format!("passing {}", self.number);
        match self.rng.below(1_000) {
            0 => drop(self.db.drop_bucket(&name)),
            1 => drop(self.db.rename_bucket(&name, "passing by")),
            2 => drop(self.db.drop_bucket("passing by")),
            3..20 => drop(allowed(bucket.clear())),
            20..200 => drop(allowed(bucket.remove_range(self.key()..))),
            200..300 => drop(self.db.vacuum(500)),
            300..500 if self.snapshots.len() < SNAPSHOTS_MAX => {
                self.snapshots.push(self.db.snapshot());
            }
            300..700 if !self.snapshots.is_empty() => {
                let at = self.place(self.snapshots.len());
                self.snapshots.swap_remove(at);
            }
            _ => {
                let from = self.key();
                let Some(range) = allowed(bucket.range(from..from + 50)) else { return };
                range.for_each(|(key, _)| assert!((from..from + 50).contains(&key)));
            }
        }
    }

    fn operate(&mut self) {
        let passing = if self.rng.percent(15) { self.passing() } else { None };
        let at = self.place(self.buckets.len());
        let bucket = passing.as_ref().unwrap_or(&self.buckets[at]);
        let (key, value) = (self.key(), self.value());
        match self.rng.below(100) {
            0..40 => drop(allowed(bucket.insert(key, value))),
            40..60 => drop(allowed(bucket.get(&key))),
            60..75 => drop(allowed(bucket.remove(&key))),
            75..78 => {
                let ttl = Duration::from_micros(u64::from(self.rng.below(2_000)));
                let _ = bucket.insert_for(key, value, ttl);
            }
            78..82 => {
                let _ = bucket.evict(&key);
            }
            82..84 => {
                let _ = if self.rng.percent(50) { bucket.pin(&key) } else { bucket.unpin(&key) };
            }
            84..92 => self.transact(bucket),
            _ => self.upheaval(bucket),
        }
    }
}

/// A bucket of each kind.
fn buckets(db: &Database) -> Vec<Texts> {
    let with = |name: &str, options| db.volatile_bucket_with::<u64, String>(name, options).unwrap();
    let limit = || BucketOptions::new().memory_limit(LIMIT);
    let mut buckets: Vec<Texts> =
        POLICIES.iter().map(|it| with(&format!("{it:?}"), limit().evict(*it).expires())).collect();
    buckets.push(with("short", limit().time_to_live(Duration::from_millis(5))));
    buckets.push(with("full", limit()));
    buckets.push(with("free", BucketOptions::new()));
    buckets
}

fn rounds(db: &Database, buckets: &[Texts], operations: u64) {
    let mut workers: Vec<_> = (0..THREADS)
        .map(|number| Worker {
            db,
            buckets,
            rng: Rng::new(seed() ^ (u64::from(number) << 32)),
            number,
            snapshots: Vec::new(),
        })
        .collect();
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for worker in &mut workers {
                let count = operations / u64::from(THREADS) / ROUNDS;
                scope.spawn(move || (0..count).for_each(|_| worker.operate()));
            }
        });
        db.check();
        let stats = db.stats();
        let memory = stats.memory.buckets;
        let used = memory.keys + memory.live + memory.retained;
        // Removals are never refused, and leave a tombstone for each key.
        let tombstones = 64 * stats.records as u64;
        assert!(used <= LIMIT_OF_ALL + tombstones, "round {round}: {memory:?}");
    }
}

#[test]
fn counters_of_threads_are_exact_and_return_to_nothing() {
    let _turn = turn();
    let operations = env("MEMORY_OPERATIONS", scale(3_000_000));
    let (start, before) = (Instant::now(), in_use());
    let db = Options::new().memory_limit(LIMIT_OF_ALL).in_memory();
    let buckets = buckets(&db);
    rounds(&db, &buckets, operations);
    let stats = db.stats();
    let refused = stats.aborts.total();
    eprintln!(
        "{operations} operations in {:.0?}: {} commits, {refused} refused, {} left by themselves",
        start.elapsed(),
        stats.commits,
        stats.departures,
    );
    assert!(stats.departures > operations / 100, "{stats:?}");
    assert_eq!(stats.running, 0, "{stats:?}");

    for bucket in &buckets {
        bucket.clear().unwrap();
    }
    for number in 0..THREADS {
        db.drop_bucket(&format!("passing {number}")).unwrap();
    }
    db.drop_bucket("passing by").unwrap();
    for _ in 0..8 {
        db.vacuum(usize::MAX);
    }
    db.check();
    let stats = db.stats();
    assert_eq!(stats.memory.buckets, palisade::BucketMemory::default(), "{stats:?}");
    assert_eq!((stats.records, stats.retained_versions), (0, 0), "{stats:?}");
    assert_eq!((stats.memory.garbage, stats.garbage_objects), (0, 0), "{stats:?}");
    assert_eq!(db.buckets().len(), buckets.len());
    let left = in_use() - before;
    drop((buckets, db));
    let after = in_use() - before;
    eprintln!("{left} bytes for empty buckets, {after} after the database was dropped");
    assert!(after.abs() < SLACK, "{after} bytes");
}

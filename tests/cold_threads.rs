//! Many threads on few keys with large values under a tight limit.
//!
//! Method: each value carries its key and its version all through; whoever reads one looks at every
//! byte. Each key is written by one thread only, which knows what must be there; all read all keys,
//! by every way of reading, and never see a version fall. Others make checkpoints, vacuum, and ask
//! values to leave. At the end everything is compared with what the writers know, and after a
//! reopening once more. `ROUNDS` makes it longer, `SEED` another one.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "common/rng.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod rng;
#[path = "common/stamped.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod stamped;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use palisade::{Bucket, Database, Durability, Error, FetchError, Options};
use rng::Rng;
use stamped::{stamped, version_of};

const THREADS: u64 = 8;
const KEYS: u64 = 64;
const LIMIT: u64 = 256 << 10;

type Values = Bucket<u64, Vec<u8>>;

/// What one thread knows of all keys.
struct Hand<'w> {
    db: &'w Database,
    bucket: &'w Values,
    number: u64,
    rng: Rng,
    /// The newest version of each key that was seen, or 0.
    seen: Vec<u64>,
    /// What is there of the own keys.
    own: Vec<Option<u64>>,
    version: u64,
    refusals: &'w AtomicU64,
}

/// What is refused for want of room, which open readers may take away for a while, is no answer.
fn unless_full<T>(refusals: &AtomicU64, outcome: Result<T, Error>) -> Option<T> {
    match outcome {
        Ok(answer) => Some(answer),
        Err(Error::MemoryLimit { .. } | Error::Fetch(FetchError::NoRoom { .. })) => {
            refusals.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl<'w> Hand<'w> {
    fn is_own(&self, key: u64) -> bool {
        key % THREADS == self.number
    }

    fn note(&mut self, key: u64, found: Option<&[u8]>) {
        let version = found.map(|bytes| version_of(key, bytes));
        if self.is_own(key) {
            assert_eq!(version, self.own[usize::try_from(key).unwrap()], "own key {key}");
        }
        if let Some(version) = version {
            let seen = &mut self.seen[usize::try_from(key).unwrap()];
            assert!(version >= *seen, "key {key} went back from {seen} to {version}");
            *seen = version;
        }
    }

    fn write(&mut self) {
        let key = self.rng.next() % (KEYS / THREADS) * THREADS + self.number;
        self.version += 1;
        let lengths = [16, 500, 3000, 9000, 20_000];
        let bytes = stamped(key, self.version, lengths[self.rng.below(5) as usize]);
        let at = usize::try_from(key).unwrap();
        let before = self.own[at];
        let check = |found: Option<&Vec<u8>>| {
            assert_eq!(found.map(|bytes| version_of(key, bytes)), before, "own key {key}");
        };
        let version = self.version;
        let way = self.rng.below(6);
        let (bucket, db) = (self.bucket, self.db);
        let now = match way {
            0 => unless_full(self.refusals, bucket.set(key, bytes)).map(|()| Some(version)),
            1 => unless_full(self.refusals, bucket.insert(key, bytes)).map(|found| {
                check(found.as_ref());
                Some(version)
            }),
            2 => unless_full(self.refusals, bucket.remove(&key)).map(|found| {
                check(found.as_ref());
                None
            }),
            3 => {
                let change = |found: Option<&Vec<u8>>| {
                    check(found);
                    Some(bytes.clone())
                };
                unless_full(self.refusals, bucket.update(key, change)).map(|_| Some(version))
            }
            4 => unless_full(self.refusals, bucket.remove_range(key..=key)).map(|gone| {
                assert_eq!(gone == 1, before.is_some());
                None
            }),
            _ => {
                let body = |tx: &palisade::Transaction<'_>| {
                    check(tx.get(bucket, &key)?);
                    tx.remove(bucket, &key)?;
                    tx.set(bucket, key, bytes.clone())?;
                    check_own_write(tx.get(bucket, &key)?, version, key);
                    Ok(())
                };
                unless_full(self.refusals, db.write(body)).map(|()| Some(version))
            }
        };
        if let Some(now) = now {
            self.own[at] = now;
        }
    }

    fn read(&mut self) {
        let key = self.rng.next() % KEYS;
        let (bucket, db) = (self.bucket, self.db);
        match self.rng.below(4) {
            0 => {
                if let Some(found) = unless_full(self.refusals, bucket.get(&key)) {
                    self.note(key, found.as_deref());
                }
            }
            1 => {
                let read = |bytes: &Vec<u8>| bytes.clone();
                if let Some(found) = unless_full(self.refusals, bucket.get_with(&key, read)) {
                    self.note(key, found.as_deref());
                }
            }
            2 => self.hold(),
            _ => {
                let snapshot = db.snapshot();
                let (mut found, mut last) = (Vec::new(), None);
                let visited = snapshot.iter(bucket).unwrap().visit(|key, bytes| {
                    assert!(last.replace(*key) < Some(*key), "keys come in order");
                    found.push((*key, version_of(*key, bytes)));
                    ControlFlow::Continue(())
                });
                visited.unwrap();
                let found = |key| found.iter().find(|it| it.0 == key).map(|it| it.1);
                for key in (0..KEYS).filter(|key| self.is_own(*key)) {
                    assert_eq!(found(key), self.own[usize::try_from(key).unwrap()], "own {key}");
                }
            }
        }
    }

    /// Keeps references from a snapshot while others go on.
    fn hold(&mut self) {
        let snapshot = self.db.snapshot();
        let mut lent = Vec::new();
        for _ in 0..3 {
            let key = self.rng.next() % KEYS;
            if let Some(found) = unless_full(self.refusals, snapshot.get(self.bucket, &key)) {
                lent.push((key, found, found.map(|bytes| version_of(key, bytes))));
            }
        }
        for _ in 0..self.rng.below(4) {
            self.write_nothing_of_the_snapshot();
        }
        for (key, found, version) in lent {
            assert_eq!(found.map(|bytes| version_of(key, bytes)), version);
        }
    }

    fn write_nothing_of_the_snapshot(&mut self) {
        match self.rng.below(8) {
            0 => drop(self.db.checkpoint().unwrap()),
            1 => drop(self.db.vacuum(usize::MAX)),
            2..5 => drop(self.bucket.evict(&(self.rng.next() % KEYS)).unwrap()),
            _ => self.write(),
        }
    }

    fn run(&mut self, rounds: u64) {
        for _ in 0..rounds {
            match self.rng.below(10) {
                0..4 => self.write(),
                4..9 => self.read(),
                _ => self.write_nothing_of_the_snapshot(),
            }
        }
    }
}

fn check_own_write(found: Option<&Vec<u8>>, version: u64, key: u64) {
    assert_eq!(found.map(|bytes| version_of(key, bytes)), Some(version));
}

/// Looks at the limit all the time, until the others are done.
fn watch(db: &Database, is_over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !is_over.load(Ordering::SeqCst) {
        most = most.max(db.stats().memory.buckets.total());
        thread::yield_now();
    }
    most
}

fn run(durability: Durability, threads: bool) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new()
        .durability(durability)
        .threads(threads)
        .segment_bytes(256 << 10)
        .table_bytes(64 << 10)
        .checkpoint_bytes_per_second(None)
        .memory_limit(LIMIT);
    let db = options.open(folder.path()).unwrap();
    let bucket: Values = db.bucket("values").unwrap();
    let (refusals, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let rounds = rng::env("ROUNDS", if durability == Durability::Full { 60 } else { 300 });
    let (own, most) = thread::scope(|scope| {
        let hands: Vec<_> = (0..THREADS)
            .map(|number| {
                let (db, bucket, refusals) = (&db, &bucket, &refusals);
                scope.spawn(move || {
                    let rng = Rng::new(rng::seed() ^ (number << 40));
                    let (seen, own) = (vec![0; KEYS as usize], vec![None; KEYS as usize]);
                    let mut hand =
                        Hand { db, bucket, number, rng, seen, own, version: 0, refusals };
                    hand.run(rounds);
                    hand.own
                })
            })
            .collect();
        let watcher = scope.spawn(|| watch(&db, &is_over));
        let own: Vec<_> = hands.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        let own: Vec<_> = own.into_iter().map(Result::unwrap).collect();
        (own, watcher.join().unwrap())
    });
    let stats = db.stats();
    eprintln!(
        "{durability:?}, threads {threads}: {} commits, {} refusals, {} left, {} came back, at \
         most {most} bytes of {LIMIT}",
        stats.commits,
        refusals.load(Ordering::Relaxed),
        stats.departures,
        stats.fetches,
    );
    assert!(stats.departures > 50 && stats.fetches > 50, "hardly anything left");
    assert!(refusals.load(Ordering::Relaxed) * 2 < rounds * THREADS, "too tight");
    let expect = |bucket: &Values| {
        for key in (0..KEYS).rev() {
            let found = bucket.get(&key).unwrap().map(|bytes| version_of(key, &bytes));
            let known = own[usize::try_from(key % THREADS).unwrap()][usize::try_from(key).unwrap()];
            assert_eq!(found, known, "{key}");
        }
    };
    expect(&bucket);
    db.vacuum(usize::MAX);
    db.check();
    assert!(db.verify().unwrap().is_sound());
    drop(bucket);
    db.close().unwrap();
    let db = options.open(folder.path()).unwrap();
    expect(&db.bucket("values").unwrap());
}

#[test]
fn threads_read_what_was_written_while_values_leave() {
    for threads in [false, true] {
        run(Durability::Relaxed, threads);
    }
}

#[test]
fn threads_read_what_was_written_while_values_leave_at_full_durability() {
    for threads in [false, true] {
        run(Durability::Full, threads);
    }
}

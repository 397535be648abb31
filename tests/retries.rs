//! Transactions that are run again until they commit stay serializable, and none starves.
//!
//! Method: eight threads run closures through `Database::write` over two or three keys, giving
//! the core away between operations, so that most attempts meet a rival and many reach the point
//! where the engine closes its gate to others. What the last attempt of each saw and wrote is
//! recorded; every write saw the value before it, which orders the versions without any claim of
//! the engine. Each round is judged as one history: no lost update, and no cycle of what was
//! read, overwritten and ordered by real time. `TRANSACTIONS` says how many run.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::graph::judge_unclaimed;
use common::program::Kind;
use common::rng::{Rng, env, seed};
use common::store::{ABSENT, Level, State, bit, keys};
use common::tally::{Judged, UNCLAIMED};
use palisade::{Bucket, Database, Options, Result, Transaction};

const THREADS: usize = 8;
const BATCH: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Get(u8),
    /// A scan from the key on.
    Scan(u8),
    Insert(u8),
    Yield,
}

fn program(rng: &mut Rng, names: u8) -> Vec<Op> {
    let key = |rng: &mut Rng| rng.small(names.into());
    let one = |rng: &mut Rng| match rng.below(9) {
        0..3 => Op::Get(key(rng)),
        3 => Op::Scan(key(rng)),
        4..7 => Op::Insert(key(rng)),
        _ => Op::Yield,
    };
    (0..2 + rng.small(5)).map(|_| one(rng)).collect()
}

/// What one attempt saw before its own writes, and what it wrote.
#[derive(Clone, Copy, Default)]
struct Attempt {
    seen: State,
    known: u8,
    written: State,
    writes: u8,
}

impl Attempt {
    fn observe(&mut self, key: u8, value: u64) {
        let at = usize::from(key);
        if self.writes & bit(key) != 0 {
            assert_eq!(value, self.written[at], "own write lost");
        } else if self.known & bit(key) != 0 {
            assert_eq!(value, self.seen[at], "read not repeatable");
        } else {
            self.seen[at] = value;
            self.known |= bit(key);
        }
    }

    fn run(
        &mut self,
        tx: &Transaction<'_>,
        numbers: &Bucket<u8, u64>,
        program: &[Op],
        fresh: u64,
    ) -> Result<()> {
        for (op, fresh) in program.iter().zip(fresh..) {
            match *op {
                Op::Get(key) => {
                    let found = tx.get(numbers, &key)?.copied();
                    self.observe(key, found.unwrap_or(ABSENT));
                }
                Op::Scan(from) => {
                    let mut values = [ABSENT; 8];
                    for (key, value) in tx.range(numbers, from..)? {
                        values[usize::from(*key)] = *value;
                    }
                    for key in from..8 {
                        self.observe(key, values[usize::from(key)]);
                    }
                }
                Op::Insert(key) => {
                    let before = tx.insert(numbers, key, fresh)?.copied();
                    self.observe(key, before.unwrap_or(ABSENT));
                    self.written[usize::from(key)] = fresh;
                    self.writes |= bit(key);
                }
                Op::Yield => thread::yield_now(),
            }
        }
        Ok(())
    }
}

struct Trial {
    db: Database,
    numbers: Bucket<u8, u64>,
    names: u8,
    clock: AtomicU64,
    fresh: AtomicU64,
    /// How many transactions needed so many attempts.
    attempts: [AtomicU64; 64],
}

impl Trial {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn transaction(&self, rng: &mut Rng) -> Judged {
        let program = program(rng, self.names);
        let mut attempt = Attempt::default();
        let mut tries: usize = 0;
        // Each attempt begins after the one before it ended, the first after this.
        let (mut begin, mut next) = (0, self.tick());
        self.db
            .write(|tx| {
                tries += 1;
                begin = next;
                attempt = Attempt::default();
                let fresh = self.fresh.fetch_add(program.len() as u64, Ordering::Relaxed);
                attempt.run(tx, &self.numbers, &program, fresh)?;
                next = self.tick();
                Ok(())
            })
            .unwrap();
        self.attempts[tries.min(63)].fetch_add(1, Ordering::Relaxed);
        Judged {
            kind: Kind::ReadWrite(Level::Serializable),
            begin,
            end: self.tick(),
            snapshot: UNCLAIMED,
            commit: None,
            committed: true,
            seen: attempt.seen,
            known: attempt.known,
            tracked: attempt.known,
            written: attempt.written,
            writes: attempt.writes,
        }
    }

    /// The most attempts that a transaction needed, and how many needed four or more.
    fn summary(&self) -> (usize, u64) {
        let counts: Vec<u64> =
            self.attempts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eprintln!("{} keys: transactions by attempts {counts:?}", self.names);
        let most = counts.iter().rposition(|count| *count > 0).unwrap();
        (most, counts[4..].iter().sum())
    }
}

fn retried(names: u8) {
    let db = Options::new().vacuum_every(Duration::from_millis(1)).in_memory();
    let numbers = db.bucket("numbers").unwrap();
    let trial = Trial {
        db,
        numbers,
        names,
        clock: AtomicU64::new(1),
        fresh: AtomicU64::new(1),
        attempts: [const { AtomicU64::new(0) }; 64],
    };
    let rounds = env("TRANSACTIONS", 8_000).div_ceil((THREADS * BATCH) as u64);
    let (round, state) = (Mutex::new(Vec::new()), Mutex::new(State::default()));
    let wrong: Mutex<Option<String>> = Mutex::new(None);
    let (barrier, stop) = (Barrier::new(THREADS), AtomicBool::new(false));
    thread::scope(|scope| {
        for worker in 0..THREADS as u64 {
            let (trial, round, state, wrong) = (&trial, &round, &state, &wrong);
            let (barrier, stop) = (&barrier, &stop);
            scope.spawn(move || {
                let mut rng = Rng::new(seed() ^ (worker << 40));
                for _ in 0..rounds {
                    // One that panicked would leave the others waiting for it.
                    let batch = || (0..BATCH).map(|_| trial.transaction(&mut rng)).collect();
                    match catch_unwind(AssertUnwindSafe(batch)) {
                        Ok::<Vec<Judged>, _>(mut seen) => round.lock().unwrap().append(&mut seen),
                        Err(_) => *wrong.lock().unwrap() = Some("a panic, see above".into()),
                    }
                    if barrier.wait().is_leader() {
                        let round = std::mem::take(&mut *round.lock().unwrap());
                        let mut state = state.lock().unwrap();
                        match judge_unclaimed(&round, &state) {
                            Ok(after) => *state = after,
                            Err(found) => {
                                wrong.lock().unwrap().get_or_insert(found.to_string());
                            }
                        }
                        // Set between the two meetings only, so that all read the same after.
                        stop.store(wrong.lock().unwrap().is_some(), Ordering::SeqCst);
                    }
                    barrier.wait();
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_none(), "seed {:#x}: {}", seed(), wrong.unwrap_or_default());
    let last = *state.lock().unwrap();
    for key in keys(u8::MAX) {
        let found = trial.numbers.get(&key).unwrap().unwrap_or(ABSENT);
        assert_eq!(found, last[usize::from(key)], "key {key}");
    }
    let (most, late) = trial.summary();
    assert!(most <= 40, "a transaction needed {most} attempts");
    assert!(late > 0, "no transaction came to its fourth attempt, so the gate was never tried");
}

#[test]
fn transactions_that_are_run_again_stay_serializable() {
    retried(2);
    retried(4);
}

//! The driver of real threads: rounds of random transactions, each round judged as a whole.
//!
//! Every thread runs its share of a round, then all meet. One of them judges the round (`graph`)
//! while the others go on with the next, so memory stays bounded by two rounds however long the
//! run is. Rounds do not overlap; so the whole run is strictly serializable if each round is,
//! from the state that the round before it left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};

use super::graph;
use super::leaving::Departures;
use super::lockstep::Counts;
use super::probe::{Probe, Stop};
use super::program::{Action, Kind, Profile, Window, departure, operation, read};
use super::rng::Rng;
use super::store::{ABSENT, Abort, Reader, State, Store, Transaction, Violation, bit, keys};
use super::tally::Judged;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) threads: usize,
    pub(crate) rounds: u64,
    /// Transactions of one thread in one round.
    pub(crate) batch: usize,
    pub(crate) profile: Profile,
    pub(crate) window: Window,
    pub(crate) seed: u64,
}

struct Shared<'p, S> {
    store: &'p S,
    plan: Plan,
    clock: AtomicU64,
    fresh: AtomicU64,
    barrier: Barrier,
    stop: AtomicBool,
    /// What was observed in a round, by the parity of its number.
    rounds: [Mutex<Vec<Judged>>; 2],
    /// What left in it, as the store tells.
    departures: [Mutex<Departures>; 2],
    /// The state after the last judged round.
    state: Mutex<State>,
    wrong: Mutex<Option<Violation>>,
    counts: Mutex<Counts>,
}

/// Runs `plan` and returns what happened, or the first violation.
pub(crate) fn run<S: Store>(store: &S, plan: Plan) -> Result<Counts, Violation> {
    let shared = Shared {
        store,
        plan,
        clock: AtomicU64::new(1),
        fresh: AtomicU64::new(1),
        barrier: Barrier::new(plan.threads),
        stop: AtomicBool::new(false),
        rounds: [const { Mutex::new(Vec::new()) }; 2],
        departures: [(); 2].map(|()| Mutex::new(Departures::of(store.leaving()))),
        state: Mutex::new(State::default()),
        wrong: Mutex::new(None),
        counts: Mutex::new(Counts::default()),
    };
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let shared = &shared;
            scope.spawn(move || shared.work(thread));
        }
    });
    let counts = *lock(&shared.counts);
    lock(&shared.wrong).take().map_or(Ok(counts), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Store> Shared<'_, S> {
    fn work(&self, thread: usize) {
        let mut rng = Rng::new(self.plan.seed ^ ((thread as u64 + 1) << 40));
        let mut counts = Counts::default();
        for round in 0..self.plan.rounds {
            let parity = usize::from(round % 2 == 1);
            // A thread that panicked would leave the others waiting for it.
            let batch = || self.batch(&mut rng, &mut counts);
            match catch_unwind(AssertUnwindSafe(batch)) {
                Ok(Ok(mut observed)) => lock(&self.rounds[parity]).append(&mut observed),
                Ok(Err(wrong)) => self.fail(wrong),
                Err(_) => {
                    self.fail(Violation { rule: "panic", detail: "see the output".into() });
                }
            }
            let judges = round % self.plan.threads as u64 == thread as u64;
            self.barrier.wait();
            // Between the two meetings nobody runs or judges, so all threads read the same, and
            // what the store tells of left in this round.
            if judges {
                lock(&self.departures[parity]).told.extend(self.store.departed());
            }
            let stopped = self.stop.load(Ordering::SeqCst);
            self.barrier.wait();
            if stopped {
                break;
            }
            if judges {
                counts.departures += self.judge(parity);
                counts.histories += 1;
            }
        }
        lock(&self.counts).add(&counts);
    }

    fn batch(&self, rng: &mut Rng, counts: &mut Counts) -> Result<Vec<Judged>, Violation> {
        (0..self.plan.batch).map(|_| self.transaction(rng, counts)).collect()
    }

    fn fail(&self, wrong: Violation) {
        lock(&self.wrong).get_or_insert(wrong);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Judges a round, and answers how many entries left in it.
    fn judge(&self, parity: usize) -> u64 {
        let round = std::mem::take(&mut *lock(&self.rounds[parity]));
        let mut departures = lock(&self.departures[parity]);
        let mut state = lock(&self.state);
        match graph::judge(&round, &state, &departures) {
            Ok(after) => *state = after,
            Err(wrong) => self.fail(wrong),
        }
        departures.told.drain().count() as u64
    }

    /// Makes entries leave now and then.
    fn disturb(&self, rng: &mut Rng) {
        let share = self.plan.profile.departures;
        if share == 0 || !rng.percent(share) {
            return;
        }
        match departure(rng, self.plan.window) {
            Action::Evict(key) => self.store.evict(key),
            Action::Press => self.store.press(),
            _ => self.store.vacuum(),
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn transaction(&self, rng: &mut Rng, counts: &mut Counts) -> Result<Judged, Violation> {
        let kind = self.plan.profile.kind(rng);
        let length = 1 + rng.small(self.plan.profile.operations);
        let begin = self.tick();
        let mut probe = Probe::default();
        if kind == Kind::ReadOnly && rng.percent(40) {
            let key = self.plan.window.key(rng);
            probe.seen[usize::from(key)] = self.store.look(key);
            probe.known = bit(key);
            probe.tracked = bit(key);
            counts.snapshots += 1;
            return Ok(Judged { end: self.tick(), ..Judged::looked(begin, &probe) });
        }
        let Kind::ReadWrite(level) = kind else {
            let snap = self.store.snapshot();
            let claimed = snap.snapshot_timestamp();
            for _ in 0..length {
                self.disturb(rng);
                match probe.read(&snap, read(rng, self.plan.window)) {
                    Ok(()) => {}
                    Err(Stop::Wrong(wrong)) => return Err(wrong),
                    Err(Stop::Abort(abort)) => {
                        let detail = format!("{abort:?}");
                        return Err(Violation { rule: "snapshot aborted", detail });
                    }
                }
            }
            drop(snap);
            counts.snapshots += 1;
            return Ok(self.describe(kind, begin, claimed, &probe, Ok(0)));
        };
        let txn = self.store.begin(level);
        let claimed = txn.snapshot_timestamp();
        let mut refused = None;
        for _ in 0..length {
            self.disturb(rng);
            let action = operation(rng, self.plan.window);
            let fresh = if action.writes() { self.fresh() } else { 0 };
            match probe.run(&txn, action, fresh) {
                Ok(()) => {}
                Err(Stop::Wrong(wrong)) => return Err(wrong),
                Err(Stop::Abort(abort)) => refused = refused.or(Some(abort)),
            }
            if refused.is_some() {
                break;
            }
            if rng.below(8) == 0 {
                std::thread::yield_now();
            }
        }
        // What only removes may always commit. An operation may be refused for what was rolled
        // back, too, which the store judges: of 354 bytes it was 378.
        let is_commit = refused.is_none();
        let outcome = match refused {
            Some(abort) => Err(abort),
            None => txn.commit(),
        };
        count(counts, outcome);
        if rng.below(512) == 0 {
            self.store.vacuum();
        }
        let judged = self.describe(kind, begin, claimed, &probe, outcome);
        if is_commit && outcome == Err(Abort::NoRoom) {
            judged.check_wants_room()?;
        }
        Ok(judged)
    }

    fn fresh(&self) -> u64 {
        self.fresh.fetch_add(1, Ordering::Relaxed)
    }

    fn describe(
        &self,
        kind: Kind,
        begin: u64,
        snapshot: u64,
        probe: &Probe,
        outcome: Result<u64, Abort>,
    ) -> Judged {
        let (written, values) = probe.writes();
        // A removal of a key that had no value changes nothing.
        let idle = keys(written & probe.known)
            .filter(|&key| values[usize::from(key)] == ABSENT)
            .filter(|&key| probe.seen[usize::from(key)] == ABSENT)
            .fold(0, |set, key| set | bit(key));
        let writes = written & !idle;
        Judged {
            kind,
            begin,
            end: self.tick(),
            snapshot,
            commit: outcome.ok().filter(|_| writes != 0),
            committed: outcome.is_ok(),
            seen: probe.seen,
            known: probe.known,
            tracked: probe.tracked,
            written: *values,
            writes,
        }
    }
}

fn count(counts: &mut Counts, outcome: Result<u64, Abort>) {
    match outcome {
        Ok(_) => counts.commits += 1,
        Err(Abort::WriteWrite) => counts.write_write += 1,
        Err(Abort::Cycle) => counts.cycles += 1,
        Err(Abort::ReadOnlyPivot) => counts.read_only_pivots += 1,
        Err(Abort::WindowLost) => counts.windows_lost += 1,
        Err(Abort::SearchBudget) => counts.search_budgets += 1,
        Err(Abort::NoRoom) => counts.no_room += 1,
    }
}

//! Random small histories through the real log and certifier, each step judged by the oracle.
//!
//! Method: one thread plays several transactions over a toy store of versions, so that every
//! interleaving of their steps is possible and every history can be repeated. A history is a
//! stream of choices: bytes from proptest, which shrink, or a seeded generator for long runs.
//!
//! Checked for every history:
//!
//! 1. The graph of all that committed, read-only transactions included, has no cycle.
//! 2. Each refusal with a cycle is justified by one in the graph of certified transactions, and
//!    each step of the witness is an edge of it.
//! 3. `reach` of each commit is what a walk over the whole graph finds.
//! 4. Read-only transactions are never refused, nor is anyone else without a lost window, a spent
//!    budget, or a marked snapshot that the commit reaches back past.
//! 5. No horizon for old versions lies above a snapshot.

use super::oracle::{Graph, Record, TRANSACTIONS_MAX, bits};
use super::{Keys, Rules};
use crate::epoch::Collector;
use crate::id::Timestamp;
use crate::ssi::footprint::{Edge, Witness};
use crate::ssi::{CommitLog, Entry, Footprint, Kind, Patience, Refusal, Registration, Seen};
use proptest::prelude::*;
use std::ops::AddAssign;

/// Where choices come from; `None` ends the history.
trait Choices {
    fn choose(&mut self, below: usize) -> Option<usize>;
}

struct Bytes<'a>(&'a [u8]);

impl Choices for Bytes<'_> {
    fn choose(&mut self, below: usize) -> Option<usize> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(first) % below)
    }
}

/// A generator with 64 bits of state (xorshift, multiplied).
struct Seeded {
    state: u64,
    left: usize,
}

impl Choices for Seeded {
    fn choose(&mut self, below: usize) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let mixed = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).ok().map(|raw| raw % below)
    }
}

#[derive(Clone, Debug)]
struct Shape {
    keys: u8,
    running_max: usize,
    rules: Rules,
    /// Out of 16 transactions, how many are declared read-only, and how many use plain snapshots.
    read_only: usize,
    snapshot_isolation: usize,
    /// Some transactions are short, and others see many of them pass.
    is_uneven: bool,
}

/// What became of the transactions of some histories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcomes {
    histories: u64,
    commits: u64,
    rescued: u64,
    read_only: u64,
    readers_unnumbered: u64,
    readers_waiting: u64,
    readers_behind: u64,
    write_conflicts: u64,
    overwritten: u64,
    cycles: u64,
    pivots: u64,
    pivots_on_a_cycle: u64,
    windows_lost: u64,
    budgets: u64,
}

impl AddAssign for Outcomes {
    fn add_assign(&mut self, more: Self) {
        self.histories += more.histories;
        self.commits += more.commits;
        self.rescued += more.rescued;
        self.read_only += more.read_only;
        self.readers_unnumbered += more.readers_unnumbered;
        self.readers_waiting += more.readers_waiting;
        self.readers_behind += more.readers_behind;
        self.write_conflicts += more.write_conflicts;
        self.overwritten += more.overwritten;
        self.cycles += more.cycles;
        self.pivots += more.pivots;
        self.pivots_on_a_cycle += more.pivots_on_a_cycle;
        self.windows_lost += more.windows_lost;
        self.budgets += more.budgets;
    }
}

enum Hold {
    ReadWrite(Registration<Keys>),
    ReadOnly(Entry),
}

struct Running {
    hold: Hold,
    /// Its reads count.
    serializable: bool,
    snapshot: u64,
    record: usize,
    keys: Keys,
}

struct Player<'c, C> {
    log: &'c CommitLog<Keys>,
    collector: &'c Collector,
    shape: &'c Shape,
    choices: C,
    running: Vec<Option<Running>>,
    records: Vec<Record>,
    /// For each key the commit timestamps of its versions; version 0 is absence at 0.
    versions: Vec<Vec<u64>>,
    moment: usize,
    /// What was linked and is not acknowledged yet, with the confirmation that it waits for.
    unconfirmed: Vec<(usize, Timestamp)>,
    outcomes: Outcomes,
}

/// Plays one history to its end and judges it.
fn play(shape: &Shape, choices: impl Choices) -> Outcomes {
    let collector = Collector::new();
    let log = CommitLog::starting_at(Timestamp::ZERO, shape.rules.clone());
    let mut player = Player {
        log: &log,
        collector: &collector,
        shape,
        choices,
        running: (0..shape.running_max).map(|_| None).collect(),
        records: Vec::new(),
        versions: vec![vec![0]; usize::from(shape.keys)],
        moment: 0,
        unconfirmed: Vec::new(),
        outcomes: Outcomes { histories: 1, ..Outcomes::default() },
    };
    while player.records.len() < TRANSACTIONS_MAX && player.step().is_some() {}
    for at in 0..shape.running_max {
        if let Some(running) = player.running[at].take() {
            player.end(running);
        }
    }
    let graph = Graph::new(&player.records, |record| record.ended.is_some());
    assert_eq!(graph.on_a_cycle(), None, "keeps 1: {:#?}", player.records);
    player.outcomes
}

impl<C: Choices> Player<'_, C> {
    fn step(&mut self) -> Option<()> {
        self.moment += 1;
        let mut at = self.choices.choose(self.running.len())?;
        if self.shape.is_uneven {
            at = self.choices.choose(at + 1)?;
        }
        let Some(mut running) = self.running[at].take() else {
            self.running[at] = Some(self.begin()?);
            return Some(());
        };
        match self.choices.choose(16)? {
            0..=4 => {
                let key = self.key()?;
                self.read(&mut running, key..=key);
            }
            5..=6 => {
                let (a, b) = (self.key()?, self.key()?);
                self.read(&mut running, a.min(b)..=a.max(b));
            }
            7..=11 => {
                let key = self.key()?;
                if matches!(running.hold, Hold::ReadWrite(_)) {
                    running.keys.writes.insert(key);
                }
            }
            12 if self.shape.rules.confirm && self.choices.choose(3)? > 0 => {
                let waiting = self.choices.choose(self.unconfirmed.len().max(1))?;
                if let Some(&(_, until)) = self.unconfirmed.get(waiting) {
                    self.confirm(until);
                }
            }
            12 => {
                let guard = self.collector.pin();
                let _ = self.log.trim(&guard);
                let horizon = self.log.horizons(&guard).any.get();
                let needed = self.running.iter().flatten().map(|other| other.snapshot);
                let needed = needed.chain([running.snapshot]).min();
                assert!(needed >= Some(horizon), "keeps 5");
                drop(guard);
                self.collector.collect();
            }
            13 if self.choices.choose(4)? == 0 => {
                self.roll_back(running);
                return Some(());
            }
            _ => {
                self.end(running);
                return Some(());
            }
        }
        self.running[at] = Some(running);
        Some(())
    }

    fn key(&mut self) -> Option<u8> {
        let key = self.choices.choose(usize::from(self.shape.keys))?;
        u8::try_from(key).ok()
    }

    fn begin(&mut self) -> Option<Running> {
        let guard = self.collector.pin();
        let dice = self.choices.choose(16)?;
        let is_read_only = dice < self.shape.read_only;
        let serializable = dice >= self.shape.read_only + self.shape.snapshot_isolation;
        let (hold, snapshot) = if is_read_only {
            let (mut entry, seen) = self.log.begin_seen(None, &guard);
            let snapshot = match seen {
                Seen::At(snapshot) => snapshot,
                Seen::Unconfirmed(until) => {
                    self.outcomes.readers_waiting += 1;
                    self.confirm(until);
                    self.log.settle_seen(&mut entry, until);
                    until
                }
            };
            self.outcomes.readers_behind += u64::from(snapshot < self.log.now(&guard));
            (Hold::ReadOnly(entry), snapshot)
        } else {
            let registration = if self.choices.choose(16)? == 0 {
                self.log.begin_gated(Patience::NONE, None, &guard)
            } else {
                self.log.begin(Kind::Tracked, None, &guard)
            };
            let snapshot = registration.snapshot();
            (Hold::ReadWrite(registration), snapshot)
        };
        let snapshot = snapshot.get();
        let record = self.records.len();
        let began = self.moment;
        self.records.push(Record { began, snapshot, read_only: is_read_only, ..Record::default() });
        let serializable = serializable || is_read_only;
        Some(Running { hold, serializable, snapshot, record, keys: Keys::default() })
    }

    /// Reads keys at the snapshot, except those that the transaction wrote itself.
    fn read(&mut self, running: &mut Running, keys: impl Iterator<Item = u8>) {
        for key in keys {
            if !running.serializable || running.keys.writes.contains(&key) {
                continue;
            }
            let seen = self.versions[usize::from(key)]
                .iter()
                .rposition(|&timestamp| timestamp <= running.snapshot)
                .expect("absence is always visible");
            running.keys.reads.insert(key);
            let reads = &mut self.records[running.record].reads;
            if !reads.contains(&(key, seen)) {
                reads.push((key, seen));
            }
        }
    }

    fn roll_back(&mut self, running: Running) {
        match running.hold {
            Hold::ReadWrite(registration) => self.log.leave(registration),
            Hold::ReadOnly(entry) => self.log.leave_seen(entry),
        }
        let record = &mut self.records[running.record];
        record.reads.clear();
        record.ended = None;
    }

    fn end(&mut self, running: Running) {
        self.moment += 1;
        let Running { hold, serializable, record, keys, .. } = running;
        match hold {
            Hold::ReadOnly(entry) => {
                self.log.leave_seen(entry);
                self.records[record].ended = Some(self.moment);
                self.outcomes.read_only += 1;
            }
            Hold::ReadWrite(registration) if keys.has_writes() => {
                self.commit(registration, record, keys);
            }
            Hold::ReadWrite(registration) if serializable => {
                self.commit_reads(registration, record, keys);
            }
            Hold::ReadWrite(registration) => {
                let snapshot = registration.snapshot();
                self.log.leave(registration);
                self.acknowledge(record, snapshot);
            }
        }
    }

    fn commit(&mut self, registration: Registration<Keys>, record: usize, keys: Keys) {
        let (log, snapshot) = (self.log, registration.snapshot().get());
        let newest = |key: &u8| *self.versions[usize::from(*key)].last().expect("never empty");
        if keys.writes.iter().any(|key| newest(key) > snapshot) {
            self.outcomes.write_conflicts += 1;
            self.records[record].reads.clear();
            log.leave(registration);
            return;
        }
        let guard = self.collector.pin();
        self.records[record].writes =
            keys.writes.iter().map(|&key| (key, self.versions[usize::from(key)].len())).collect();
        let writes = keys.writes.clone();
        let pending = log.prepare(&registration, None, keys, &guard);
        log.admit(&registration);
        match log.commit(pending, &registration, &guard) {
            Ok(linked) => {
                let timestamp = linked.timestamp();
                for key in writes {
                    self.versions[usize::from(key)].push(timestamp.get());
                }
                let _ = log.finish(linked, registration, &guard);
                self.check_commit(record, timestamp);
            }
            Err(refused) => {
                let refusal = refused.refusal.clone();
                drop(refused);
                log.leave(registration);
                self.check_refusal(record, &refusal);
            }
        }
    }

    fn commit_reads(&mut self, registration: Registration<Keys>, record: usize, keys: Keys) {
        let guard = self.collector.pin();
        let before = self.log.now(&guard);
        let result = self.log.commit_reads(&registration, None, keys, &guard);
        self.log.leave(registration);
        match result {
            Ok(timestamp) if timestamp == before => {
                self.acknowledge(record, timestamp);
                self.outcomes.readers_unnumbered += 1;
            }
            Ok(timestamp) => self.check_commit(record, timestamp),
            Err(refusal) => self.check_refusal(record, &refusal),
        }
    }

    /// The transaction returns to its caller: at once, or with the confirmation of `timestamp`.
    fn acknowledge(&mut self, record: usize, timestamp: Timestamp) {
        let waits = self.shape.rules.confirm && timestamp > self.log.confirmed.newest();
        self.records[record].ended = Some(self.moment);
        if waits {
            self.records[record].acknowledged = usize::MAX;
            self.unconfirmed.push((record, timestamp));
        }
    }

    fn confirm(&mut self, until: Timestamp) {
        self.log.confirm(until);
        let moment = self.moment;
        self.unconfirmed.retain(|&(record, timestamp)| {
            let waits = timestamp > until;
            if !waits {
                self.records[record].acknowledged = moment;
            }
            waits
        });
    }

    /// Keeps 3.
    fn check_commit(&mut self, record: usize, timestamp: Timestamp) {
        self.records[record].timestamp = Some(timestamp.get());
        self.acknowledge(record, timestamp);
        self.records[record].certified = true;
        self.outcomes.commits += 1;
        let guard = self.collector.pin();
        let reach = self.log.tail(&guard).reach();
        let graph = Graph::new(&self.records, |record| record.certified);
        let oldest = bits(graph.reachable(record))
            .filter_map(|at| self.records[at].timestamp)
            .min()
            .map_or(Timestamp::MAX, Timestamp::from_raw);
        assert_eq!(reach, oldest, "keeps 3: {record} of {:#?}", self.records);
        if reach < Timestamp::MAX {
            self.outcomes.rescued += 1;
        }
    }

    /// Keeps 2 and 4.
    fn check_refusal(&mut self, record: usize, refusal: &Refusal) {
        self.records[record].ended = Some(self.moment);
        let judge = |records: &[Record], with_readers: bool| {
            let graph = Graph::new(records, |other| {
                other.certified || std::ptr::eq(other, &raw const records[record]) || {
                    with_readers && other.ended.is_some()
                }
            });
            let on_a_cycle = graph.reachable(record) & 1 << record != 0;
            (graph, on_a_cycle)
        };
        match refusal {
            Refusal::Cycle(witness) => {
                let (graph, on_a_cycle) = judge(&self.records, false);
                assert!(on_a_cycle, "keeps 2: {record} of {:#?}", self.records);
                self.check_witness(record, witness, &graph);
                self.outcomes.cycles += 1;
            }
            Refusal::ReadOnlyPivot { .. } => {
                let (_, on_a_cycle) = judge(&self.records, true);
                self.outcomes.pivots += 1;
                self.outcomes.pivots_on_a_cycle += u64::from(on_a_cycle);
            }
            Refusal::Overwritten { .. } => self.outcomes.overwritten += 1,
            Refusal::WindowLost => self.outcomes.windows_lost += 1,
            Refusal::SearchBudget => self.outcomes.budgets += 1,
            Refusal::Locked { .. } => panic!("nothing was locked"),
        }
        let record = &mut self.records[record];
        record.ended = None;
        record.reads.clear();
        record.writes.clear();
    }

    fn check_witness(&self, victim: usize, witness: &Witness, graph: &Graph) {
        let of = |timestamp: Timestamp| {
            let found = self.records.iter().position(|r| r.timestamp == Some(timestamp.get()));
            found.expect("a witness names commits")
        };
        let mut from = victim;
        let ends = witness.steps.iter().map(|step| (step.edge, of(step.peer.timestamp)));
        for (edge, to) in ends.chain([(witness.closing, victim)]) {
            match edge {
                // The graph has edges to the next writer of a key only; a later one follows it.
                Edge::Overwritten => assert!(graph.reachable(from) & 1 << to != 0),
                Edge::Before => {
                    assert!(self.records[from].timestamp <= Some(self.records[to].snapshot));
                    assert!(graph.has_edge(from, to));
                }
            }
            from = to;
        }
    }
}

fn shape(keys: u8, running_max: usize) -> Shape {
    let rules = Rules { registry_slots: 4, ..Rules::default() };
    Shape { keys, running_max, rules, read_only: 3, snapshot_isolation: 2, is_uneven: true }
}

/// Plays `histories` histories of many shapes from one seed.
fn play_many(histories: u64, seed: u64, alter: impl Fn(&mut Shape)) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for n in 0..histories {
        let state = (seed + n).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut choices = Seeded { state, left: usize::MAX };
        let mut choose = |below| choices.choose(below).expect("endless");
        let keys = u8::try_from(2 + choose(9)).expect("small");
        let mut shape = shape(keys, 2 + choose(7));
        shape.read_only = choose(4);
        shape.snapshot_isolation = choose(4);
        shape.is_uneven = choose(2) == 0;
        alter(&mut shape);
        choices.left = 40 + choices.choose(600).expect("endless");
        let played =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&shape, choices)));
        match played {
            Ok(more) => outcomes += more,
            Err(panic) => {
                eprintln!("history {n} of seed {seed}, {shape:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    outcomes
}

/// Histories of a short run: fewer under Miri.
const HISTORIES: u64 = if cfg!(miri) { 3 } else { 4000 };

#[test]
fn every_history_is_strictly_serializable_and_every_cycle_is_real() {
    let outcomes = play_many(HISTORIES, 1, |_| {});
    println!("{outcomes:?}");
    if !cfg!(miri) {
        assert!(outcomes.cycles > 1000 && outcomes.rescued > 1000 && outcomes.pivots > 100);
        assert!(outcomes.readers_unnumbered > 100);
    }
    assert_eq!((outcomes.windows_lost, outcomes.budgets, outcomes.overwritten), (0, 0, 0));
}

#[test]
fn reference_mode_is_strictly_serializable() {
    let outcomes = play_many(HISTORIES / 3, 2, |shape| shape.rules.rescue = false);
    assert_eq!((outcomes.cycles, outcomes.pivots, outcomes.rescued), (0, 0, 0));
}

/// Commits are confirmed some time after their link, and in between read-only snapshots are taken
/// behind them.
#[test]
fn snapshots_behind_unconfirmed_commits_are_strictly_serializable() {
    let outcomes = play_many(HISTORIES, 4, |shape| {
        shape.rules.confirm = true;
        shape.read_only = 4;
    });
    println!("{outcomes:?}");
    assert!(cfg!(miri) || outcomes.readers_behind > 1000 && outcomes.readers_waiting > 100);
}

#[test]
fn lost_windows_and_spent_budgets_only_add_refusals() {
    let outcomes = play_many(HISTORIES / 3, 3, |shape| {
        shape.rules.retained_bytes_max = 600;
        shape.rules.search_budget = 4;
    });
    println!("{outcomes:?}");
    assert!(cfg!(miri) || outcomes.windows_lost > 20 && outcomes.budgets > 20);
}

/// For long runs: `PALISADE_HISTORIES` says how many, `PALISADE_SEED` where to begin.
#[test]
#[ignore = "runs for as long as it is told to; the fixed runs above are its short form"]
fn ssi_long() {
    let read = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (histories, seed) = (read("PALISADE_HISTORIES", 100_000), read("PALISADE_SEED", 1000));
    println!("{histories} histories from seed {seed}");
    println!("{:?}", play_many(histories, seed, |_| {}));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The same, with histories that shrink.
    #[test]
    fn short_histories_are_strictly_serializable(
        choices in prop::collection::vec(any::<u8>(), 0..400),
        keys in 1_u8..6,
        running_max in 1_usize..6,
    ) {
        play(&shape(keys, running_max), Bytes(&choices));
    }
}

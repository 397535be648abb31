//! What a run does: drawn from one seed, step by step, to fit the state of the moment.

use std::collections::BTreeSet;

use palisade::Durability;
use palisade::testing::{Fault, FaultDisk, Op as DiskOp, Sabotages};

use crate::engine::Setup;
use crate::model::{NAMES, Name, Plan, State, Step, Value, are_alike};
use crate::rng::Rng;

/// What may go wrong in a run besides crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Nothing.
    Calm,
    /// One call of each life fails.
    Faults,
    /// The device is full at times.
    Full,
}

impl Scene {
    pub(crate) fn pick(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0..5 => Self::Calm,
            5..7 => Self::Faults,
            _ => Self::Full,
        }
    }
}

/// The habits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    keys: u32,
    /// So many names are used at a time.
    names_max: usize,
    steps_max: u32,
    /// Each value has this length, if it is set: then records come to lie where others were.
    length: Option<usize>,
    /// One value in so many is larger than a segment.
    huge_every: u32,
    checkpoint_percent: u32,
    catalog_percent: u32,
    /// There is a limit to the memory.
    is_limited: bool,
}

impl Habits {
    pub(crate) fn pick(rng: &mut Rng) -> Self {
        let is_uniform = rng.percent(40);
        let length = Value::LENGTH_MIN + rng.below(400) as usize;
        Self {
            keys: 2 + rng.below(30),
            names_max: 1 + rng.below(6) as usize,
            steps_max: if is_uniform { 1 } else { 1 + rng.below(6) },
            length: is_uniform.then_some(length),
            huge_every: if rng.percent(30) { 40 } else { 0 },
            checkpoint_percent: 2 + rng.below(12),
            catalog_percent: 1 + rng.below(10),
            is_limited: false,
        }
    }

    /// Few buckets of large values, which have no room in memory all at once.
    fn limited(self) -> Self {
        Self {
            keys: 16 + self.keys / 2,
            names_max: 1 + self.names_max % 2,
            steps_max: self.steps_max.min(3),
            length: None,
            huge_every: 0,
            is_limited: true,
            ..self
        }
    }
}

/// How the database is opened for one life.
pub(crate) fn setup(rng: &mut Rng, sabotages: Sabotages, is_limited: bool) -> Setup {
    let durability = if rng.percent(50) { Durability::Full } else { Durability::Relaxed };
    Setup {
        durability,
        segment_bytes: 4096 * (2 + rng.below(3)),
        table_bytes: 1024 * u64::from(1 + rng.below(8)),
        flush_after_commits: rng.percent(30).then(|| u64::from(1 + rng.below(12))),
        seed: rng.next(),
        sabotages,
        memory_limit: is_limited.then(|| 1024 * u64::from(16 + rng.below(12))),
    }
}

/// One call to the database.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Transact(Plan),
    /// Opens a bucket, and makes it if it is not there.
    Open(Name),
    Drop(Name),
    Rename(Name, Name),
    /// With transactions that commit while it runs.
    Checkpoint(Vec<Plan>),
    Sync(Vec<Plan>),
    /// Waits for the last receipt.
    Wait,
    Vacuum,
}

impl Op {
    /// Whether it can be asked for in this state, with these buckets open.
    pub(crate) fn fits(&self, state: &State, open: &BTreeSet<Name>) -> bool {
        let is_there = |name: Name| state.content(name).is_some();
        let runs =
            |plan: &Plan| plan.steps.iter().filter_map(Step::name).all(|it| open.contains(it));
        match self {
            Self::Transact(plan) => runs(plan),
            Self::Open(name) => !open.contains(name),
            Self::Drop(name) => is_there(name),
            Self::Rename(from, to) => is_there(from) && !is_there(to),
            Self::Checkpoint(plans) | Self::Sync(plans) => plans.iter().all(runs),
            Self::Wait | Self::Vacuum => true,
        }
    }
}

/// Draws what comes next.
#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) rng: Rng,
    pub(crate) habits: Habits,
    tag: u32,
}

impl Planner {
    pub(crate) fn new(mut rng: Rng, is_limited: bool) -> Self {
        let habits = Habits::pick(&mut rng);
        let habits = if is_limited { habits.limited() } else { habits };
        Self { rng, habits, tag: 0 }
    }

    fn one<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let length = u32::try_from(from.len()).expect("lists are short");
        (length > 0).then(|| from[self.rng.below(length) as usize])
    }

    pub(crate) fn op(&mut self, state: &State, open: &BTreeSet<Name>) -> Op {
        let habits = self.habits;
        if open.is_empty() || self.rng.percent(habits.catalog_percent) {
            return self.catalog_op(state, open);
        }
        if self.rng.percent(habits.checkpoint_percent) {
            return Op::Checkpoint(self.interludes(open));
        }
        match self.rng.below(100) {
            0..5 => Op::Sync(self.interludes(open)),
            5..7 => Op::Wait,
            7..9 => Op::Vacuum,
            _ => Op::Transact(self.plan(open)),
        }
    }

    fn catalog_op(&mut self, state: &State, open: &BTreeSet<Name>) -> Op {
        let there: Vec<Name> = state.names().collect();
        let closed: Vec<Name> = NAMES.into_iter().filter(|name| !open.contains(name)).collect();
        let kind = self.rng.below(8);
        if let Some(name) = self.one(&there) {
            let free = NAMES.into_iter().filter(|&to| !there.contains(&to) && are_alike(name, to));
            let free: Vec<Name> = free.collect();
            match (kind, self.one(&free)) {
                (0 | 1, _) => return Op::Drop(name),
                (2..4, Some(to)) => return Op::Rename(name, to),
                _ => {}
            }
        }
        let may_make = there.len() < self.habits.names_max;
        let closed: Vec<Name> =
            closed.into_iter().filter(|name| may_make || there.contains(name)).collect();
        self.one(&closed).map_or(Op::Vacuum, Op::Open)
    }

    fn interludes(&mut self, open: &BTreeSet<Name>) -> Vec<Plan> {
        // A commit inside of a checkpoint, on its thread, would wait for it if it needed room.
        let none = self.habits.is_limited || self.rng.percent(30);
        let count = if none { 0 } else { self.rng.below(8) };
        let mut plan = || Plan { is_raised: false, ..self.plan_of(open, 6) };
        (0..count).map(|_| plan()).collect()
    }

    /// A transaction over open buckets.
    fn plan(&mut self, open: &BTreeSet<Name>) -> Plan {
        self.plan_of(open, self.habits.steps_max)
    }

    fn plan_of(&mut self, open: &BTreeSet<Name>, steps_max: u32) -> Plan {
        let names: Vec<Name> = open.iter().copied().collect();
        let count = 1 + self.rng.below(steps_max);
        let mut steps: Vec<Step> = (0..count).filter_map(|_| self.step(&names)).collect();
        if count > 2 && self.rng.percent(15) {
            let places = u32::try_from(steps.len() + 1).expect("plans are short");
            let (one, two) = (self.rng.below(places), self.rng.below(places));
            steps.insert(one.max(two) as usize, Step::Back);
            steps.insert(one.min(two) as usize, Step::Save);
        }
        Plan { steps, is_raised: self.rng.percent(8), rolls_back: self.rng.percent(3) }
    }

    /// A transaction that writes one entry.
    pub(crate) fn insertion(&mut self, name: Name) -> Plan {
        let steps = vec![Step::Insert(name, self.key(), self.value())];
        Plan { steps, is_raised: false, rolls_back: false }
    }

    fn step(&mut self, names: &[Name]) -> Option<Step> {
        let name = self.one(names)?;
        let key = self.key();
        Some(match self.rng.below(100) {
            0..12 => Step::Remove(name, key),
            12..16 => {
                let other = self.key();
                Step::RemoveRange(name, key.min(other), key.max(other))
            }
            16 => Step::Clear(name),
            17..22 => Step::Cache(key, self.rng.below(1000)),
            _ => Step::Insert(name, key, self.value()),
        })
    }

    fn key(&mut self) -> u16 {
        u16::try_from(self.rng.below(self.habits.keys)).expect("there are few keys")
    }

    fn value(&mut self) -> Value {
        self.tag += 1;
        let huge = self.habits.huge_every;
        let length = if huge > 0 && self.rng.below(huge) == 0 {
            5000 + self.rng.below(15_000)
        } else {
            match self.rng.below(16) {
                0 => self.rng.below(3000),
                1..4 => self.rng.below(500),
                _ => self.rng.below(60),
            }
        };
        let length = if self.habits.is_limited { 1200 + length } else { length };
        let length = self.habits.length.unwrap_or(Value::LENGTH_MIN + length as usize);
        Value { tag: self.tag, length }
    }

    /// What goes wrong in a life.
    pub(crate) fn fault(&mut self) -> Failing {
        const FAULTS: [Fault; 6] = [
            Fault::Io,
            Fault::Io,
            Fault::NoSpace,
            Fault::Interrupted,
            Fault::Short,
            Fault::WriteBack,
        ];
        const OPS: [DiskOp; 10] = [
            DiskOp::SyncData,
            DiskOp::SyncData,
            DiskOp::SyncAll,
            DiskOp::SyncDir,
            DiskOp::Rename,
            DiskOp::Write,
            DiskOp::Read,
            DiskOp::Allocate,
            DiskOp::Remove,
            DiskOp::Open,
        ];
        let fault = self.one(&FAULTS).expect("there are some");
        match self.rng.below(8) {
            0..2 => Failing::At(u64::from(self.rng.below(40)) + 1, fault),
            2..4 => Failing::At(u64::from(self.rng.below(300)) + 1, fault),
            _ => {
                let op = self.one(&OPS).expect("there are some");
                Failing::Nth(op, u64::from(self.rng.below(20)) + 1, fault)
            }
        }
    }
}

/// Which call fails, counted from now on, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    At(u64, Fault),
    Nth(DiskOp, u64, Fault),
}

impl Failing {
    pub(crate) fn plan(self, disk: &FaultDisk) {
        match self {
            Self::At(call, fault) => disk.fail_at(disk.calls() + call, fault),
            Self::Nth(op, nth, fault) => disk.fail_nth(op, nth, fault),
        }
    }

    /// Whether nobody may notice: what is cut short or interrupted is taken up again.
    pub(crate) fn is_harmless(self) -> bool {
        match self {
            Self::At(_, fault) => fault == Fault::Short,
            Self::Nth(op, _, fault) => {
                let is_tried_again = matches!(op, DiskOp::Read | DiskOp::Write);
                fault == Fault::Short || fault == Fault::Interrupted && is_tried_again
            }
        }
    }
}

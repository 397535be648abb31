//! Models of the keeper over the shipped files: what is handed out, let go and admitted again.
//!
//! The records follow the rule that the keeper asks of its callers: whether a record has a value
//! and whether it is held are two bits of one word, and only whoever sets the second one admits.

use crate::evict::{EvictionPolicy, Keeper, Picked, Resident};
use crate::play::{Role, play};
use crate::sync::{AtomicU8, Ordering};

const LIVE: u8 = 1;
const HELD: u8 = 2;

#[derive(Debug)]
struct Record {
    word: AtomicU8,
    hash: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Handle(*const Record);

// SAFETY: the stage owns the records, outlives all roles, and records are shared by their atomics.
unsafe impl Send for Handle {}

impl Handle {
    fn record<'a>(self) -> &'a Record {
        // SAFETY: as for `Send`.
        unsafe { &*self.0 }
    }

    fn word(self) -> u8 {
        self.record().word.load(Ordering::Acquire)
    }

    fn write(self, keeper: &Keeper<Handle>) {
        if self.record().word.fetch_or(LIVE | HELD, Ordering::AcqRel) & HELD == 0 {
            keeper.admit(self);
        }
    }

    fn delete(self) {
        self.record().word.fetch_and(!LIVE, Ordering::AcqRel);
    }

    /// What was handed out is free, unless it has a value again.
    fn let_go(self, keeper: &Keeper<Handle>) {
        let word = &self.record().word;
        assert!(self.word() & HELD != 0, "handed out twice");
        if word.compare_exchange(HELD, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            keeper.readmit(self);
        }
    }
}

impl Resident for Handle {
    fn heat(self) -> Option<u8> {
        (self.word() & LIVE != 0).then_some(0)
    }

    fn set_heat(self, _: u8) {}

    fn weight(self) -> u64 {
        1
    }

    fn hash(self) -> u64 {
        self.record().hash
    }

    fn is_pinned(self) -> bool {
        false
    }
}

struct Stage {
    keeper: Keeper<Handle>,
    records: Vec<Record>,
}

impl Stage {
    fn handle(&self, at: usize) -> Handle {
        Handle(&raw const self.records[at])
    }
}

/// Two records with values, and one without.
fn stage() -> Stage {
    let records = (0..3).map(|hash| Record { word: AtomicU8::new(0), hash }).collect();
    let stage = Stage { keeper: Keeper::new(EvictionPolicy::S3Fifo, 0), records };
    (0..2).for_each(|at| stage.handle(at).write(&stage.keeper));
    stage
}

/// Evicts one entry. True if there was one.
fn evict_one(stage: &Stage) -> bool {
    let mut picked = Picked::default();
    stage.keeper.pick(1, &mut picked);
    for victim in &picked.victims {
        victim.delete();
        victim.let_go(&stage.keeper);
    }
    picked.gone.iter().for_each(|gone| gone.let_go(&stage.keeper));
    !picked.victims.is_empty()
}

fn evictor(stage: &Stage) {
    assert!(evict_one(stage), "there is an entry for each evictor");
}

fn asker(stage: &Stage) {
    evict_one(stage);
}

/// Writes a record for the first time.
fn newcomer(stage: &Stage) {
    stage.handle(2).write(&stage.keeper);
}

/// Writes a record again that is being evicted.
fn writer(stage: &Stage) {
    stage.handle(0).write(&stage.keeper);
}

/// Deletes and writes again.
fn changer(stage: &Stage) {
    stage.handle(0).delete();
    stage.handle(0).write(&stage.keeper);
}

fn purger(stage: &Stage) {
    let mut gone = Vec::new();
    stage.keeper.purge(&mut 100, &mut gone);
    gone.iter().for_each(|gone| gone.let_go(&stage.keeper));
}

/// What has a value is held, and what is held is held once.
fn nothing_is_lost(stage: &Stage) {
    let words = (0..3).map(|at| stage.handle(at).word());
    assert!(words.clone().all(|word| word & LIVE == 0 || word & HELD != 0), "an entry was lost");
    let held = words.filter(|word| word & HELD != 0).count();
    assert_eq!(stage.keeper.census().entries, held);
    let mut drained = Vec::new();
    stage.keeper.drain(|handle| drained.push(handle));
    assert_eq!(drained.len(), held);
    let twice = |at: usize| drained[..at].contains(&drained[at]);
    assert!(!(0..held).any(twice), "held twice");
}

/// Two look for a victim at once: there is one for each.
pub fn pick_and_pick(main: usize) {
    const ROLES: &[Role<Stage>] = &[evictor, evictor];
    play(3, main, stage, ROLES, nothing_is_lost);
}

/// An entry is admitted while another one is picked.
pub fn pick_and_admit(main: usize) {
    const ROLES: &[Role<Stage>] = &[evictor, newcomer];
    play(3, main, stage, ROLES, nothing_is_lost);
}

/// An entry gets a value while it is evicted.
pub fn pick_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[asker, writer];
    play(3, main, stage, ROLES, nothing_is_lost);
}

/// An entry loses its value and gets one again while it is evicted.
pub fn pick_and_change(main: usize) {
    const ROLES: &[Role<Stage>] = &[asker, changer];
    play(3, main, stage, ROLES, nothing_is_lost);
}

/// The same while gone entries are purged.
pub fn purge_and_change(main: usize) {
    const ROLES: &[Role<Stage>] = &[purger, changer];
    play(3, main, stage, ROLES, nothing_is_lost);
}

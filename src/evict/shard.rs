//! A part of the entries, by the hash of their keys.
//!
//! 1. An entry is either in the order or aside; `take_out` gives each to one caller.
//!
//! Used by `keeper`, under the shard's lock.

use super::adaptive::Arc;
use super::clock::Clock;
use super::frequency::Lfu;
use super::order::{Order, Step};
use super::policy::EvictionPolicy;
use super::random::Random;
use super::recency::Lru;
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;
use super::s3_fifo::S3Fifo;

/// Victims of one call at most.
const BATCH: usize = 64;
/// Entries in a row that the hand may find better than their place; the next one goes anyway.
const PATIENCE: usize = 4096;
/// Entries that one call looks at, at most.
const STEPS_MAX: usize = 2 * PATIENCE;
/// Entries aside that one call asks whether they are still pinned.
const ASKED: usize = 16;

/// What was taken out. The lists grow by each call and are the caller's to empty.
#[derive(Debug)]
pub(crate) struct Picked<R> {
    /// They are to be evicted; those that cannot be are to be readmitted.
    pub(crate) victims: Vec<R>,
    /// They have no value any more.
    pub(crate) gone: Vec<R>,
    /// Bytes of the victims.
    pub(crate) bytes: u64,
    /// Entries that were met and must stay for now.
    pub(crate) pinned: usize,
    /// Entries that were looked at.
    pub(crate) steps: usize,
}

impl<R> Default for Picked<R> {
    fn default() -> Self {
        Self { victims: Vec::new(), gone: Vec::new(), bytes: 0, pinned: 0, steps: 0 }
    }
}

/// What a keeper holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Entries that may go, and those that are gone and were not met yet.
    pub(crate) entries: usize,
    /// Bytes of these, as each was last weighed.
    pub(crate) weight: u64,
    /// Entries that were pinned when the hand came to them.
    pub(crate) pinned: usize,
    pub(crate) pinned_weight: u64,
    /// Keys that are remembered without an entry.
    pub(crate) ghosts: usize,
    /// Bytes that keeping all this takes.
    pub(crate) overhead: usize,
}

#[derive(Debug)]
enum Policy<R> {
    S3Fifo(S3Fifo<R>),
    Lru(Lru<R>),
    Lfu(Lfu<R>),
    Arc(Box<Arc<R>>),
    Random(Random<R>),
}

impl<R: Resident> Policy<R> {
    fn order(&mut self) -> &mut (dyn Order<R> + '_) {
        match self {
            Self::S3Fifo(order) => order,
            Self::Lru(order) => order,
            Self::Lfu(order) => order,
            Self::Arc(order) => &mut **order,
            Self::Random(order) => order,
        }
    }
}

#[derive(Debug)]
pub(super) struct Shard<R> {
    policy: Policy<R>,
    /// What was pinned when the hand came to it.
    aside: Ring<R>,
    /// The ring at which the purge is.
    cursor: usize,
}

impl<R: Resident> Shard<R> {
    /// The first shard moves the clock. `Manual` keeps no entries, so it has no shard.
    pub(super) fn new(policy: EvictionPolicy, number: u64) -> Self {
        let leads = number == 0;
        let policy = match policy {
            EvictionPolicy::S3Fifo | EvictionPolicy::Manual => Policy::S3Fifo(S3Fifo::new()),
            EvictionPolicy::Lru => Policy::Lru(Lru::new(leads)),
            EvictionPolicy::Lfu => Policy::Lfu(Lfu::new(leads)),
            EvictionPolicy::Arc => Policy::Arc(Box::new(Arc::new(leads))),
            EvictionPolicy::Random => Policy::Random(Random::new(number)),
        };
        Self { policy, aside: Ring::default(), cursor: 0 }
    }

    pub(super) fn admit(&mut self, resident: R, clock: &Clock) {
        self.policy.order().admit(Slot::new(resident), clock);
    }

    pub(super) fn readmit(&mut self, resident: R, clock: &Clock) {
        self.policy.order().readmit(Slot::new(resident), clock);
    }

    /// Takes out victims of `bytes`, or fewer where a bound of one call is met.
    pub(super) fn take_out(&mut self, bytes: u64, clock: &Clock, picked: &mut Picked<R>) {
        self.ask_aside(ASKED, clock, picked);
        let (mut found, mut victims, mut moved, mut last_try) = (0, 0, 0, false);
        for _ in 0..STEPS_MAX {
            if found >= bytes || victims == BATCH {
                break;
            }
            picked.steps += 1;
            match self.policy.order().step(clock, moved >= PATIENCE) {
                Step::Victim(slot) => {
                    picked.victims.push(slot.resident);
                    found += slot.weight;
                    victims += 1;
                    moved = 0;
                }
                Step::Gone(resident) => picked.gone.push(resident),
                Step::Pinned(slot) => {
                    picked.pinned += 1;
                    self.aside.push_back(slot);
                }
                Step::Moved => moved += 1,
                Step::Empty if last_try => break,
                Step::Empty => {
                    last_try = true;
                    self.ask_aside(STEPS_MAX, clock, picked);
                }
            }
        }
        picked.bytes += found;
    }

    /// Takes back into the order what is not pinned any more, of the first so many that are aside.
    fn ask_aside(&mut self, asked: usize, clock: &Clock, picked: &mut Picked<R>) {
        for _ in 0..asked.min(self.aside.len()) {
            let Some(mut slot) = self.aside.pop_front() else { return };
            match slot.look() {
                Look::Gone => picked.gone.push(slot.resident),
                Look::Pinned => self.aside.push_back(slot),
                Look::Live(_) => self.policy.order().readmit(slot, clock),
            }
        }
    }

    /// Takes out what is gone, looking at about `budget` entries; what was not needed of the budget
    /// stays in it. True when all entries were seen since a call last said so.
    pub(super) fn purge(&mut self, budget: &mut usize, gone: &mut Vec<R>) -> bool {
        let Self { policy, aside, cursor } = self;
        let order = policy.order();
        let mut rings = order.rings();
        rings.push(aside);
        let count = rings.len();
        for ring in rings.into_iter().skip(*cursor) {
            if !ring.purge(budget, gone) {
                break;
            }
            *cursor += 1;
        }
        order.recount();
        let ended = *cursor >= count;
        if ended {
            *cursor = 0;
        }
        ended
    }

    /// Whether it holds neither entries nor memories of any.
    pub(super) fn is_unused(&mut self) -> bool {
        let mut census = Census::default();
        self.count(&mut census);
        census.entries + census.pinned + census.ghosts == 0
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self, mut take: impl FnMut(R)) {
        let Self { policy, aside, .. } = self;
        let order = policy.order();
        for ring in order.rings().into_iter().chain([aside]) {
            while let Some(slot) = ring.pop_front() {
                take(slot.resident);
            }
        }
        order.recount();
    }

    /// Bytes of all entries that may go.
    pub(super) fn weight(&mut self) -> u64 {
        self.policy.order().weight()
    }

    /// Adds this shard to `census`.
    pub(super) fn count(&mut self, census: &mut Census) {
        let order = self.policy.order();
        for ring in order.rings() {
            census.entries += ring.len();
            census.overhead += ring.bytes() + size_of_val(ring);
        }
        census.weight += order.weight();
        let (ghosts, overhead) = order.ghosts();
        census.ghosts += ghosts;
        census.overhead += overhead + self.aside.bytes();
        census.pinned += self.aside.len();
        census.pinned_weight += self.aside.weight();
    }
}

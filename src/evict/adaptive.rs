//! ARC: what was hit once and what was hit again share the room, as those that left ask for it.
//!
//! ```text
//! admit ──► [ once ........ ] ──hit──► [ again, by last hit ............ ]
//!               │  at most `share` bytes          │
//!               ▼ victim                          ▼ victim
//!           left_once                         left_again      fingerprints
//!               │ comes back: share grows         │ comes back: share shrinks
//!               └──────────► again ◄──────────────┘
//! ```
//!
//! A heat is a flag, hit since it was admitted, and the tick of the last hit. A hit moves nothing:
//! entries are carried from one list to the other when the hand comes to them, or on their way
//! through the stages of `once`, so that its weight is nearly that of what was really hit once.

use super::clock::Clock;
use super::generations::{Generations, is_newer, tick_of};
use super::ghosts::Ghosts;
use super::order::{Order, Step};
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;
use super::stages::Stages;

/// The flag in a heat: was hit since it was admitted.
const AGAIN: u8 = 0x80;

#[derive(Debug)]
pub(super) struct Arc<R> {
    once: Stages<R>,
    again: Generations<R>,
    left_once: Ghosts,
    left_again: Ghosts,
    /// Bytes that `once` may take; `p` of the paper.
    share: u64,
}

#[inline]
pub(super) fn touch(heat: u8, now: u64) -> Option<u8> {
    let hit = AGAIN | tick_of(now);
    (heat != hit).then_some(hit)
}

impl<R: Resident> Arc<R> {
    /// For one shard, which moves the clock or follows it.
    pub(super) fn new(leads: bool) -> Self {
        Self {
            once: Stages::default(),
            again: Generations::new(leads),
            left_once: Ghosts::default(),
            left_again: Ghosts::default(),
            share: 0,
        }
    }

    fn len(&self) -> usize {
        self.once.len() + self.again.levels().len()
    }

    fn push_again(&mut self, slot: Slot<R>, now: u64) {
        slot.resident.set_heat(AGAIN | tick_of(now));
        self.again.push(tick_of(now), slot);
    }

    /// Whether the key of an entry that is admitted was remembered. If so, the share has learnt.
    fn learn(&mut self, slot: &Slot<R>) -> bool {
        let hash = slot.resident.hash();
        let (once, again) = (self.left_once.bytes(), self.left_again.bytes());
        // By as many entries of this weight as the other list's ghosts outweigh this one's.
        let step = |other: u64, own: u64| {
            (u128::from(slot.weight) * u128::from(other) / u128::from(own.max(1)))
                .max(slot.weight.into())
        };
        let bounded = |step: u128| u64::try_from(step).unwrap_or(u64::MAX);
        if self.left_once.remove(hash, slot.weight) {
            let grown = self.share.saturating_add(bounded(step(again, once)));
            self.share = grown.min(self.weight() + slot.weight);
            return true;
        }
        if self.left_again.remove(hash, slot.weight) {
            self.share = self.share.saturating_sub(bounded(step(once, again)));
            return true;
        }
        false
    }

    fn step_once(&mut self, force: bool) -> Step<R> {
        let Some(mut slot) = self.once.pop() else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if heat & AGAIN != 0 && !force => {
                self.again.push(heat, slot);
                Step::Moved
            }
            Look::Live(_) => {
                // Once and its ghosts together are at most as heavy as all entries.
                let limit = self.again.levels().weight() + slot.weight;
                self.left_once.insert(slot.resident.hash(), slot.weight, limit, self.len() + 1);
                Step::Victim(slot)
            }
        }
    }

    fn step_again(&mut self, now: u64, force: bool) -> Step<R> {
        let Some((mut slot, place)) = self.again.pop(now) else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if is_newer(heat, place, now) && !force => {
                self.again.push(heat, slot);
                Step::Moved
            }
            Look::Live(_) => {
                self.again.learn(place);
                // All ghosts together are at most as heavy as all entries.
                let all = self.weight() + slot.weight;
                let limit = all.saturating_sub(self.left_once.bytes()).max(slot.weight);
                self.left_again.insert(slot.resident.hash(), slot.weight, limit, self.len() + 1);
                Step::Victim(slot)
            }
        }
    }
}

impl<R: Resident> Order<R> for Arc<R> {
    fn admit(&mut self, slot: Slot<R>, clock: &Clock) {
        self.again.count(clock, AGAIN, self.len());
        if self.learn(&slot) {
            self.push_again(slot, clock.now());
        } else {
            slot.resident.set_heat(tick_of(clock.now()));
            let again = &mut self.again;
            self.once.push(slot, |slot, heat| {
                let was_hit = heat & AGAIN != 0;
                if was_hit {
                    again.push(heat, slot);
                }
                was_hit
            });
        }
    }

    fn readmit(&mut self, slot: Slot<R>, clock: &Clock) {
        let hash = slot.resident.hash();
        let _ =
            self.left_once.remove(hash, slot.weight) || self.left_again.remove(hash, slot.weight);
        self.push_again(slot, clock.now());
    }

    fn step(&mut self, clock: &Clock, force: bool) -> Step<R> {
        let once_is_due = self.once.weight() > self.share || self.again.levels().is_empty();
        if once_is_due && !self.once.is_empty() {
            self.step_once(force)
        } else {
            self.step_again(clock.now(), force)
        }
    }

    fn weight(&self) -> u64 {
        self.once.weight() + self.again.levels().weight()
    }

    fn rings(&mut self) -> Vec<&mut Ring<R>> {
        self.once.rings().chain(self.again.levels_mut().rings()).collect()
    }

    fn recount(&mut self) {
        self.again.levels_mut().recount();
    }

    fn ghosts(&self) -> (usize, usize) {
        let (once, again) = (&self.left_once, &self.left_again);
        (once.count() + again.count(), once.overhead() + again.overhead())
    }
}

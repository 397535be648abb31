//! A queue whose entries are looked at several times on their way.
//!
//! ```text
//! push ──► [ youngest ] ──look──► [ .... ] ──look──► [ .... ] ──look──► [ oldest ] ──► pop
//! ```
//!
//! Each stage has about the same weight, so that what should have left the queue is noticed after a
//! fraction of the whole way.
//!
//! Used by `adaptive`.

use super::resident::{Resident, Slot};
use super::ring::Ring;

const STAGES: usize = 4;
/// So many entries at most go from one stage to the next at a time.
const PASSED: usize = 2;

#[derive(Debug)]
pub(super) struct Stages<R> {
    /// Youngest first.
    rings: [Ring<R>; STAGES],
}

impl<R> Default for Stages<R> {
    fn default() -> Self {
        Self { rings: std::array::from_fn(|_| Ring::default()) }
    }
}

impl<R: Resident> Stages<R> {
    pub(super) fn len(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rings.iter().all(Ring::is_empty)
    }

    pub(super) fn weight(&self) -> u64 {
        self.rings.iter().map(Ring::weight).sum()
    }

    /// Puts an entry in, and passes others on. Of those that are passed on, `leaves` takes what it
    /// wants, by the heat.
    pub(super) fn push(&mut self, slot: Slot<R>, mut leaves: impl FnMut(Slot<R>, u8) -> bool) {
        let part = (self.weight() + slot.weight) / STAGES as u64;
        let [first, others @ ..] = &mut self.rings;
        first.push_back(slot);
        let mut younger = first;
        for older in others {
            for _ in 0..PASSED {
                if younger.weight() <= part {
                    break;
                }
                let Some(slot) = younger.pop_front() else { break };
                if !slot.resident.heat().is_some_and(|heat| leaves(slot, heat)) {
                    older.push_back(slot);
                }
            }
            younger = older;
        }
    }

    /// Takes out the oldest.
    pub(super) fn pop(&mut self) -> Option<Slot<R>> {
        self.rings.iter_mut().rev().find_map(Ring::pop_front)
    }

    pub(super) fn rings(&mut self) -> impl Iterator<Item = &mut Ring<R>> {
        self.rings.iter_mut()
    }
}

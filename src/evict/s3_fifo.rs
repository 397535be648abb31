//! S3-FIFO: newcomers prove themselves in a small queue.
//!
//! ```text
//!            small, 10 %                       main, 90 %
//! admit ──► [..........] ──read twice or more──► [....................] ──► victim
//!                └─────► victim, remembered         ^──── heat - 1 ────┘
//! admit, remembered ─────────────────────────────►
//! ```
//!
//! The heat counts reads up to 3.

use super::clock::Clock;
use super::ghosts::Ghosts;
use super::order::{Order, Step};
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;

const HEAT_MAX: u8 = 3;
/// Read as often as this, an entry moves from the small queue to the main one.
const PROVEN: u8 = 2;
/// The small queue's part of all bytes.
const SMALL_PART: u64 = 10;
/// So far ahead in the small queue ghosts' places are brought near; residents are so already.
const SOON: usize = 3;

#[derive(Debug)]
pub(super) struct S3Fifo<R> {
    small: Ring<R>,
    main: Ring<R>,
    ghosts: Ghosts,
    /// Whether the hand stays in the small queue until it finds a victim there.
    in_small: bool,
}

#[inline]
pub(super) fn touch(heat: u8) -> Option<u8> {
    (heat < HEAT_MAX).then(|| heat + 1)
}

impl<R: Resident> S3Fifo<R> {
    pub(super) fn new() -> Self {
        Self {
            small: Ring::default(),
            main: Ring::default(),
            ghosts: Ghosts::default(),
            in_small: false,
        }
    }

    fn step_small(&mut self, force: bool) -> Step<R> {
        let Some(mut slot) = self.small.pop_front() else { return Step::Empty };
        if let Some(soon) = self.small.get(SOON) {
            self.ghosts.prefetch(soon.resident.hash());
        }
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if heat >= PROVEN && !force => {
                slot.resident.set_heat(0);
                self.main.push_back(slot);
                Step::Moved
            }
            Look::Live(_) => {
                let total = self.weight() + slot.weight;
                let limit = total - total / SMALL_PART;
                let entries = self.small.len() + self.main.len() + 1;
                self.ghosts.insert(slot.resident.hash(), slot.weight, limit, entries);
                self.in_small = false;
                Step::Victim(slot)
            }
        }
    }

    fn step_main(&mut self, force: bool) -> Step<R> {
        let Some(mut slot) = self.main.pop_front() else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if heat > 0 && !force => {
                slot.resident.set_heat(heat.min(HEAT_MAX) - 1);
                self.main.push_back(slot);
                Step::Moved
            }
            Look::Live(_) => Step::Victim(slot),
        }
    }
}

impl<R: Resident> Order<R> for S3Fifo<R> {
    fn admit(&mut self, slot: Slot<R>, _: &Clock) {
        slot.resident.set_heat(0);
        let remembered = self.ghosts.remove(slot.resident.hash(), slot.weight);
        if remembered { &mut self.main } else { &mut self.small }.push_back(slot);
    }

    fn readmit(&mut self, slot: Slot<R>, _: &Clock) {
        self.ghosts.remove(slot.resident.hash(), slot.weight);
        self.main.push_back(slot);
    }

    fn step(&mut self, _: &Clock, force: bool) -> Step<R> {
        let due = self.in_small || self.small.weight() * SMALL_PART >= self.weight();
        self.in_small = !self.small.is_empty() && (due || self.main.is_empty());
        if self.in_small { self.step_small(force) } else { self.step_main(force) }
    }

    fn weight(&self) -> u64 {
        self.small.weight() + self.main.weight()
    }

    fn rings(&mut self) -> Vec<&mut Ring<R>> {
        vec![&mut self.small, &mut self.main]
    }

    fn ghosts(&self) -> (usize, usize) {
        (self.ghosts.count(), self.ghosts.overhead())
    }
}

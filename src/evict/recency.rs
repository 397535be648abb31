//! LRU: what was hit longest ago goes first, to the tick of a clock.

use super::clock::Clock;
use super::generations::{Generations, is_newer, tick_of};
use super::order::{Order, Step};
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;

#[derive(Debug)]
pub(super) struct Lru<R> {
    generations: Generations<R>,
}

#[inline]
pub(super) fn touch(heat: u8, now: u64) -> Option<u8> {
    let tick = tick_of(now);
    (heat != tick).then_some(tick)
}

impl<R: Resident> Lru<R> {
    /// For one shard, which moves the clock or follows it.
    pub(super) fn new(leads: bool) -> Self {
        Self { generations: Generations::new(leads) }
    }

    fn push_newest(&mut self, slot: Slot<R>, now: u64) {
        slot.resident.set_heat(tick_of(now));
        self.generations.push(tick_of(now), slot);
    }
}

impl<R: Resident> Order<R> for Lru<R> {
    fn admit(&mut self, slot: Slot<R>, clock: &Clock) {
        self.generations.count(clock, 0, self.generations.levels().len());
        self.push_newest(slot, clock.now());
    }

    fn readmit(&mut self, slot: Slot<R>, clock: &Clock) {
        self.push_newest(slot, clock.now());
    }

    fn step(&mut self, clock: &Clock, force: bool) -> Step<R> {
        let now = clock.now();
        let Some((mut slot, place)) = self.generations.pop(now) else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if is_newer(heat, place, now) && !force => {
                self.generations.push(heat, slot);
                Step::Moved
            }
            Look::Live(_) => {
                self.generations.learn(place);
                Step::Victim(slot)
            }
        }
    }

    fn weight(&self) -> u64 {
        self.generations.levels().weight()
    }

    fn rings(&mut self) -> Vec<&mut Ring<R>> {
        self.generations.levels_mut().rings().collect()
    }

    fn recount(&mut self) {
        self.generations.levels_mut().recount();
    }
}

//! LFU: what was hit least often goes first.
//!
//! A heat is the era in which it was written (3 bits) and a count up to 31. With each era all
//! counts are halved: the rings at once, by joining them in pairs, and each heat when it is next
//! looked at. What was not hit for five eras counts nothing and is the first to go, long before its
//! era could be mistaken for a later one.

use super::clock::Clock;
use super::levels::Levels;
use super::order::{Order, Step};
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;

const COUNT: u8 = 31;
const COUNT_BITS: u32 = 5;
const ERA: u64 = 7;
/// An era is as long as it takes so many times as many entries to come as there are.
const PERIOD: usize = 5;
/// A newcomer counts as hit once, and so stays longer than what has not been hit for eras.
const NEWCOMER: u8 = 1;

#[derive(Debug)]
pub(super) struct Lfu<R> {
    levels: Levels<R>,
    /// The era for which the rings were last joined.
    era: u64,
    /// Since it last began an era.
    admitted: usize,
    leads: bool,
}

fn heat_of(count: u8, era: u64) -> u8 {
    let era = u8::try_from(era & ERA).expect("three bits were kept");
    era << COUNT_BITS | count
}

/// The count of a heat, halved for each era since.
fn count_of(heat: u8, era: u64) -> u8 {
    let passed = era.wrapping_sub(u64::from(heat >> COUNT_BITS)) & ERA;
    (heat & COUNT) >> passed
}

#[inline]
pub(super) fn touch(heat: u8, era: u64) -> Option<u8> {
    let hotter = heat_of((count_of(heat, era) + 1).min(COUNT), era);
    (heat != hotter).then_some(hotter)
}

impl<R: Resident> Lfu<R> {
    /// For one shard, which moves the clock or follows it.
    pub(super) fn new(leads: bool) -> Self {
        Self { levels: Levels::new(COUNT + 1), era: 0, admitted: 0, leads }
    }

    fn push_newcomer(&mut self, slot: Slot<R>) {
        slot.resident.set_heat(heat_of(NEWCOMER, self.era));
        self.levels.push_back(NEWCOMER, slot);
    }

    /// Follows the clock.
    fn join(&mut self, now: u64) {
        let passed = now.saturating_sub(self.era).min(u64::from(COUNT_BITS));
        (0..passed).for_each(|_| self.levels.halve());
        self.era = self.era.max(now);
    }
}

impl<R: Resident> Order<R> for Lfu<R> {
    fn admit(&mut self, slot: Slot<R>, clock: &Clock) {
        self.admitted += 1;
        if self.leads && self.admitted > PERIOD * self.levels.len().max(16) {
            self.admitted = 0;
            clock.tick();
        }
        self.join(clock.now());
        self.push_newcomer(slot);
    }

    fn readmit(&mut self, slot: Slot<R>, _: &Clock) {
        self.push_newcomer(slot);
    }

    fn step(&mut self, clock: &Clock, force: bool) -> Step<R> {
        self.join(clock.now());
        let Some(place) = self.levels.lowest(0) else { return Step::Empty };
        let Some(mut slot) = self.levels.pop_front(place) else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(heat) if count_of(heat, self.era) > place && !force => {
                self.levels.push_back(count_of(heat, self.era), slot);
                Step::Moved
            }
            Look::Live(_) => Step::Victim(slot),
        }
    }

    fn weight(&self) -> u64 {
        self.levels.weight()
    }

    fn rings(&mut self) -> Vec<&mut Ring<R>> {
        self.levels.rings().collect()
    }

    fn recount(&mut self) {
        self.levels.recount();
    }
}

//! Rings by level, the lowest of which is found in one step.
//!
//! Levels count in a circle: the caller names the level at which the order begins.
//!
//! 1. A level whose ring holds a slot has its bit in `occupied`. A bit without slots is cleared by
//!    whoever comes across it.
//! 2. `len` and `weight` are the sums over all rings, except between a purge and `recount`.
//!
//! Used by the policies that sort entries by heat.

use super::resident::{Resident, Slot};
use super::ring::Ring;

/// Levels at most: one for each bit of a mask.
pub(super) const LEVELS_MAX: u8 = 128;

#[derive(Debug)]
pub(super) struct Levels<R> {
    rings: Vec<Ring<R>>,
    occupied: u128,
    len: usize,
    weight: u64,
}

impl<R: Resident> Levels<R> {
    pub(super) fn new(levels: u8) -> Self {
        assert!(levels <= LEVELS_MAX, "a level has no bit");
        let rings = (0..levels).map(|_| Ring::default()).collect();
        Self { rings, occupied: 0, len: 0, weight: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    fn ring(&mut self, level: u8) -> &mut Ring<R> {
        self.rings.get_mut(usize::from(level)).expect("callers keep to the levels they asked for")
    }

    pub(super) fn push_back(&mut self, level: u8, slot: Slot<R>) {
        self.put_on(level, &slot);
        self.ring(level).push_back(slot);
    }

    pub(super) fn push_front(&mut self, level: u8, slot: Slot<R>) {
        self.put_on(level, &slot);
        self.ring(level).push_front(slot);
    }

    pub(super) fn pop_front(&mut self, level: u8) -> Option<Slot<R>> {
        let slot = self.ring(level).pop_front()?;
        self.take_off(&slot);
        Some(slot)
    }

    pub(super) fn pop_back(&mut self, level: u8) -> Option<Slot<R>> {
        let slot = self.ring(level).pop_back()?;
        self.take_off(&slot);
        Some(slot)
    }

    fn put_on(&mut self, level: u8, slot: &Slot<R>) {
        self.len += 1;
        self.weight += slot.weight;
        self.occupied |= 1 << level;
    }

    fn take_off(&mut self, slot: &Slot<R>) {
        self.len -= 1;
        self.weight -= slot.weight;
    }

    /// The first level at or after `floor`, in a circle, that holds a slot.
    pub(super) fn lowest(&mut self, floor: u8) -> Option<u8> {
        self.find(floor, u128::MAX, u128::trailing_zeros)
    }

    /// The last level that holds a slot, of the first `height` at and after `floor`.
    pub(super) fn highest(&mut self, floor: u8, height: u8) -> Option<u8> {
        let below = (1_u128 << height) - 1;
        self.find(floor, below, |levels| levels.checked_ilog2().unwrap_or(u128::BITS))
    }

    /// The level that `choose` finds among the bits of those that are occupied, counted from
    /// `floor`.
    fn find(&mut self, floor: u8, within: u128, choose: impl Fn(u128) -> u32) -> Option<u8> {
        loop {
            let ahead = choose(self.occupied.rotate_right(floor.into()) & within);
            let ahead = u8::try_from(ahead).ok().filter(|ahead| *ahead < LEVELS_MAX)?;
            let level = (floor + ahead) % LEVELS_MAX;
            if !self.ring(level).is_empty() {
                return Some(level);
            }
            // Keeps 1.
            self.occupied &= !(1 << level);
        }
    }

    /// Halves all levels: what was at `2n` and `2n + 1` is now at `n`, in this order.
    pub(super) fn halve(&mut self) {
        let old = std::mem::take(&mut self.rings);
        self.rings = old.iter().map(|_| Ring::default()).collect();
        self.occupied = 0;
        for (level, ring) in old.into_iter().enumerate().filter(|(_, ring)| !ring.is_empty()) {
            let halved = level / 2;
            self.rings.get_mut(halved).expect("half a level is a level").append(ring);
            self.occupied |= 1 << halved;
        }
    }

    pub(super) fn rings(&mut self) -> impl Iterator<Item = &mut Ring<R>> {
        self.rings.iter_mut()
    }

    /// Sums anew after rings were purged one by one.
    pub(super) fn recount(&mut self) {
        self.len = self.rings.iter().map(Ring::len).sum();
        self.weight = self.rings.iter().map(Ring::weight).sum();
    }
}

//! Random: any entry goes, each with the same chance.

use super::clock::Clock;
use super::order::{Order, Step};
use super::resident::{Look, Resident, Slot};
use super::ring::Ring;

#[derive(Debug)]
pub(super) struct Random<R> {
    entries: Ring<R>,
    state: u64,
}

impl<R: Resident> Random<R> {
    pub(super) fn new(seed: u64) -> Self {
        Self { entries: Ring::default(), state: seed }
    }
}

/// A number below `bound`, which is not zero (`SplitMix64`).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let below = (u128::from(mixed ^ (mixed >> 31)) * bound as u128) >> 64;
    usize::try_from(below).expect("is below the bound")
}

impl<R: Resident> Order<R> for Random<R> {
    fn admit(&mut self, slot: Slot<R>, _: &Clock) {
        slot.resident.set_heat(0);
        self.entries.push_back(slot);
    }

    fn readmit(&mut self, slot: Slot<R>, _: &Clock) {
        self.entries.push_back(slot);
    }

    fn step(&mut self, _: &Clock, _: bool) -> Step<R> {
        let slot = self.entries.swap_remove(|bound| below(&mut self.state, bound));
        let Some(mut slot) = slot else { return Step::Empty };
        match slot.look() {
            Look::Gone => Step::Gone(slot.resident),
            Look::Pinned => Step::Pinned(slot),
            Look::Live(_) => Step::Victim(slot),
        }
    }

    fn weight(&self) -> u64 {
        self.entries.weight()
    }

    fn rings(&mut self) -> Vec<&mut Ring<R>> {
        vec![&mut self.entries]
    }
}

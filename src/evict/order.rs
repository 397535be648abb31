//! What a policy does inside a shard.

use super::clock::Clock;
use super::resident::{Resident, Slot};
use super::ring::Ring;

/// What one step of the hand found.
#[derive(Debug)]
pub(super) enum Step<R> {
    /// It goes; the policy does not hold it any more.
    Victim(Slot<R>),
    /// It has no value any more; the policy does not hold it any more.
    Gone(R),
    /// It must stay for now; the policy does not hold it any more.
    Pinned(Slot<R>),
    /// It was better than its place.
    Moved,
    /// There is nothing.
    Empty,
}

/// The entries of a shard, in the order in which a policy wants them to go.
pub(super) trait Order<R: Resident> {
    /// Takes in an entry that got a value, and sets its heat.
    fn admit(&mut self, slot: Slot<R>, clock: &Clock);

    /// Takes in a victim that could not go, or an entry that was pinned.
    fn readmit(&mut self, slot: Slot<R>, clock: &Clock);

    /// Moves the hand to the next entry. `force` ends a long search: the entry goes if it can.
    fn step(&mut self, clock: &Clock, force: bool) -> Step<R>;

    /// Bytes of all entries here.
    fn weight(&self) -> u64;

    fn rings(&mut self) -> Vec<&mut Ring<R>>;

    /// Called after rings were changed from outside.
    fn recount(&mut self) {}

    /// Keys remembered without an entry, and the bytes that this takes.
    fn ghosts(&self) -> (usize, usize) {
        (0, 0)
    }
}

//! Garbage of one slot: an open bag that is being filled, sealed bags that wait, and the memory of
//! what was freed.
//!
//! ```text
//! open [x y z ..]      sealed  [@5: a b c] [@6: d e]      oldest first
//! ```
//!
//! 1. Epochs rise along `sealed`.
//! 2. Whoever holds a [`Deferred`] out of a bag must free it; bags never free by themselves.
//!
//! Used by `slot` only, and only by the slot's owner.

use super::prefetch::prefetch;
use super::spares::Spares;
use crate::slab::Memory;
use std::collections::VecDeque;

/// A bag with this many objects is sealed.
///
/// Large, because a seal costs a barrier that interrupts every other thread of the process.
pub(super) const OBJECTS_MAX: usize = 512;
/// A bag that holds this much memory is sealed: three of them wait at each thread that writes.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// Moves of the epoch after which nobody can hold what was sealed before them.
const GRACE: u64 = 2;

/// How an object is freed.
#[derive(Clone, Copy)]
pub(super) enum Free {
    /// With its memory.
    Wholly(unsafe fn(*mut u8)),
    /// All but its memory, which may be used again.
    ToSpare(unsafe fn(*mut u8) -> Memory),
}

/// How far ahead objects to be freed are asked for.
const AHEAD: usize = 4;

/// An object to free, and how.
pub(super) struct Deferred {
    pub(super) object: *mut u8,
    /// Called once with the object, when nobody can hold it; `Guard::defer` names the conditions.
    pub(super) free: Free,
}

// SAFETY: `Guard::defer` demands that the object may be freed on any thread.
unsafe impl Send for Deferred {}

/// Objects that were all retired before the epoch `sealed_at` was read.
struct Bag {
    sealed_at: u64,
    bytes: usize,
    objects: Vec<Deferred>,
}

/// All the garbage of one slot.
#[derive(Default)]
pub(super) struct Garbage {
    open: Vec<Deferred>,
    open_bytes: usize,
    sealed: VecDeque<Bag>,
    /// An emptied bag, to be filled again.
    emptied: Vec<Deferred>,
    /// Memory of what was freed, for what is made next.
    pub(super) spares: Spares,
    sealed_objects: usize,
    sealed_bytes: usize,
    /// Objects retired since the owner last looked after its garbage.
    fresh: usize,
}

impl Garbage {
    pub(super) fn push(&mut self, deferred: Deferred, bytes: usize) {
        self.open.push(deferred);
        self.open_bytes += bytes;
        self.fresh += 1;
    }

    pub(super) fn is_open_full(&self) -> bool {
        self.open.len() >= OBJECTS_MAX || self.open_bytes >= BYTES_MAX
    }

    pub(super) fn is_open_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn fresh(&self) -> usize {
        self.fresh
    }

    pub(super) fn take_fresh(&mut self) -> usize {
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn objects(&self) -> usize {
        self.open.len() + self.sealed_objects
    }

    pub(super) fn bytes(&self) -> usize {
        self.open_bytes + self.sealed_bytes
    }

    /// Closes the open bag. `epoch` was read after a heavy barrier that follows the last `push`.
    pub(super) fn seal(&mut self, epoch: u64) {
        if self.open.is_empty() {
            return;
        }
        let emptied = std::mem::take(&mut self.emptied);
        let objects = std::mem::replace(&mut self.open, emptied);
        let bytes = std::mem::take(&mut self.open_bytes);
        debug_assert!(self.sealed.back().is_none_or(|last| last.sealed_at <= epoch), "keeps 1");
        self.sealed_objects += objects.len();
        self.sealed_bytes += bytes;
        self.sealed.push_back(Bag { sealed_at: epoch, bytes, objects });
    }

    /// Takes out one object that nobody can hold any more, now that the epoch is `epoch`.
    pub(super) fn pop_ripe(&mut self, epoch: u64) -> Option<Deferred> {
        loop {
            let bag = self.sealed.front_mut()?;
            if epoch < bag.sealed_at + GRACE {
                return None;
            }
            if let Some(deferred) = bag.objects.pop() {
                self.sealed_objects -= 1;
                // Long unused, and next in the turn after the next.
                if let Some(soon) = bag.objects.len().checked_sub(AHEAD) {
                    bag.objects.get(soon).inspect(|soon| prefetch(soon.object));
                }
                return Some(deferred);
            }
            self.sealed_bytes -= bag.bytes;
            // One that a large transaction filled is larger than will be needed soon again.
            let emptied = self.sealed.pop_front().map(|bag| bag.objects);
            let is_usual = |it: &Vec<_>| it.capacity() <= 2 * OBJECTS_MAX;
            if let Some(emptied) = emptied.filter(is_usual) {
                self.emptied = emptied;
            }
        }
    }

    /// Takes out any object; for the end of the collector, when nobody is pinned.
    pub(super) fn pop_any(&mut self) -> Option<Deferred> {
        self.open.pop().or_else(|| self.pop_ripe(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(object: *mut u8) -> Deferred {
        Deferred { object, free: Free::Wholly(|_| {}) }
    }

    #[test]
    fn bag_is_ripe_two_epochs_after_it_was_sealed() {
        let mut garbage = Garbage::default();
        garbage.push(nothing(std::ptr::null_mut()), 10);
        assert!(garbage.pop_ripe(u64::MAX - GRACE).is_none(), "an open bag is never ripe");
        garbage.seal(5);
        assert!(garbage.pop_ripe(6).is_none());
        assert_eq!((garbage.objects(), garbage.bytes()), (1, 10));
        assert!(garbage.pop_ripe(7).is_some());
        assert!(garbage.pop_ripe(7).is_none());
        assert_eq!((garbage.objects(), garbage.bytes()), (0, 0));
    }
}

//! Participants and guards: who may read shared nodes, and for how long.
//!
//! ```text
//! Collector::pin         one slot for one guard
//! Collector::participant one slot for many guards, one inside the other
//! ```
//!
//! 1. While a guard lives, its slot is pinned; nothing that was reachable when it was made, or
//!    became so since, is freed.
//! 2. A participant's slot is unpinned when the last of its guards is dropped.
//! 3. Guards of a participant share its counter without synchronization, so they stay on one
//!    thread; a participant without guards may move to another.
//!
//! Every function that reads shared nodes takes a `&Guard`.

use super::bag::{Deferred, Free};
use super::barrier::light;
use super::collector::{Collector, Held};
use super::slot::Slot;
use crate::slab::{Boxed, Memory};
use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

impl Collector {
    /// Claims a slot for a while, in which pinning is as cheap as a store.
    pub(crate) fn participant(&self) -> Participant<'_> {
        Participant::new(self, self.claim(|slot| slot.claim(None)))
    }

    /// Pins until the guard is dropped.
    ///
    /// On its own: where a participant may pin instead, that is what should be spread out.
    #[inline(never)]
    pub(crate) fn pin(&self) -> Guard<'_> {
        let epoch = self.epoch_seen();
        let slot = self.claim(|slot| slot.claim(Some(epoch)));
        light();
        Guard::solo(self, slot)
    }
}

/// A slot held for a while, by a transaction for instance.
pub(crate) struct Participant<'c> {
    collector: &'c Collector,
    slot: &'c Slot,
    /// Guards alive.
    nested: Cell<u32>,
}

impl<'c> Participant<'c> {
    /// `slot` was claimed for this participant.
    pub(super) fn new(collector: &'c Collector, slot: &'c Slot) -> Self {
        Self { collector, slot, nested: Cell::new(0) }
    }

    /// Pins until the guard is dropped. A guard inside another one costs a counter.
    #[inline]
    pub(crate) fn pin(&self) -> Guard<'_> {
        let nested = self.nested.get();
        self.nested.set(nested.checked_add(1).expect("guards are dropped"));
        if nested == 0 {
            self.slot.pin(self.collector.epoch_seen());
            light();
        }
        Guard { collector: self.collector, slot: self.slot, nested: Some(&self.nested) }
    }

    /// As [`Guard::new_box`], without a pin.
    #[inline]
    pub(crate) fn new_box<T>(&self, make: impl FnOnce() -> T) -> NonNull<T> {
        // SAFETY: the participant owns its slot, and is used by one thread at a time.
        unsafe { new_box(self.slot, make) }
    }
}

/// A leaked box, in the memory of one that was retired if there is some.
///
/// # Safety
/// The caller owns the slot.
#[inline]
unsafe fn new_box<T>(slot: &Slot, make: impl FnOnce() -> T) -> NonNull<T> {
    let layout = Layout::new::<T>();
    // SAFETY: the caller owns the slot, and taking memory runs no user code.
    let spare = unsafe { slot.with_garbage(|garbage| garbage.spares.take(layout)) };
    Boxed::leak(Boxed::fill(spare.unwrap_or_else(|| Memory::take(layout)), make))
}

/// The box that a pointer was leaked from.
///
/// # Safety
/// It was, from a box of a `T`, which nobody else takes back.
unsafe fn taken_back<T>(object: *mut u8) -> Boxed<T> {
    let content = NonNull::new(object.cast()).expect("boxes are not at null");
    // SAFETY: the caller's promise.
    unsafe { Boxed::from_raw(content) }
}

impl Drop for Participant<'_> {
    fn drop(&mut self) {
        // A guard that was leaked rather than dropped left the slot pinned; releasing it is right
        // all the same, because that guard borrowed the participant and is gone.
        self.slot.release();
    }
}

impl fmt::Debug for Participant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("guards", &self.nested.get()).finish()
    }
}

/// Keeps what its holder reads from being freed.
pub(crate) struct Guard<'g> {
    collector: &'g Collector,
    slot: &'g Slot,
    /// The participant's counter of guards; `None` if the slot is this guard's own.
    nested: Option<&'g Cell<u32>>,
}

impl<'g> Guard<'g> {
    /// `slot` was claimed and pinned for this guard.
    #[inline]
    pub(super) fn solo(collector: &'g Collector, slot: &'g Slot) -> Self {
        Self { collector, slot, nested: None }
    }

    /// Frees the box once no pinned thread can hold a reference into it. `bytes` is what that gives
    /// back, with what belongs to it.
    ///
    /// # Safety
    /// `object` came from a leaked box and was unlinked, so that no new reader can find it.
    /// Nobody else frees or retires it.
    pub(crate) unsafe fn retire_box<T: Send>(&self, object: *mut T, bytes: usize) {
        /// # Safety
        /// As for `retire_box`, once no reader is left.
        unsafe fn free<T>(object: *mut u8) {
            // SAFETY: `retire_box` was promised that a box of this type gave the pointer away.
            drop(unsafe { taken_back::<T>(object) });
        }
        // SAFETY: `free` fits the box that the caller promises; `T: Send` lets any thread drop it.
        unsafe { self.defer(object.cast(), free::<T>, bytes) }
    }

    /// Like [`retire_box`](Self::retire_box), and keeps the memory for [`new_box`](Self::new_box).
    ///
    /// # Safety
    /// As for [`retire_box`](Self::retire_box).
    pub(crate) unsafe fn retire_spare<T: Send>(&self, object: *mut T, bytes: usize) {
        /// # Safety
        /// As for `retire_spare`, once no reader is left.
        unsafe fn free<T>(object: *mut u8) -> Memory {
            // SAFETY: as in `retire_box`.
            Boxed::empty(unsafe { taken_back::<T>(object) })
        }
        // SAFETY: as in `retire_box`.
        unsafe { self.push(object.cast(), Free::ToSpare(free::<T>), bytes) }
    }

    /// A leaked box, in the memory of one that was retired if there is some.
    #[inline]
    pub(crate) fn new_box<T>(&self, make: impl FnOnce() -> T) -> NonNull<T> {
        // SAFETY: the guard's slot is owned by the guard or by its participant on this thread
        // (invariant 3).
        unsafe { new_box(self.slot, make) }
    }

    /// Calls `free(object)` once no pinned thread can hold a reference into it; `bytes` is what
    /// that gives back.
    ///
    /// # Safety
    /// `free(object)` is sound on any thread, once, when no reader is left; `object` was unlinked,
    /// so that no new reader can find it.
    pub(crate) unsafe fn defer(&self, object: *mut u8, free: unsafe fn(*mut u8), bytes: usize) {
        // SAFETY: passed on to the caller.
        unsafe { self.push(object, Free::Wholly(free), bytes) }
    }

    /// # Safety
    /// As for [`defer`](Self::defer).
    unsafe fn push(&self, object: *mut u8, free: Free, bytes: usize) {
        let deferred = Deferred { object, free };
        // SAFETY: the guard's slot is owned by the guard or by its participant on this thread
        // (invariant 3), and pushing runs no user code.
        unsafe { self.slot.with_garbage(|garbage| garbage.push(deferred, bytes)) }
    }

    fn has_fresh_garbage(&self) -> bool {
        // SAFETY: as in `defer`; the closure only reads a number.
        unsafe { self.slot.with_garbage(|garbage| garbage.fresh() > 0) }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(nested) = self.nested {
            nested.set(nested.get() - 1);
            if nested.get() > 0 {
                return;
            }
            self.slot.unpin();
            if self.has_fresh_garbage() {
                self.collector.upkeep(self.slot);
            }
        } else if self.has_fresh_garbage() {
            self.slot.unpin();
            let held = Held(self.slot);
            self.collector.upkeep(held.0);
        } else {
            self.slot.release();
        }
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("pinned_at", &self.slot.pinned_epoch()).finish()
    }
}

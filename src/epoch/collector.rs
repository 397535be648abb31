//! The collector: the epoch, the slots, and the upkeep of garbage.
//!
//! ```text
//! epoch | slots of chunk 0 -> slots of chunk 1 -> ...     chunks are added, never taken away
//! ```
//!
//! 1. The epoch moves by one, and only over a scan that saw no pin at another epoch.
//! 2. Garbage is freed by whoever retired it, as he retires more; but what is deserted is freed by
//!    the others, some of it with each of their bags.
//! 3. A thread looks for a free slot first where its shard number points, so that threads which
//!    run side by side usually keep to different cache lines.
//!
//! One collector serves one database. Whoever reads shared nodes asks it for a pin.

use super::bag::{BYTES_MAX, Garbage, OBJECTS_MAX};
use super::barrier::heavy;
use super::slot::Slot;
use crate::sync::{AtomicPtr, AtomicU64, Ordering, fence, load_owned, thread_shard};
use crossbeam_utils::CachePadded;
use std::fmt;

/// Slots of the first chunk; few, so that an empty database stays small.
const SLOTS_FIRST: usize = 16;
/// Objects freed for each object retired: as many as come, so that the allocator's caches of one
/// thread take them back and give them out again (batches go past those caches, and then wait for
/// the thread that the memory came from).
const FREES_PER_RETIRE: usize = 1;
/// The same while more waits than has to.
const FREES_PER_RETIRE_BEHIND: usize = 2;
/// What has to wait: a bag that ripens, one that will, and one that fills.
const BAGS: usize = 3;

fn is_behind(objects: usize, bytes: usize) -> bool {
    objects > BAGS * OBJECTS_MAX || bytes > BAGS * BYTES_MAX
}

/// What is retired, waiting and in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochStats {
    /// The current epoch.
    pub(crate) epoch: u64,
    /// Slots that are pinned.
    pub(crate) pinned: usize,
    /// How far the oldest pin is behind the epoch. A pin that stays at one holds all memory up.
    pub(crate) lag: u64,
    /// Objects that wait to be freed, as of each slot's last upkeep.
    pub(crate) garbage_objects: usize,
    /// Their size.
    pub(crate) garbage_bytes: usize,
}

struct Chunk {
    slots: Box<[CachePadded<Slot>]>,
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    fn new(slots: usize) -> Self {
        let slots = (0..slots).map(|_| CachePadded::new(Slot::new())).collect();
        Self { slots, next: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

/// Frees objects once no pinned thread can hold them.
pub(crate) struct Collector {
    epoch: CachePadded<AtomicU64>,
    first: Chunk,
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self::with_slots(SLOTS_FIRST)
    }

    /// A collector whose first chunk has `slots` slots.
    pub(crate) fn with_slots(slots: usize) -> Self {
        assert!(slots > 0, "a collector needs a slot to begin with");
        Self { epoch: CachePadded::new(AtomicU64::new(0)), first: Chunk::new(slots) }
    }

    /// Seals and frees all garbage of slots that nobody holds, as far as no pin is in the way.
    pub(crate) fn collect(&self) {
        for slot in self.slots().filter(|slot| slot.claim(None)) {
            let held = Held(slot);
            // SAFETY: `claim` made us the owner, and the closure only asks for a length.
            if unsafe { held.0.with_garbage(|garbage| !garbage.is_open_empty()) } {
                self.seal(held.0);
            }
        }
        // Two moves ripen everything that was sealed before.
        let _ = self.try_advance() && self.try_advance();
        for slot in self.slots().filter(|slot| slot.claim(None)) {
            let held = Held(slot);
            self.free_ripe(held.0, usize::MAX);
            // SAFETY: `claim` made us the owner, and no user code runs.
            drop(unsafe { held.0.with_garbage(|garbage| std::mem::take(&mut garbage.spares)) });
        }
    }

    /// Counts over all slots; each is a moment old.
    pub(crate) fn stats(&self) -> EpochStats {
        let mut stats = EpochStats { epoch: self.epoch_seen(), ..EpochStats::default() };
        for slot in self.slots() {
            if let Some(epoch) = slot.pinned_epoch() {
                stats.pinned += 1;
                stats.lag = stats.lag.max(stats.epoch.saturating_sub(epoch));
            }
            let (objects, bytes) = slot.garbage_size();
            stats.garbage_objects += objects;
            stats.garbage_bytes += bytes;
        }
        stats
    }

    /// The epoch to pin at. It may be old already: that only holds the epoch back.
    #[inline]
    pub(super) fn epoch_seen(&self) -> u64 {
        // Relaxed: the barrier after the pin's store orders it; see `seal` and `try_advance`.
        self.epoch.load(Ordering::Relaxed)
    }

    /// Looks after the garbage of a slot whose owner retired something. Runs user code.
    ///
    /// The caller owns the slot and is not pinned by it.
    #[cold]
    pub(super) fn upkeep(&self, slot: &Slot) {
        // SAFETY: the caller owns the slot, and the closure runs no user code.
        let (fresh, full, behind) = unsafe {
            slot.with_garbage(|garbage| {
                let behind = is_behind(garbage.objects(), garbage.bytes());
                (garbage.take_fresh(), garbage.is_open_full(), behind)
            })
        };
        if full {
            self.seal_and_advance(slot);
            self.tend_deserted();
        }
        let frees = if behind { FREES_PER_RETIRE_BEHIND } else { FREES_PER_RETIRE };
        self.free_ripe(slot, fresh.saturating_mul(frees));
    }

    /// Frees some of what waits in a slot that nobody holds: whoever retired it may not come back.
    fn tend_deserted(&self) {
        let is_left_behind = |slot: &&Slot| {
            let (objects, bytes) = slot.garbage_size();
            is_behind(objects, bytes)
        };
        if let Some(slot) = self.slots().filter(is_left_behind).find(|slot| slot.claim(None)) {
            let held = Held(slot);
            self.free_ripe(held.0, FREES_PER_RETIRE_BEHIND * OBJECTS_MAX);
        }
    }

    /// Closes the slot's open bag. The caller owns the slot.
    fn seal(&self, slot: &Slot) {
        // Partner of `light` in a pin. If a reader can still reach something in the bag, its
        // barrier came first, so the epoch it pinned at is at most the one read here: invariant 3
        // of the module then keeps the bag until that reader is gone.
        heavy();
        let epoch = self.epoch_seen();
        // SAFETY: the caller owns the slot, and sealing runs no user code.
        unsafe { slot.with_garbage(|garbage| garbage.seal(epoch)) }
    }

    /// Both at the price of one barrier, which the epoch is read before and after.
    fn seal_and_advance(&self, slot: &Slot) {
        let before = self.epoch_seen();
        self.seal(slot);
        if self.epoch_seen() == before {
            self.advance_from(before);
        }
    }

    /// Moves the epoch by one if every pin is at the current one.
    fn try_advance(&self) -> bool {
        let epoch = self.epoch_seen();
        heavy();
        self.advance_from(epoch)
    }

    /// The second half of `try_advance`. `epoch` was read before a heavy barrier: a pin at an
    /// older epoch which the scan misses came after the barrier, and so sees every unlinking that
    /// happened before this epoch began.
    fn advance_from(&self, epoch: u64) -> bool {
        if self.slots().any(|slot| slot.pinned_epoch().is_some_and(|at| at != epoch)) {
            return false;
        }
        // Acquire: what readers did under pins that the scan saw ended happens before the frees
        // that this move permits; partner of the releases in `Slot`.
        fence(Ordering::Acquire);
        // Release: hands that on to the acquire in `free_ripe`. Relaxed: failing reads nothing.
        self.epoch.compare_exchange(epoch, epoch + 1, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Frees up to `budget` ripe objects of a slot that the caller owns. Runs user code.
    fn free_ripe(&self, slot: &Slot, budget: usize) {
        // Acquire: partner of the release in `try_advance`.
        let epoch = self.epoch.load(Ordering::Acquire);
        for _ in 0..budget {
            // SAFETY: the caller owns the slot, and taking an object out runs no user code.
            let Some(deferred) = (unsafe { slot.with_garbage(|garbage| garbage.pop_ripe(epoch)) })
            else {
                break;
            };
            // SAFETY: invariant 3 of the module: two moves after its bag was sealed no pin is left
            // that could have found the object.
            let Some(spare) = (unsafe { deferred.run() }) else { continue };
            // SAFETY: the caller owns the slot, and putting memory away runs no user code.
            drop(unsafe { slot.with_garbage(|garbage| garbage.spares.put(spare)) });
        }
        // SAFETY: the caller owns the slot, and the closure only reads two numbers.
        let (objects, bytes) =
            unsafe { slot.with_garbage(|garbage| (garbage.objects(), garbage.bytes())) };
        slot.note_size(objects, bytes);
    }

    /// The first slot for which `claim` succeeds.
    pub(super) fn claim(&self, claim: impl Fn(&Slot) -> bool) -> &Slot {
        let start = thread_shard();
        let mut chunk = &self.first;
        loop {
            let slots = chunk.slots.len();
            // Most programs have few threads, and a division takes as long as all the rest.
            let start = if start < slots { start } else { start % slots };
            let (before, after) = chunk.slots.split_at(start);
            if let Some(slot) = after.iter().chain(before).find(|slot| claim(slot)) {
                return slot;
            }
            chunk = Self::next_chunk(chunk).unwrap_or_else(|| Self::grow(chunk));
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        std::iter::successors(Some(&self.first), |chunk| Self::next_chunk(chunk))
            .flat_map(|chunk| chunk.slots.iter().map(|slot| &**slot))
    }

    fn next_chunk(chunk: &Chunk) -> Option<&Chunk> {
        // Acquire: partner of the release in `grow`.
        let next = chunk.next.load(Ordering::Acquire);
        // SAFETY: a linked chunk was fully built, and lives as long as the collector (invariant 4
        // of the module), which `chunk` borrows.
        unsafe { next.as_ref() }
    }

    #[cold]
    fn grow(last: &Chunk) -> &Chunk {
        let chunk = Box::into_raw(Box::new(Chunk::new(last.slots.len() * 2)));
        // Release: partner of the acquire in `next_chunk`. Acquire on failure: the chunk that
        // another thread linked is used.
        let linked = last.next.compare_exchange(
            std::ptr::null_mut(),
            chunk,
            Ordering::Release,
            Ordering::Acquire,
        );
        let next = match linked {
            Ok(_) => chunk,
            Err(other) => {
                // SAFETY: the chunk came from a box just now and was not linked.
                drop(unsafe { Box::from_raw(chunk) });
                other
            }
        };
        // SAFETY: linked, so it lives as long as the collector (invariant 4 of the module).
        unsafe { &*next }
    }
}

impl Drop for Collector {
    /// Frees everything that was retired. Nobody is pinned: guards borrow the collector.
    fn drop(&mut self) {
        let rest = Rest(self);
        for slot in rest.0.slots() {
            drain(slot);
        }
        drop(rest);
    }
}

/// Finishes the work of `Collector::drop`, also when a user's destructor panicked in it.
struct Rest<'a>(&'a mut Collector);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        for slot in self.0.slots() {
            drain(slot);
        }
        let mut next = load_owned!(self.0.first.next);
        while !next.is_null() {
            // SAFETY: chunks come from boxes, the collector is being dropped, and each is met once.
            let chunk = unsafe { Box::from_raw(next) };
            next = load_owned!(chunk.next);
        }
    }
}

/// Frees all the garbage of a slot of a collector that is being dropped.
fn drain(slot: &Slot) {
    // SAFETY: the collector is borrowed mutably, so we own all slots; nothing runs in the closure.
    while let Some(deferred) = unsafe { slot.with_garbage(Garbage::pop_any) } {
        // SAFETY: no guard outlives the collector, so no reader is left.
        drop(unsafe { deferred.run() });
    }
}

/// Gives a claimed slot back, also when a user's destructor panics.
pub(super) struct Held<'a>(pub(super) &'a Slot);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("stats", &self.stats()).finish()
    }
}

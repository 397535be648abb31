//! A slot: the state that the epoch's keeper scans, and the garbage of whoever holds it.
//!
//! ```text
//! free ──claim──► idle ◄──pin / unpin──► pinned at e ──► ... ──release──► free
//!    └──────────────claim and pin──────────▲
//! ```
//!
//! 1. Only the transitions out of free are contended; every other store is the owner's.
//! 2. `garbage` is touched by the owner only. Claiming acquires what the last owner released.
//!
//! Used by `guard` and `collector`.

use super::bag::{Deferred, Free, Garbage};
use crate::slab::Memory;
use crate::sync::{AtomicU64, AtomicUsize, Ordering, UnsafeCell};

const FREE: u64 = 0;
const IDLE: u64 = 1;
const PINNED: u64 = 3;

const fn pinned(epoch: u64) -> u64 {
    epoch << 2 | PINNED
}

pub(super) struct Slot {
    state: AtomicU64,
    /// Size of `garbage` when its owner last looked after it, for statistics.
    objects: AtomicUsize,
    bytes: AtomicUsize,
    garbage: UnsafeCell<Garbage>,
}

// SAFETY: `garbage` is the only part that is not `Sync` by itself. Invariant 2: one owner touches
// it at a time, and ownership passes through `state` with release and acquire.
unsafe impl Sync for Slot {}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU64::new(FREE),
            objects: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            garbage: UnsafeCell::new(Garbage::default()),
        }
    }

    /// Claims the slot if it is free; it is then pinned at `epoch`, or idle if that is `None`.
    #[inline]
    pub(super) fn claim(&self, epoch: Option<u64>) -> bool {
        let state = epoch.map_or(IDLE, pinned);
        // Relaxed: only a hint that spares the exchange on slots in use.
        if self.state.load(Ordering::Relaxed) != FREE {
            return false;
        }
        // AcqRel: acquires the last owner's garbage from `release`; releases, like `pin`, what
        // this thread did before to a scan that sees this pin. Relaxed: failing reads nothing.
        self.state.compare_exchange(FREE, state, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Owner only. A light barrier must follow before anything is read under the pin.
    #[inline]
    pub(super) fn pin(&self, epoch: u64) {
        // Release: a scan that reads this pin instead of the `unpin` before it must still see all
        // that the earlier pin read as done; its partner is the acquire fence in `try_advance`.
        self.state.store(pinned(epoch), Ordering::Release);
    }

    /// Owner only.
    #[inline]
    pub(super) fn unpin(&self) {
        // Release: reads under the pin happen before the frees that a scan seeing this permits;
        // its partner is the acquire fence in `try_advance`.
        self.state.store(IDLE, Ordering::Release);
    }

    /// Owner only; it is the owner no more.
    #[inline]
    pub(super) fn release(&self) {
        // Release: as in `unpin`, and hands the garbage to the acquire in `claim`.
        self.state.store(FREE, Ordering::Release);
    }

    /// The epoch at which the slot is pinned, for the scan; that has its own fences around.
    pub(super) fn pinned_epoch(&self) -> Option<u64> {
        // Relaxed: `try_advance` puts a heavy barrier before and an acquire fence after.
        let state = self.state.load(Ordering::Relaxed);
        (state & PINNED == PINNED).then_some(state >> 2)
    }

    /// Lends the garbage to the owner.
    ///
    /// # Safety
    /// The caller owns the slot, and `work` neither runs user code nor reaches this slot again.
    #[inline]
    pub(super) unsafe fn with_garbage<R>(&self, work: impl FnOnce(&mut Garbage) -> R) -> R {
        self.garbage.with_mut(|garbage| {
            // SAFETY: the caller owns the slot, so by invariant 2 nobody else touches the garbage,
            // and by its promise no second borrow begins inside `work`.
            work(unsafe { &mut *garbage })
        })
    }

    /// Owner only: publishes the size of the garbage to `garbage_size`.
    pub(super) fn note_size(&self, objects: usize, bytes: usize) {
        // Relaxed: statistics.
        self.objects.store(objects, Ordering::Relaxed);
        // Relaxed: statistics.
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Objects and bytes of garbage, as of the owner's last upkeep.
    pub(super) fn garbage_size(&self) -> (usize, usize) {
        // Relaxed: statistics.
        (self.objects.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Deferred {
    /// Frees the object; answers its memory if that may be used again. Runs user code.
    ///
    /// # Safety
    /// Nobody can reach the object any more.
    pub(super) unsafe fn run(self) -> Option<Memory> {
        match self.free {
            Free::Wholly(free) => {
                // SAFETY: `Guard::defer` was promised that `free` fits `object` and that nobody
                // else frees it; the caller promises that no reader is left.
                unsafe { free(self.object) };
                None
            }
            // SAFETY: as above.
            Free::ToSpare(empty) => Some(unsafe { empty(self.object) }),
        }
    }
}

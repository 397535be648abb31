//! A fence in two unequal halves: almost free for readers, dear for the rare reclaimer.
//!
//! Used where two threads each store and then load what the other stored, and at least one must
//! see the other's store:
//!
//! ```text
//! reader   store slot = pinned;  light();  load link
//! freer    store link = gone;    heavy();  load slot
//! ```
//!
//! 1. Of two barriers, at least one of them heavy, one comes first for every thread; what was
//!    stored before the first is seen by loads after the second. Two light ones promise nothing.
//! 2. Which implementation serves is decided once per process and never changes: Linux
//!    `membarrier`, which interrupts every running thread of the process and so makes a compiler
//!    fence enough on the light side; elsewhere, and under checkers, a sequentially consistent
//!    fence on both sides.
//!
//! 3. The dear half interrupts other processors: it is for what happens once in hundreds of
//!    operations. Where both sides are frequent, [`even`] serves both.
//!
//! Used by the epoch and by the registry of running transactions.

use crate::sync::{Ordering, compiler_fence, expedited, fence, membarrier};

/// The reader's half.
#[inline]
pub(crate) fn light() {
    if expedited() {
        // SeqCst: keeps the compiler from moving the load before the store; `membarrier` in
        // `heavy` makes the processor do the same.
        compiler_fence(Ordering::SeqCst);
    } else {
        // SeqCst: one total order with the fence in `heavy`. Ours first: their load sees our
        // store. Theirs first: our load sees theirs.
        fence(Ordering::SeqCst);
    }
}

/// Either half of a pair of which both sides are frequent: a fence that costs as much as it does.
#[inline]
pub(crate) fn even() {
    // SeqCst: one total order of all even barriers. Ours first: their load sees our store. Theirs
    // first: our load sees theirs.
    fence(Ordering::SeqCst);
}

/// The reclaimer's half.
pub(crate) fn heavy() {
    // SeqCst: partner of the fence in `light`, and orders heavy sides among each other.
    fence(Ordering::SeqCst);
    if expedited() {
        membarrier();
        // SeqCst: nothing after the call may be moved before it.
        fence(Ordering::SeqCst);
    }
}

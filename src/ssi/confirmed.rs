//! Confirmation: which commits a read-only snapshot may show.
//!
//! Where commits are to survive a power loss, a commit is linked first and durable later. Until
//! then it may still be taken back, and nobody who only reads is shown it.
//!
//! ```text
//!   .. ─► (40) ─► (41) ─► (42) ─► (43) ─► null ◄── the next commit, told that 43 was seen
//!                  ▲ newest        ▲ tail
//!                  └ the snapshot, unless one of 42, 43 was rescued: then it waits for 43
//! ```
//!
//! 1. `newest` never falls. Every commit at or below it is durable, and every commit that was
//!    acknowledged is at or below it.
//! 2. `rescued` is at least the timestamp of every linked commit that precedes, in the serial
//!    order, one with a lower timestamp.
//! 3. A snapshot at `d`, taken after the tail `t` was marked as seen, is safe when no commit in
//!    `(d, t]` was rescued: those follow all commits up to `d`, and a later commit that would
//!    reach back to `t` or before is refused because of the mark. So no cycle of conflicts leads
//!    through the reader.
//! 4. Horizons for old versions are computed from a `newest` that was read before the barrier and
//!    the scan of the registry; a reader reads `newest` after its own barrier. So no version that
//!    a snapshot needs is cut (see `registry`, 3).
//!
//! Called by `commit_log`. A log whose commits need no confirmation uses none of this.

use crate::id::Timestamp;
use crate::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

#[derive(Debug)]
pub(super) struct Confirmed {
    newest: CachePadded<AtomicU64>,
    rescued: AtomicU64,
}

impl Confirmed {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { newest: CachePadded::new(AtomicU64::new(start.get())), rescued: AtomicU64::new(0) }
    }

    /// Every commit up to `timestamp` is durable.
    pub(super) fn raise(&self, timestamp: Timestamp) {
        // Release: pairs with the Acquire in `newest`; the sync comes before.
        self.newest.fetch_max(timestamp.get(), Ordering::Release);
    }

    pub(super) fn newest(&self) -> Timestamp {
        // Acquire: pairs with the Release in `raise`.
        Timestamp::from_raw(self.newest.load(Ordering::Acquire))
    }

    /// Notes a rescue that is about to be linked with this timestamp (keeps 2).
    pub(super) fn note_rescue(&self, timestamp: Timestamp) {
        // Relaxed: published by the link that follows, which whoever sees that commit has seen.
        self.rescued.fetch_max(timestamp.get(), Ordering::Relaxed);
    }

    /// The snapshot to take where `tail` was marked as seen just now; `None` if only the tail
    /// itself would do, once it is confirmed.
    pub(super) fn snapshot(&self, tail: Timestamp) -> Option<Timestamp> {
        let newest = self.newest();
        if newest >= tail {
            return Some(tail);
        }
        // Relaxed: the caller found `tail` by an Acquire load, after every link up to it.
        let rescued = Timestamp::from_raw(self.rescued.load(Ordering::Relaxed));
        (rescued <= newest).then_some(newest)
    }
}

//! When the record of an entry that left may be taken out of the index.
//!
//! ```text
//! horizon h, newest commit n  ───── readers of what left up to h may be compared ─────►  horizon n
//!     all who can read what left up to h have ended                 all of them began after that
//! ```
//!
//! A reader knows what it read by the record's address. A removal that is followed by a new
//! record is a write between the reader and whoever writes the key next; leaving is nobody's write,
//! so there the record itself must stay until the two cannot be compared any more.
//!
//! 1. A reader of what left at or before `h` has a snapshot below it, so it ended before the
//!    horizon was at `h`, or was given up then; it did not commit after `n`.
//! 2. When the horizon is at `n`, whoever runs or will run and may commit began after all these
//!    readers ended: the order between them is that of time.
//!
//! Asked by vacuums and by what makes room.

use crate::id::Timestamp;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// How far burials may go, and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Burial {
    state: Mutex<State>,
    /// What was allowed last.
    allowed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// What left up to here may be buried.
    allowed: Timestamp,
    /// What left up to here may be buried when the horizon is at `until`.
    waiting: Timestamp,
    until: Timestamp,
}

impl Burial {
    /// Up to where departed records may go. `newest` is read after `horizon`, up to which no
    /// transaction that will commit looks back, and the log neither.
    pub(super) fn advance(
        &self,
        horizon: Timestamp,
        newest: impl FnOnce() -> Timestamp,
    ) -> Timestamp {
        let mut state = self.state.lock();
        if horizon >= state.until {
            let newest = newest();
            state.allowed = if horizon >= newest { horizon } else { state.waiting };
            state.waiting = horizon;
            state.until = newest;
        }
        // Relaxed: what was allowed once stays so, and orders nothing.
        self.allowed.store(state.allowed.get(), Ordering::Relaxed);
        state.allowed
    }

    /// What was allowed last: as good, but for lagging behind.
    pub(super) fn allowed(&self) -> Timestamp {
        // Relaxed: as above.
        Timestamp::from_raw(self.allowed.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_waits_until_its_readers_are_behind_all_who_run() {
        let at = Timestamp::from_raw;
        let burial = Burial::default();
        assert_eq!(burial.advance(at(5), || at(5)), at(5), "nobody runs");
        // Somebody runs at 7; a reader of what left by then may have committed up to 9.
        assert_eq!(burial.advance(at(7), || at(9)), at(5));
        assert_eq!(burial.advance(at(8), || at(12)), at(5));
        assert_eq!(burial.advance(at(9), || at(12)), at(7));
        assert_eq!(burial.advance(at(11), || at(13)), at(7));
        assert_eq!(burial.advance(at(13), || at(13)), at(13));
    }
}

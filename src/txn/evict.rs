//! Making room: entries leave as a commit of their own, which conflicts with nobody.
//!
//! ```text
//! begin ─► prepare ─► tombstones ─► link ─► settle ─► finish ─► see off
//!                     undecided      the commit point
//! ```
//!
//! 1. The commit has an empty footprint, so the conflict graph has no edge to it or from it, and it
//!    is never refused. It has a timestamp, which says which snapshots still see what left.
//! 2. It does not ask the gate: whoever holds that may be waiting for the room.
//! 3. It writes nothing to the log: only entries of volatile buckets leave.
//!
//! What leaving means to a transaction: that a key of a cache is absent says nothing about what
//! was written to it. A serializable transaction that found an entry present, or absent, is
//! refused if somebody else wrote that key meanwhile, and not because the entry left.

use crate::epoch::Guard;
use crate::mvcc::departure::{Departing, SeenOff};
use crate::mvcc::footprint::Footprint;
use crate::ssi::{Kind, Status};
use crate::txn::counters::Count;
use crate::txn::engine::Engine;

/// Takes the tombstones back unless the commit that owns them came about (keeps invariant 4 of
/// `departure`).
struct Undecided<'a, 'g, 't> {
    batch: Box<dyn Departing + 't>,
    guard: &'a Guard<'g>,
    is_linked: bool,
}

impl Drop for Undecided<'_, '_, '_> {
    fn drop(&mut self) {
        if !self.is_linked {
            self.batch.release(self.guard);
        }
    }
}

impl Engine {
    /// Lets the entries leave that `choose` puts tombstones on.
    pub(crate) fn let_leave<'t>(
        &self,
        choose: impl FnOnce(*const Status, &Guard<'_>) -> Box<dyn Departing + 't>,
    ) -> SeenOff {
        let participant = self.collector().participant();
        let guard = participant.pin();
        let log = self.log();
        let registration = log.begin(Kind::Untracked, None, &guard);
        // It has a place in the order, but no snapshot: a search in files takes its time, and
        // must not hold back what others let leave meanwhile. What it looks at the pin keeps.
        log.done_reading(&registration);
        let mut pending = log.prepare(&registration, None, Footprint::default(), &guard);
        let batch = choose(pending.status(), &guard);
        pending.footprint_mut().note_departed(batch.departed());
        let mut undecided = Undecided { batch, guard: &guard, is_linked: false };
        let (asked, search) = (undecided.batch.asked(), undecided.batch.search());
        let nothing = SeenOff { asked, search, ..SeenOff::NOTHING };
        if undecided.batch.len() == 0 {
            drop(undecided);
            drop(pending);
            log.leave(registration);
            return nothing;
        }
        let linked = match log.commit(pending, &registration, &guard) {
            Ok(linked) => linked,
            Err(refused) => {
                drop(undecided);
                drop(refused);
                log.leave(registration);
                return nothing;
            }
        };
        undecided.is_linked = true;
        undecided.batch.settle(linked.timestamp());
        self.finish(linked, registration, &guard);
        let seen_off = undecided.batch.see_off(&log.needed(&guard), &guard);
        self.counters().add(Count::Departures, seen_off.entries);
        self.counters().add(Count::VersionsRetained, seen_off.retained);
        seen_off
    }
}

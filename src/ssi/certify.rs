//! Certification: may this transaction commit now, given all that committed since its snapshot?
//!
//! ```text
//!   front: tail t ──► examine (last examined, t] ──► judge ──► freeze place t + 1 ──► link
//!     ▲                                                                             │ lost the race
//!     └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! 1. The link succeeds only if nothing committed since `t`, so what was judged is what holds at
//!    the commit point. No lock is needed.
//! 2. A transaction none of whose reads was overwritten by a commit in its window has no edge to
//!    any committed transaction, and so closes no cycle: it commits without a look at the graph.
//!
//! Called by the transaction floor.

use super::commit_log::{CommitLog, Front, Registration};
use super::footprint::{Footprint, Refusal};
use super::node::{Linked, Pending, Place, Successor, TxnNode};
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::sync::Arc;
use std::fmt;

/// A commit that was refused. The status says so already: unlink the versions that point at it,
/// then drop this.
pub(crate) struct Refused<'g, F: Footprint> {
    pub(crate) refusal: Refusal,
    pub(crate) pending: Pending<'g, F>,
}

impl<F: Footprint> fmt::Debug for Refused<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

/// How far the window of one transaction was examined.
struct Window<'g, F> {
    snapshot: Timestamp,
    /// The last node that was compared; at first the one at the snapshot. None if nothing has to
    /// be compared.
    examined: Option<&'g TxnNode<F>>,
}

impl<F: Footprint> CommitLog<F> {
    /// Commits `pending`, whose version heads are all taken, or says why not.
    pub(crate) fn commit<'g>(
        &self,
        mut pending: Pending<'g, F>,
        registration: &Registration<F>,
        guard: &'g Guard<'g>,
    ) -> Result<Linked<'g, F>, Refused<'g, F>> {
        let mut window = match self.window(pending.footprint(), registration, guard) {
            Ok(window) => window,
            Err(refusal) => return Err(self.refuse(refusal, pending)),
        };
        loop {
            let front = self.front(guard);
            let mut place = match self.judge(pending.footprint(), &mut window, &front, guard) {
                Ok(place) => place,
                Err(refusal) => return Err(self.refuse(refusal, pending)),
            };
            place.bytes_total = front.tail.bytes_total() + pending.bytes();
            pending.freeze(place);
            match self.link(pending, &front) {
                Ok(linked) => return Ok(linked),
                Err(back) => pending = back,
            }
        }
    }

    /// Ends the reads of a transaction that wrote and locked nothing.
    ///
    /// If nothing in its window overwrote what it read, it read the same as a read-only transaction
    /// that took its snapshot now, and like that one it marks the newest commit as seen and takes
    /// no timestamp. It precedes every later commit and follows every earlier one; the rule about
    /// marked snapshots keeps later commits from reaching back past it.
    pub(crate) fn commit_reads<'g>(
        &self,
        registration: &Registration<F>,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &'g Guard<'g>,
    ) -> Result<Timestamp, Refusal> {
        let mut window = self
            .window(&footprint, registration, guard)
            .inspect_err(|refusal| self.tally.count(refusal))?;
        loop {
            let front = self.front(guard);
            if window.overwriter(&footprint, &front, guard).is_some() {
                break;
            }
            if front.seen || !self.rules().rescue || front.tail.mark_seen() {
                return Ok(front.tail.timestamp());
            }
        }
        let pending = self.prepare(registration, label, footprint, guard);
        let linked =
            self.commit(pending, registration, guard).map_err(|refused| refused.refusal)?;
        let timestamp = linked.timestamp();
        linked.settle();
        Ok(timestamp)
    }

    fn refuse<'g>(&self, refusal: Refusal, pending: Pending<'g, F>) -> Refused<'g, F> {
        pending.abort();
        self.tally.count(&refusal);
        Refused { refusal, pending }
    }

    fn window<'g>(
        &self,
        footprint: &F,
        registration: &Registration<F>,
        guard: &'g Guard<'_>,
    ) -> Result<Window<'g, F>, Refusal> {
        let snapshot = registration.snapshot();
        if !footprint.has_reads() && !footprint.has_locks() {
            return Ok(Window { snapshot, examined: None });
        }
        let anchor = self.anchor(registration, guard).ok_or(Refusal::WindowLost)?;
        Ok(Window { snapshot, examined: Some(anchor) })
    }

    fn judge<'g>(
        &self,
        footprint: &F,
        window: &mut Window<'g, F>,
        front: &Front<'g, F>,
        guard: &'g Guard<'_>,
    ) -> Result<Place, Refusal> {
        if let Some(writer) = window.overwriter(footprint, front, guard) {
            return Err(Refusal::Overwritten { by: writer.peer() });
        }
        let timestamp = front.tail.timestamp();
        let seen_below = if front.seen { timestamp.next() } else { front.tail.seen_below() };
        Ok(Place::clean(timestamp.next(), seen_below))
    }
}

impl<'g, F: Footprint> Window<'g, F> {
    /// Compares what was not compared yet, up to a node that overwrote a read.
    fn overwriter(
        &mut self,
        footprint: &F,
        front: &Front<'g, F>,
        guard: &'g Guard<'_>,
    ) -> Option<&'g TxnNode<F>> {
        let mut node = self.examined?;
        while node.timestamp() < front.tail.timestamp() {
            let Successor::Node(next) = node.successor(guard) else { break };
            if footprint.reads_meet_writes(next.footprint()) {
                return Some(next);
            }
            node = next;
            self.examined = Some(node);
        }
        None
    }
}

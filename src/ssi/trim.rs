//! Cleaning: nodes that no running transaction can conflict with leave the log.
//!
//! ```text
//!  oldest                 keep                        tail
//!   (5) ─► (6) ─► (7) ─► (8) ─► ...                   (42)
//!    └──── retired ────┘   ▲ floor: the oldest snapshot of a tracked transaction,
//!                            or further on if the log holds too much memory
//! ```
//!
//! 1. Nodes are retired in order, by one thread at a time, under the lock on `oldest`.
//! 2. The floor rises first, then `oldest`, then nodes are retired.
//! 3. What is retired is settled and lies before the tail.
//!
//! 4. Every node is passed once: by the thread that moves the floor to it or beyond. That one made
//!    its guard before the floor was there, and is told what was committed by it.
//!
//! Called by committing transactions now and then, and by vacuum.

use super::commit_log::CommitLog;
use super::footprint::Footprint;
use super::needed::Needed;
use super::node::{TxnNode, retire};
use super::passed::Passed;
use super::registry::Horizons;
use crate::epoch::Guard;
use crate::epoch::barrier::heavy;
use crate::id::Timestamp;

impl<F: Footprint> CommitLog<F> {
    /// Which moments readers need, as of now.
    pub(crate) fn needed(&self, guard: &Guard<'_>) -> Needed {
        self.registry().needed(self.visible(guard), self.now(guard))
    }

    /// How far back running transactions look.
    pub(crate) fn horizons(&self, guard: &Guard<'_>) -> Horizons {
        self.registry().horizons(self.visible(guard), self.now(guard))
    }

    /// Up to where commits have been passed: no transaction that will commit looks further back,
    /// and the log names nothing that they wrote.
    pub(crate) fn passed(&self) -> Timestamp {
        self.floor.timestamp()
    }

    /// After which moment nobody commits who looks back beyond [`passed`](Self::passed), which was
    /// read before.
    pub(crate) fn last_behind(&self, guard: &Guard<'_>) -> Timestamp {
        if self.floor.timestamp() <= self.registry().published().tracked {
            return self.now(guard);
        }
        // Someone runs whose window was given up. Either it finds that out at the tail from which
        // it would commit, or that tail is found here.
        heavy();
        self.now(guard).next()
    }

    /// Retires the nodes that no running transaction can conflict with, and more if the log holds
    /// too much memory. Answers which commits it has passed; it retired as many nodes.
    pub(crate) fn trim<'g>(&self, guard: &'g Guard<'_>) -> Passed<'g, F> {
        self.trim_to(self.horizons(guard), usize::MAX, guard)
    }

    /// The same for horizons that are known, `limit` nodes at most.
    pub(super) fn trim_to<'g>(
        &self,
        horizons: Horizons,
        limit: usize,
        guard: &'g Guard<'_>,
    ) -> Passed<'g, F> {
        let horizon = horizons.tracked;
        let tail = self.tail(guard);
        let Some(mut oldest) = self.oldest.try_lock() else {
            return Passed::behind(tail, 0, guard);
        };
        let forced = self.forced_below(tail);
        let first = oldest.get();
        let mut keep = first;
        let mut count = 0;
        loop {
            // SAFETY: nodes are retired under this lock only, and from `oldest` on none is.
            let node = unsafe { keep.as_ref() };
            let is_dispensable = node.timestamp() < horizon || node.bytes_total() < forced;
            let is_past = node.timestamp() < tail.timestamp() && node.is_settled();
            let goes = is_dispensable && is_past && count < limit;
            let Some(next) = node.next().filter(|_| goes) else {
                self.floor.raise(node);
                break;
            };
            keep = next;
            count += 1;
        }
        oldest.set(keep);
        // SAFETY: it is not retired yet; `guard` keeps it beyond that.
        let passed = Passed::behind(unsafe { first.as_ref() }, count, guard);
        let mut node = first;
        while node != keep {
            // SAFETY: as above; `guard` keeps the node beyond its retirement.
            let past = unsafe { node.as_ref() };
            let next = past.next().expect("the walk to `keep` went this way");
            // SAFETY: the node is settled, so no version points at it; the floor and the tail are
            // past it, so no new window and no new snapshot finds it; `oldest` is past it too, and
            // the lock on it is held, so nobody else retires it.
            unsafe { retire(node, past.bytes(), guard) };
            node = next;
        }
        passed
    }

    /// Below which total nodes go whoever needs them; zero if there is memory enough. A quarter
    /// of the room is made at once, so that the next time is far.
    fn forced_below(&self, tail: &TxnNode<F>) -> u64 {
        if self.is_short_of_memory(tail) {
            tail.bytes_total().saturating_sub(self.rules().retained_bytes_max as u64 / 4 * 3)
        } else {
            0
        }
    }

    /// Does the log hold more than it may, up to `node`?
    pub(super) fn is_short_of_memory(&self, node: &TxnNode<F>) -> bool {
        self.retained_bytes(node) > self.rules().retained_bytes_max as u64
    }

    fn retained_bytes(&self, node: &TxnNode<F>) -> u64 {
        node.bytes_total().saturating_sub(self.floor.bytes_total())
    }

    /// Nodes and bytes that the log holds.
    pub(crate) fn retained(&self, guard: &Guard<'_>) -> (u64, u64) {
        let floor = self.floor.timestamp();
        let tail = self.tail(guard);
        let nodes = tail.timestamp().get() - floor.get() + 1;
        (nodes, self.retained_bytes(tail) + tail.bytes() as u64)
    }
}

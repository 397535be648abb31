//! A node in the hands of the transaction it belongs to: before its link, and until it is settled.
//!
//! ```text
//! Pending ── freeze, link ──► Linked ── settle ──► the log's alone
//!    └─ abort ── drop ──► the collector's
//! ```
//!
//! 1. One handle exists for a node, and only through it does the owner change the node.
//! 2. Whoever drops a [`Pending`], or settles a [`Linked`], has first made sure that no version
//!    points at the node's status any more.
//!
//! Made by `commit_log`; the floors above take status and timestamp from the handles.

use super::footprint::Footprint;
use super::node::{Place, TxnNode, retire};
use super::status::{State, Status};
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::sync::Arc;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A node that its owner holds and the log does not know yet.
///
/// Dropping it aborts the transaction and retires the node: first unlink every version that points
/// at [`Pending::status`].
pub(crate) struct Pending<'g, F: Footprint> {
    node: NonNull<TxnNode<F>>,
    guard: &'g Guard<'g>,
}

impl<'g, F: Footprint> Pending<'g, F> {
    pub(super) fn new(
        snapshot: Timestamp,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &'g Guard<'g>,
    ) -> Self {
        Self { node: TxnNode::leaked(snapshot, label, footprint, guard), guard }
    }

    /// Where this transaction's pending versions point. The address stays valid until the node is
    /// settled, or this handle dropped, and then as long as any guard that was pinned by then.
    pub(crate) fn status(&self) -> &Status {
        self.node().status()
    }

    /// What was handed in.
    pub(crate) fn footprint(&self) -> &F {
        self.node().footprint()
    }

    /// The footprint, while the node is not linked and nobody else looks at it.
    pub(crate) fn footprint_mut(&mut self) -> &mut F {
        // SAFETY: the handle is the only one that knows the node (1); others hold the address of
        // its status at most, which is a field of its own.
        let footprint = unsafe { &raw mut (*self.node.as_ptr()).footprint };
        // SAFETY: as above, and `&mut self` says that nobody else looks through the handle.
        let footprint = unsafe { &mut *footprint };
        footprint.as_mut().expect("only the first node has no footprint")
    }

    /// Tells everyone who meets a version of this transaction to look past it.
    pub(crate) fn abort(&self) {
        self.node().status().set(State::Aborted);
    }

    pub(super) fn node(&self) -> &TxnNode<F> {
        // SAFETY: the node was leaked from a box in `new`, and only `drop` and the log, which
        // takes this handle, retire it.
        unsafe { self.node.as_ref() }
    }

    /// What the log keeps from being freed as long as it holds the node.
    pub(super) fn bytes(&self) -> u64 {
        (self.node().bytes() + self.footprint().held_up()) as u64
    }

    /// Sets the place that the next `link` publishes.
    pub(super) fn freeze(&mut self, place: Place) {
        // SAFETY: a pending node is not linked, and `&mut self` is its owner's.
        unsafe { self.node().set_place(place) };
    }

    /// Links the node behind `tail`. On success the node is the log's.
    pub(super) fn link(self, tail: &TxnNode<F>, seen: bool) -> Result<Linked<'g, F>, Self> {
        if !tail.link(seen, self.node) {
            return Err(self);
        }
        let linked = Linked { node: self.node, life: PhantomData };
        std::mem::forget(self);
        Ok(linked)
    }
}

impl<F: Footprint> Drop for Pending<'_, F> {
    fn drop(&mut self) {
        self.abort();
        let bytes = self.node().bytes();
        // SAFETY: the node was never linked, so this handle is its only owner; the user of the
        // handle unlinked the versions that pointed at it (invariant 4).
        unsafe { retire(self.node, bytes, self.guard) };
    }
}

impl<F: Footprint> fmt::Debug for Pending<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(self.node()).finish()
    }
}

/// A node that is in the log, whose owner has still to put timestamps into its versions.
///
/// Dropping it unsettled keeps the node, and every later one, for the life of the log.
#[must_use = "the log keeps a node until it is settled"]
pub(crate) struct Linked<'g, F: Footprint> {
    node: NonNull<TxnNode<F>>,
    life: PhantomData<&'g TxnNode<F>>,
}

impl<'g, F: Footprint> Linked<'g, F> {
    /// When the transaction committed.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.node().timestamp()
    }

    pub(super) fn node(&self) -> &'g TxnNode<F> {
        // SAFETY: the log does not retire an unsettled node, and settling consumes the handle; the
        // guard that the owner held while linking lives for `'g` and protects it from then on.
        unsafe { self.node.as_ref() }
    }

    pub(super) fn settle(self) {
        self.node().settle();
    }
}

impl<F: Footprint> fmt::Debug for Linked<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Linked").field(self.node()).finish()
    }
}

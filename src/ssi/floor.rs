//! Where the log begins: the first node that is not retired.
//!
//! ```text
//! Oldest   its address, for whoever trims: under a lock
//! Floor    its timestamp, for whoever is about to look at its window: a load
//! ```
//!
//! 1. The floor rises before what lies below it is retired. So a guard that is made first, and then
//!    finds the floor at or below `s`, protects every node from `s` on.
//! 2. Both only move forward, under the lock on `Oldest`.
//!
//! Kept by `trim`; read by `commit_log` and `certify`.

use super::node::TxnNode;
use crate::id::Timestamp;
use crate::sync::{AtomicU64, Ordering};
use std::ptr::NonNull;

/// The first node that is not retired, in numbers.
#[derive(Debug)]
pub(super) struct Floor {
    timestamp: AtomicU64,
    bytes_total: AtomicU64,
}

impl Floor {
    /// Before the first commit of a log that begins at `start`.
    pub(super) fn new(start: Timestamp) -> Self {
        Self { timestamp: AtomicU64::new(start.get()), bytes_total: AtomicU64::new(0) }
    }

    /// Nodes older than this may be retired.
    pub(super) fn timestamp(&self) -> Timestamp {
        // Acquire: pairs with the Release in `raise`. That a guard made before protects what this
        // does not rule out is the epoch's doing: the store comes before the retiring.
        Timestamp::from_raw(self.timestamp.load(Ordering::Acquire))
    }

    pub(super) fn bytes_total(&self) -> u64 {
        // Relaxed: an estimate that decides when to trim.
        self.bytes_total.load(Ordering::Relaxed)
    }

    pub(super) fn raise<F>(&self, keep: &TxnNode<F>) {
        // Relaxed: as in `bytes_total`.
        self.bytes_total.store(keep.bytes_total(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `timestamp`; the retiring follows (keeps 1).
        self.timestamp.store(keep.timestamp().get(), Ordering::Release);
    }
}

/// The first node that is not retired.
pub(super) struct Oldest<F>(NonNull<TxnNode<F>>);

// SAFETY: the pointer is followed only under the lock around it, by the log that owns the nodes;
// a footprint may be dropped on any thread.
unsafe impl<F: Send> Send for Oldest<F> {}

impl<F> Oldest<F> {
    /// `node` is the log's first.
    pub(super) fn new(node: NonNull<TxnNode<F>>) -> Self {
        Self(node)
    }

    pub(super) fn get(&self) -> NonNull<TxnNode<F>> {
        self.0
    }

    /// All before `node` is about to be retired.
    pub(super) fn set(&mut self, node: NonNull<TxnNode<F>>) {
        self.0 = node;
    }
}

//! What is told to whoever moves the floor of the log.
//!
//! 1. The nodes were linked when the guard was made, or later, and are retired at the earliest
//!    after it was: so the guard protects them.
//!
//! Made by `trim`; taken by whoever tidies up after commits.

use super::node::{Successor, TxnNode};
use crate::epoch::Guard;

/// Commits that the floor has reached: whoever may still be certified sees them, so that only
/// snapshots need what they overwrote.
#[must_use = "what these overwrote stays until somebody takes it out"]
pub(crate) struct Passed<'g, F> {
    before: &'g TxnNode<F>,
    left: usize,
    guard: &'g Guard<'g>,
}

impl<'g, F> Passed<'g, F> {
    /// As many nodes behind this one as are linked there.
    pub(super) fn behind(node: &'g TxnNode<F>, count: usize, guard: &'g Guard<'_>) -> Self {
        Self { before: node, left: count, guard }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.left
    }
}

impl<'g, F> Iterator for Passed<'g, F> {
    type Item = &'g F;

    fn next(&mut self) -> Option<&'g F> {
        self.left = self.left.checked_sub(1)?;
        let Successor::Node(next) = self.before.successor(self.guard) else { return None };
        self.before = next;
        Some(next.footprint())
    }
}

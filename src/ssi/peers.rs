//! Looking at the peers of a running transaction, to say whom it met.

use super::commit_log::{CommitLog, Registration};
use super::footprint::Footprint;
use super::node::Successor;
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::sync::Arc;

/// A committed transaction, with what it read and wrote.
pub(crate) struct Met<'g, F> {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) footprint: &'g F,
}

impl<F: Footprint> CommitLog<F> {
    /// The transaction that committed at `timestamp`, if it did so after the snapshot of
    /// `registration` and the log still holds what came since. Walks there step by step.
    pub(crate) fn met<'g>(
        &self,
        timestamp: Timestamp,
        registration: &Registration<F>,
        guard: &'g Guard<'_>,
    ) -> Option<Met<'g, F>> {
        let mut at = self.anchor(registration, guard)?;
        while at.timestamp() < timestamp {
            let Successor::Node(next) = at.successor(guard) else { return None };
            at = next;
        }
        let met = at.timestamp() == timestamp && timestamp > registration.snapshot();
        met.then(|| Met { label: at.peer().label, footprint: at.footprint() })
    }
}

//! What certification asks of a transaction, and what it answers.
//!
//! 1. A footprint never changes once it was handed to the log: it is read by other threads for as
//!    long as some running transaction may conflict with it.
//!
//! The floors above implement [`Footprint`] over their keys; `tests` does so over small integers.

use crate::id::Timestamp;
use crate::sync::Arc;
use std::time::Instant;

/// What a transaction read, locked and wrote, as far as conflicts are concerned.
pub(crate) trait Footprint: Send + Sync + 'static {
    /// Did `self` read a key, or a range with a key, that `writer` wrote?
    fn reads_meet_writes(&self, writer: &Self) -> bool;
    /// Did `self` lock a key that `other` wrote or locked?
    fn locks_meet_writes(&self, other: &Self) -> bool;
    /// Is there a read at all? Reads under plain snapshot isolation do not count.
    fn has_reads(&self) -> bool;
    /// Is there an explicit lock at all?
    fn has_locks(&self) -> bool;
    /// Is there a write at all?
    fn has_writes(&self) -> bool;
    /// Heap memory held beside the footprint itself.
    fn bytes(&self) -> usize;
    /// Bytes elsewhere that cannot be freed before the log has passed this.
    fn held_up(&self) -> usize {
        0
    }
}

/// How strict and how patient the certifier is. Fixed for the life of a log.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Look for a real cycle when a read was overwritten. Off, any overwritten read aborts: the
    /// reference mode that the graph is compared with.
    pub(crate) rescue: bool,
    /// Pairs of transactions one commit may compare in its search for a cycle.
    pub(crate) search_budget: usize,
    /// Memory the log may keep for running transactions before it drops the oldest nodes.
    pub(crate) retained_bytes_max: usize,
    /// Registration slots of the first chunk.
    pub(crate) registry_slots: usize,
    /// Whether commits count for read-only snapshots only once they are confirmed.
    pub(crate) confirm: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rescue: true,
            search_budget: 1 << 18,
            retained_bytes_max: 64 << 20,
            registry_slots: 16,
            confirm: false,
        }
    }
}

/// Whether a running transaction needs the log kept from its snapshot on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It will be certified: its window stays in the log.
    Tracked,
    /// It only reads versions: they stay, the log need not.
    Untracked,
}

/// What statistics tell about a running transaction.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) since: Instant,
}

/// A committed transaction, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) timestamp: Timestamp,
    pub(crate) label: Option<Arc<str>>,
}

/// Why one transaction precedes another in every serial order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The first read a version that the second replaced: an rw-conflict.
    Overwritten,
    /// The first had committed when the second took its snapshot.
    Before,
}

/// One step along a path: the edge, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) edge: Edge,
    pub(crate) peer: Peer,
}

/// A cycle that a commit would have closed: from the victim along `steps`, and by `closing` from
/// the last step back to the victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) steps: Vec<Step>,
    pub(crate) closing: Edge,
}

/// Why a commit was refused. The victim has left no trace; running it again is always safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Reference mode: `by` overwrote something that the victim read.
    Overwritten { by: Peer },
    /// The commit would close this cycle.
    Cycle(Box<Witness>),
    /// The commit reaches back along `trail` to `reached`, and a read-only transaction, which
    /// nobody tracked, has seen that one and cannot see this one.
    ReadOnlyPivot { reached: Timestamp, trail: Vec<Step> },
    /// The log no longer holds what committed since the victim's snapshot.
    WindowLost,
    /// The search for a cycle took too long to finish.
    SearchBudget,
    /// `by` wrote or locked something that the victim had locked.
    Locked { by: Peer },
}

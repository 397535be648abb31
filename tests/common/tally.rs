//! The judge of one-thread runs: fast enough for millions of histories.
//!
//! On one thread the order of all calls is known, so there is nothing to search for:
//! 1. A transaction reads, whatever it read, the state as it was when it began (`leaving::Base`).
//! 2. No two committed transactions that overlap wrote the same key (first committer wins).
//! 3. The graph of serializable transactions has no cycle. An edge from `a` to `b` says that `a`
//!    comes first in every serial order: `a` ended before `b` began; or both wrote a key and `a`
//!    committed first; or `a` read a key that `b`, which committed after `a` began, wrote.
//!
//! Reads of transactions at the level `Snapshot` make no edges. A read-only snapshot is a node
//! from its first read. `graph` and `brute` decide the same from less, and are compared with it.

use super::probe::Probe;
use super::program::Kind;
use super::store::{ABSENT, Level, State, Violation, keys, violation};

/// One transaction, in the only terms the judges know.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) kind: Kind,
    /// Global sequence numbers: before the begin call, after the call that ended it.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// Timestamps as the store claims them; `UNCLAIMED` where it does not say.
    pub(crate) snapshot: u64,
    /// Of a committed transaction that wrote.
    pub(crate) commit: Option<u64>,
    pub(crate) committed: bool,
    pub(crate) seen: State,
    pub(crate) known: u8,
    pub(crate) tracked: u8,
    pub(crate) written: State,
    /// Keys whose value the transaction changed.
    pub(crate) writes: u8,
}

/// The snapshot of a read that does not tell its timestamp.
pub(crate) const UNCLAIMED: u64 = u64::MAX;

impl Judged {
    /// A read-only transaction that looked at keys at one moment.
    pub(crate) fn looked(moment: u64, probe: &Probe) -> Self {
        Self {
            kind: Kind::ReadOnly,
            begin: moment,
            end: moment,
            snapshot: UNCLAIMED,
            commit: None,
            committed: false,
            seen: probe.seen,
            known: probe.known,
            tracked: probe.tracked,
            written: State::default(),
            writes: 0,
        }
    }

    /// The keys whose later change makes an edge from this transaction.
    pub(crate) fn reads(&self) -> u8 {
        if self.kind == Kind::ReadWrite(Level::Snapshot) { 0 } else { self.tracked }
    }

    /// A transaction that was refused for want of room wanted some: it did not only remove.
    pub(crate) fn check_wants_room(&self) -> Result<(), Violation> {
        if keys(self.writes).any(|key| self.written[usize::from(key)] != ABSENT) {
            return Ok(());
        }
        violation("removal refused for want of room", format!("{self:?}"))
    }

    /// Ran a transaction that is part of the serial order?
    pub(crate) fn counts(&self) -> bool {
        self.committed || self.kind == Kind::ReadOnly
    }
}

/// A node of the graph between two moments at which no transaction is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) reads: u8,
    pub(crate) writes: u8,
    /// Written without a change: absent before, absent after.
    pub(crate) idle_writes: u8,
}

impl Node {
    /// Must `self` come before `other`?
    fn precedes(&self, other: &Self) -> bool {
        self.end < other.begin
            || (self.writes & other.writes != 0 && self.end < other.end)
            || (self.reads & other.writes != 0 && self.begin < other.end)
    }
}

/// Whether the graph of `nodes` has a cycle; at most 64 nodes.
pub(crate) fn cyclic(nodes: &[Node]) -> bool {
    assert!(nodes.len() <= 64, "a window of {} transactions is too large", nodes.len());
    let mut before = [0_u64; 64];
    for (to, after) in nodes.iter().enumerate() {
        for (from, node) in nodes.iter().enumerate() {
            if from != to && node.precedes(after) {
                before[to] |= 1 << from;
            }
        }
    }
    let mut left = u64::MAX >> (64 - nodes.len().max(1));
    if nodes.is_empty() {
        return false;
    }
    loop {
        let mut free = 0_u64;
        for (at, wait) in before[..nodes.len()].iter().enumerate() {
            if left & (1 << at) != 0 && wait & left == 0 {
                free |= 1 << at;
            }
        }
        left &= !free;
        if left == 0 || free == 0 {
            return left != 0;
        }
    }
}

//! What a transaction may be told when it begins.

use crate::sync::Arc;

/// What a transaction is protected from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Every execution equals one in which the transactions ran one after the other, in an order
    /// that agrees with real time (strict serializability). A commit is refused only when no such
    /// order is left.
    ///
    /// The guarantee covers the transactions that run at this level, and all snapshots.
    #[default]
    Serializable,
    /// A transaction reads one snapshot, which holds every commit that returned before it began,
    /// and of two that write the same key at the same time only the first commits. Two
    /// transactions may each read what the other writes (write skew).
    Snapshot,
}

/// What a commit survives.
///
#[doc = include_str!("durability.md")]
///
/// After any crash the recovered state is exactly the first commits in the order of commit. How
/// often the log is synced at `Relaxed` is set by [`Options`](crate::Options). Each row names the
/// tests of the repository that hold it, by file and function: real processes are killed, a
/// simulated disk loses, tears and refuses, real file systems lose their power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing is written.
    InMemory,
    /// The log is synced after an interval, a number of commits or of bytes, whichever comes
    /// first; see [`Options`](crate::Options).
    Relaxed,
    /// The log is synced before a commit returns; commits that wait at the same time share a sync.
    #[default]
    Full,
}

/// How one transaction differs from what its database does by default.
///
/// ```
/// use palisade::{Isolation, TransactionOptions};
///
/// let options = TransactionOptions::new().isolation(Isolation::Snapshot).label("import");
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct TransactionOptions {
    pub(crate) isolation: Option<Isolation>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) attempts_max: Option<u32>,
    pub(crate) durability: Option<Durability>,
}

impl TransactionOptions {
    /// The database's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The isolation level, instead of the database's.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// A name for this transaction in the conflict reports of others and in the statistics.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Makes this transaction as durable as this before it returns, where that is more than what
    /// its database promises. In a database that lives in memory it changes nothing.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How often the closure runs before its last conflict is returned as an error; at least
    /// once. Without a limit it runs until it commits.
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts.max(1));
        self
    }
}

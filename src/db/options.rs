//! What a database may be told when it is opened.

use std::time::Duration;

use crate::db::Database;
use crate::db::background::Background;
use crate::sync::Arc;
use crate::txn::{Engine, Isolation, Settings};

/// How to open a database. The defaults are safe: serializable transactions, no threads.
///
/// ```
/// use std::time::Duration;
/// use palisade::{Isolation, Options};
///
/// let db = Options::new()
///     .isolation(Isolation::Snapshot)
///     .vacuum_every(Duration::from_secs(1))
///     .in_memory();
/// # drop(db);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Options {
    settings: Settings,
    vacuum_every: Option<Duration>,
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The isolation level of transactions that do not choose one:
    /// [`Isolation::Serializable`] unless set.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Starts a thread that vacuums at this interval. Without it nothing runs in the background;
    /// call [`Database::vacuum`] instead.
    pub fn vacuum_every(mut self, interval: Duration) -> Self {
        self.vacuum_every = Some(interval);
        self
    }

    /// How much memory, in bytes, may be spent on remembering what committed while the longest
    /// transaction runs: 64 MiB unless set. A transaction that outlives the memory is refused
    /// with [`ConflictKind::WindowLost`](crate::ConflictKind::WindowLost).
    pub fn retained_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.rules.retained_bytes_max = bytes;
        self
    }

    /// How many pairs of transactions a commit may compare while it looks for an order that
    /// explains what they read, before it gives up with
    /// [`ConflictKind::SearchBudget`](crate::ConflictKind::SearchBudget): 262 144 unless set.
    pub fn search_budget(mut self, pairs: usize) -> Self {
        self.settings.rules.search_budget = pairs;
        self
    }

    /// Whether a transaction of which a read was overwritten is let through when no cycle of
    /// conflicts results. Off, it is refused, as most optimistic engines do: a reference to
    /// compare with.
    #[cfg(feature = "testing")]
    pub fn rescue(mut self, rescue: bool) -> Self {
        self.settings.rules.rescue = rescue;
        self
    }

    /// Makes a database that lives in memory and goes with its last handle.
    #[must_use]
    pub fn in_memory(&self) -> Database {
        let engine = Arc::new(Engine::new(self.settings.clone()));
        let background = self.vacuum_every.and_then(|interval| {
            let engine = Arc::clone(&engine);
            Background::every("palisade-vacuum", interval, move || {
                engine.vacuum(usize::MAX);
            })
        });
        Database::with(engine, background)
    }
}

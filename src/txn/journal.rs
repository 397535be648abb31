//! The log of a durable database, as the commit pipeline sees it.
//!
//! 1. What a commit writes down is collected before anything is held: it runs the user's `Encode`.
//! 2. A closed journal takes no more records.
//! 3. The keeper (the lock of the directory, and what else must not go before the last commit)
//!    lives as long as the journal.
//! 4. Where the files are only read, nothing is committed that would have to be in them.
//!
//! The order of things is described in `pledge`.

use std::any::Any;
use std::fmt;

use crate::error::{Error, Result};
use crate::id::DatabaseId;
use crate::mvcc::ops::Ops;
use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
use crate::txn::options::Durability;
use crate::wal::{Draft, Payload, PayloadSeed, Wal};

/// Where durable buckets are, as far as commits are concerned.
pub(crate) enum Backing {
    /// There are none.
    Memory,
    /// What commits is written to a log.
    Log(Journal),
    /// They are read from files that stay as they are.
    ReadOnly { _keeper: Arc<dyn Any + Send + Sync> },
}

impl Backing {
    pub(crate) fn journal(&self) -> Option<&Journal> {
        match self {
            Self::Log(journal) => Some(journal),
            Self::Memory | Self::ReadOnly { .. } => None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly { .. })
    }

    /// The record for the log of what `collect` adds; `None` if there is no log, or nothing for
    /// it (keeps 4).
    pub(crate) fn payload(
        &self,
        collect: impl FnOnce(&mut Ops) -> Result<()>,
    ) -> Result<Option<Payload>> {
        match self {
            Self::Memory => Ok(None),
            Self::Log(journal) => journal.payload(collect),
            Self::ReadOnly { .. } => {
                let mut ops = Ops::default();
                collect(&mut ops)?;
                if ops.is_empty() { Ok(None) } else { Err(Error::ReadOnly) }
            }
        }
    }
}

/// The log of a durable database, and what it promises.
pub(crate) struct Journal {
    wal: Arc<Wal>,
    seed: PayloadSeed,
    durability: Durability,
    is_closed: AtomicBool,
    /// Calls whoever syncs in the background.
    on_due: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Brings what is in memory only into the files. Answers whether that was done.
    on_short: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    /// What must outlive the last commit.
    _keeper: Arc<dyn Any + Send + Sync>,
}

impl Journal {
    pub(crate) fn new(
        wal: Arc<Wal>,
        database: DatabaseId,
        durability: Durability,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            wal,
            seed: PayloadSeed::of(database),
            durability,
            is_closed: AtomicBool::new(false),
            on_due: OnceLock::new(),
            on_short: OnceLock::new(),
            _keeper: keeper,
        }
    }

    /// Has `call` called when the log is to be synced and nobody waits for it.
    pub(crate) fn on_due(&self, call: Box<dyn Fn() + Send + Sync>) {
        assert!(self.on_due.set(call).is_ok(), "set once, when the database is opened");
    }

    /// Has `save` called when memory is short and what is in the files has left it already.
    pub(crate) fn on_short(&self, save: Box<dyn Fn() -> bool + Send + Sync>) {
        assert!(self.on_short.set(save).is_ok(), "set once, when the database is opened");
    }

    /// Brings values into the files that are in memory only, if that can be done.
    pub(super) fn save(&self) -> bool {
        self.on_short.get().is_some_and(|save| save())
    }

    /// From now on nothing is committed.
    pub(crate) fn close(&self) {
        // Release: whoever sees it is refused; who does not, is ahead of the close.
        self.is_closed.store(true, Ordering::Release);
    }

    /// After a commit that did not wait.
    pub(super) fn flush_if_due(&self) -> Result<()> {
        if !self.wal.is_flush_due() {
            return Ok(());
        }
        match self.on_due.get() {
            Some(call) => call(),
            None => self.wal.sync_to(self.wal.position())?,
        }
        Ok(())
    }

    pub(crate) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Whether every commit is durable before it is told of.
    pub(crate) fn is_full(&self) -> bool {
        self.durability == Durability::Full
    }

    /// The record of what `collect` adds; `None` if it adds nothing.
    fn payload(&self, collect: impl FnOnce(&mut Ops) -> Result<()>) -> Result<Option<Payload>> {
        let mut draft = Draft::new(self.seed);
        let mut ops = Ops::behind(std::mem::take(draft.bytes()));
        collect(&mut ops)?;
        if ops.is_empty() {
            return Ok(None);
        }
        // Acquire: pairs with the Release in `close`.
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let (bytes, count) = ops.finish().ok_or(Error::EntryTooLarge)?;
        *draft.bytes() = bytes;
        Ok(Some(draft.finish(count)?))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("durability", &self.durability).finish_non_exhaustive()
    }
}

//! The files of one database: what holds them together while it is open.
//!
//! ```text
//! open ──► lock, manifest, log ──► Store ──► load        a bucket, when somebody opens it
//!                                    │       catalog     buckets made, renamed, dropped
//!                                    │       checkpoint  tables rewritten, log released
//!                                    │       save        what is new goes to deltas
//!                                    │       shelve      where values are that left memory
//!                                    └─────► close       a clean end
//! ```
//!
//! 1. One store has the directory, by its lock, from before it reads a file until it is dropped.
//! 2. The state is what the next manifest will say (see `state`). Changes of the catalog are
//!    logged and applied under its lock, in one order.
//! 3. One checkpoint runs at a time. It releases a part of the log only after the manifest that
//!    does without it is durable.
//! 4. A failure that leaves open which manifest a crash would bring back poisons the log.
//! 5. The store outlives the engine's last commit: the engine keeps it.

mod archive;
mod backup;
mod catalog;
mod changes;
mod checkpoint;
mod due;
mod lenient;
mod load;
mod lock;
mod open;
mod orphans;
mod pace;
mod read_only;
mod rescue;
mod salvage;
mod save;
mod shelve;
mod state;
mod target;
mod threads;
mod verify;

use std::fmt;

use crate::db::files::Files;
use crate::error::Result;
use crate::id::{Lsn, Timestamp};
use crate::storage::Lock;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::txn::{Backing, Engine, Journal, Settings};
use crate::wal::Wal;

pub(super) use archive::Archive;
pub use backup::BackedUp;
pub(super) use catalog::Unopened;
pub use checkpoint::Checkpointed;
pub use open::Recovery;
pub(super) use open::open;
pub(super) use read_only::{Reading, engine as reading_engine, examine, open_read_only};
pub use rescue::{Dropped, Salvaged};
pub(super) use salvage::salvage;
pub(super) use threads::Keeper;
pub(super) use verify::verify;
pub use verify::{Problem, Verified};

use checkpoint::Progress;
use state::State;

/// An engine that goes on behind what was recovered, and keeps the store (keeps 5).
pub(super) fn engine(keeper: &Arc<Keeper>, settings: &Settings) -> Arc<Engine> {
    let store = &keeper.store;
    let (wal, durability) = (Arc::clone(&store.wal), store.files.durability);
    let kept: Arc<Keeper> = Arc::clone(keeper);
    let journal = Journal::new(wal, store.archive.database, durability, kept);
    Arc::new(Engine::recovered(settings, store.archive.recovered, Backing::Log(journal)))
}

/// The open files of a database.
pub(super) struct Store {
    pub(super) archive: Archive,
    wal: Arc<Wal>,
    files: Files,
    /// Held for the length of a checkpoint.
    checkpoint: Mutex<Progress>,
    is_closed: Mutex<bool>,
    /// Held by the thread of checkpoints while it holds the engine.
    at_work: Mutex<()>,
    /// A checkpoint that is at work keeps to no rate from here on.
    is_closing: AtomicBool,
    /// Checkpoints that were finished.
    saves: AtomicU64,
    /// How many commits wait for a checkpoint, so that they have room.
    is_short: AtomicU64,
    _lock: Box<dyn Lock>,
}

impl Store {
    pub(super) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// From here on the log is needed.
    fn needed(&self) -> Lsn {
        self.archive.state.lock().needed
    }

    /// Puts a manifest in place that says what the state says (keeps 4).
    fn store_manifest(&self, state: &mut State, last: Timestamp, clean: Option<Lsn>) -> Result<()> {
        // Which manifest is in place may be open since the failure.
        self.wal.check()?;
        let manifest = state.manifest((last, self.wal.durable()), clean);
        let Archive { storage, directory, .. } = &self.archive;
        let stored = manifest.store(&**storage, directory, self.files.sabotages);
        stored.map_err(|error| {
            if error.is_fatal {
                self.wal.poison(Arc::new(error.source.clone()));
            }
            error.source.into()
        })
    }

    /// Has a checkpoint that is at work end as soon as it can, and the thread begin none, for
    /// somebody waits to close; or not any more.
    fn hurry(&self, is_closing: bool) {
        // Relaxed: who sets it and wants to be sure takes the lock of `at_work` next.
        self.is_closing.store(is_closing, Ordering::Relaxed);
    }

    fn is_hurried(&self) -> bool {
        // Relaxed: under the lock of `at_work`, or a hint.
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Makes everything durable and notes a clean end. Nothing may be committed afterwards.
    pub(super) fn close(&self) -> Result<()> {
        let mut is_closed = self.is_closed.lock();
        if *is_closed {
            return Ok(());
        }
        let end = self.wal.close()?;
        self.store_manifest(&mut self.archive.state.lock(), self.wal.last(), Some(end))?;
        *is_closed = true;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the database was not closed cleanly; it will be recovered");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("directory", &self.archive.directory).finish_non_exhaustive()
    }
}

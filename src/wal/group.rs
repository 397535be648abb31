//! Group commit: whoever finds nobody syncing syncs for all.
//!
//! ```text
//! a  append  sync_to ─ leads: ░ gathers ░ sync ░ durable = end ░ returns
//! b     append  sync_to ─ waits ───────────────────────────────┘ returns
//! c                  append  sync_to ─ waits ──────────────────┘ leads: ..
//! ```
//!
//! 1. Never do two syncs overlap: a failure is told to one of them only, and the other one would
//!    acknowledge what is lost.
//! 2. The durable position moves only after the sync that covers it returned without a failure.
//! 3. A failed sync is the last one. Whoever waits for it is told, and whoever comes later.
//! 4. A leader that panics hands over as one that failed.

use crate::id::Lsn;
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering};
use crate::wal::error::WalError;
use crate::wal::poison::Poison;

/// The committers that wait for a sync.
#[derive(Debug)]
pub(super) struct Group {
    durable: AtomicU64,
    is_syncing: Mutex<bool>,
    changed: Condvar,
    /// Not to be set but for a test: a second leader does not wait for the first.
    overlaps: bool,
}

/// A leader did not come to the end of its sync.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a sync of the log panicked")]
struct Panicked;

impl Group {
    pub(super) fn new(durable: Lsn, overlaps: bool) -> Self {
        Self {
            durable: AtomicU64::new(durable.get()),
            is_syncing: Mutex::new(false),
            changed: Condvar::new(),
            overlaps,
        }
    }

    /// Everything before this position is on the device.
    #[inline]
    pub(super) fn durable(&self) -> Lsn {
        // Acquire: partner of the release in `lead`.
        Lsn::from_raw(self.durable.load(Ordering::Acquire))
    }

    /// Returns once the log is durable up to `position`, which was appended before. `sync` makes
    /// durable what is appended by then, and says how far that is.
    pub(super) fn sync_to(
        &self,
        position: Lsn,
        poison: &Poison,
        sync: impl FnOnce() -> Result<Lsn, WalError>,
    ) -> Result<(), WalError> {
        if self.durable() >= position {
            return Ok(());
        }
        let mut is_syncing = self.is_syncing.lock();
        loop {
            if self.durable() >= position {
                return Ok(());
            }
            poison.check()?;
            if !*is_syncing || self.overlaps {
                break;
            }
            self.changed.wait(&mut is_syncing);
        }
        *is_syncing = true;
        drop(is_syncing);
        self.lead(poison, sync)
    }

    fn lead(
        &self,
        poison: &Poison,
        sync: impl FnOnce() -> Result<Lsn, WalError>,
    ) -> Result<(), WalError> {
        let mut lead = Lead { group: self, poison, is_done: false };
        let outcome = match sync() {
            Ok(target) => {
                // Release: partner of the acquire in `durable`.
                self.durable.fetch_max(target.get(), Ordering::Release);
                Ok(())
            }
            Err(failure) => Err(poison.set_by(failure)),
        };
        lead.is_done = true;
        outcome
    }
}

/// Leading, until dropped.
struct Lead<'a> {
    group: &'a Group,
    poison: &'a Poison,
    is_done: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            // Invariant 4.
            self.poison.set(Arc::new(Panicked));
        }
        *self.group.is_syncing.lock() = false;
        self.group.changed.notify_all();
    }
}

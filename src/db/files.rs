//! What an opened database is told about its files.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::id::DatabaseId;
use crate::storage::{Disk, Sabotages, Storage};
use crate::sync::Arc;
use crate::txn::Durability;
use crate::wal::{FlushPolicy, WalOptions};

/// How far a recovery has come. The last step of a kind says that it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryStep {
    /// The log is read, while the database is opened.
    Log {
        /// Commits read so far.
        commits: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A bucket is brought into memory, when it is opened for the first time.
    Bucket {
        /// Its name.
        name: Arc<str>,
        /// Entries of tables and operations of the log that were taken in so far.
        done: u64,
        /// All there are.
        total: u64,
    },
}

/// Whoever is told how far a recovery has come.
pub(super) type Progress = Arc<dyn Fn(RecoveryStep) + Send + Sync>;

/// What concerns the files.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) durability: Durability,
    /// Unless set, it depends on the limit of memory.
    pub(super) segment_bytes: Option<u32>,
    flush: Option<FlushPolicy>,
    pub(super) checkpoint: CheckpointPolicy,
    pub(super) progress: Option<Progress>,
    pub(super) has_threads: bool,
    pub(super) storage: Arc<dyn Storage>,
    /// Where everything random comes from; drawn anew for each opening unless set.
    pub(super) seed: Option<u64>,
    pub(super) sabotages: Sabotages,
}

/// When checkpoints are made, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckpointPolicy {
    pub(super) log_bytes_min: u64,
    pub(super) percent_of_data: u32,
    pub(super) every: Option<Duration>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) table_bytes: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            segment_bytes: None,
            flush: None,
            checkpoint: CheckpointPolicy {
                log_bytes_min: 256 << 20,
                percent_of_data: 100,
                every: None,
                bytes_per_second: Some(200_000_000),
                table_bytes: 32 << 20,
            },
            progress: None,
            has_threads: true,
            storage: Arc::new(Disk),
            seed: None,
            sabotages: Sabotages::default(),
        }
    }
}

/// The size of a segment.
const SEGMENT_BYTES: u32 = 64 << 20;
/// The same under a limit: such a part of it, since three segments may be in memory at a time.
const SEGMENT_SHARE: u64 = 128;
const SEGMENT_BYTES_MIN: u32 = 1 << 20;

impl Files {
    /// Keeps what files take of the memory small if that has a limit.
    pub(super) fn fit(mut self, limit: Option<u64>) -> Self {
        if let Some(limit) = limit {
            let share = u32::try_from(limit / SEGMENT_SHARE).unwrap_or(u32::MAX);
            self.segment_bytes.get_or_insert(share.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES));
        }
        self
    }

    /// A number that differs from one opening to the next.
    pub(super) fn random(&self, purpose: u64) -> u64 {
        match self.seed {
            Some(seed) => seed.wrapping_add(purpose).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            None => RandomState::new().hash_one(purpose),
        }
    }

    /// A name for a database that is being made.
    pub(super) fn database_id(&self) -> DatabaseId {
        DatabaseId::from_raw(u128::from(self.random(1)) << 64 | u128::from(self.random(2)))
    }

    pub(super) fn wal_options(&self) -> WalOptions {
        let mut options = WalOptions::new(self.random(0));
        options.segment_bytes = self.segment_bytes.unwrap_or(SEGMENT_BYTES);
        options.is_full = self.durability == Durability::Full;
        options.flush = self.flush.unwrap_or_default();
        options.sabotages = self.sabotages;
        options
    }

    /// The interval after which the log is synced, if it is one of the conditions.
    pub(super) fn flush_interval(&self) -> Option<Duration> {
        self.flush.unwrap_or_default().interval
    }

    pub(super) fn flush_mut(&mut self) -> &mut FlushPolicy {
        // Whoever names one condition names all that shall hold.
        let none = FlushPolicy { interval: None, commits: None, bytes: None };
        self.flush.get_or_insert(none)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("durability", &self.durability)
            .field("segment_bytes", &self.segment_bytes)
            .field("flush", &self.flush)
            .field("checkpoint", &self.checkpoint)
            .field("has_threads", &self.has_threads)
            .finish_non_exhaustive()
    }
}

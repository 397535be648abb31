//! What the log is told when it is opened or read.

use std::time::Duration;

use crate::id::{DatabaseId, Lsn};
use crate::storage::Sabotages;
use crate::wal::segment::RECORDS;

/// What to read, and how strictly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// The database whose log it is.
    pub(crate) database: DatabaseId,
    /// Where the records begin that are wanted; zero for all.
    pub(crate) needed: Lsn,
    /// Where the log ended when it was closed, if nobody opened it since.
    pub(crate) clean_end: Option<Lsn>,
    /// The log is known to have been durable up to here.
    pub(crate) durable: Lsn,
    /// Stop at damage and report it, instead of refusing.
    pub(crate) tolerates_damage: bool,
}

/// How the log works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalOptions {
    /// The size of a segment, at least [`WalOptions::SEGMENT_BYTES_MIN`]. Records that do not fit
    /// get a segment of their own.
    pub(crate) segment_bytes: u32,
    /// Whether every commit waits for a sync. Then all records are written; else small ones are
    /// stored through a map.
    pub(crate) is_full: bool,
    /// With more bytes than this not synced, commits wait for a sync.
    pub(crate) unsynced_bytes_max: u64,
    /// When bytes are synced that nobody waits for.
    pub(crate) flush: FlushPolicy,
    /// Segments kept ready.
    pub(crate) spares_max: usize,
    /// How long a sync waits, at most, for as many commits as the last one had.
    pub(crate) gather_max: Duration,
    /// Where the salts of the segments come from; another one for each opening.
    pub(crate) seed: u64,
    /// Rules to break.
    pub(crate) sabotages: Sabotages,
}

/// When bytes are synced that nobody waits for: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlushPolicy {
    /// So long after the last sync.
    pub(crate) interval: Option<Duration>,
    /// With so many commits not synced.
    pub(crate) commits: Option<u64>,
    /// With so many bytes not synced.
    pub(crate) bytes: Option<u64>,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_millis(50)),
            commits: Some(10_000),
            bytes: Some(4 << 20),
        }
    }
}

impl WalOptions {
    /// The smallest segment: a page for the header, a page for records.
    pub(crate) const SEGMENT_BYTES_MIN: u32 = 8192;

    /// The same with a segment size that works.
    pub(super) fn sound(self) -> Self {
        let bytes = self.segment_bytes.clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX);
        Self { segment_bytes: bytes / RECORDS * RECORDS, ..self }
    }

    /// The largest segment, but for one that holds a single large record.
    pub(crate) const SEGMENT_BYTES_MAX: u32 = 1 << 30;

    /// Defaults, with salts drawn from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            segment_bytes: 64 << 20,
            is_full: true,
            unsynced_bytes_max: 64 << 20,
            flush: FlushPolicy::default(),
            spares_max: 2,
            gather_max: Duration::from_micros(60),
            seed,
            sabotages: Sabotages::default(),
        }
    }
}

//! When a checkpoint is worth its writes, and when a save is enough.

use crate::db::store::Store;
use crate::txn::Engine;

/// Segments beyond which a short log is tidied, and what short means, in bytes.
const SEGMENTS_MAX: usize = 16;
const TIDY_BYTES: u64 = 4 << 20;
/// Deltas of one bucket that make a checkpoint due.
const DELTAS_MAX: usize = 100;
/// A part of the least limit that may be in memory only before a save is due.
const UNSAVED_SHARE: u64 = 8;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum Due {
    Checkpoint,
    /// Values have to be in the files so that they can leave memory.
    Save,
}

/// The bytes of the log above which a save is due.
pub(super) fn unsaved_bytes_max(engine: &Engine) -> u64 {
    let shelved = engine.catalog().tables().iter().filter(|table| table.shelf().is_some());
    let limits = shelved.flat_map(|table| table.gauges().iter().map(|gauge| gauge.limit()));
    limits.min().map_or(u64::MAX, |limit| limit / UNSAVED_SHARE)
}

impl Store {
    /// What should be done: a checkpoint if the log and the deltas have grown so long that it is
    /// worth its writes; less if much is in memory only of what has to leave it.
    pub(in crate::db) fn due(&self, engine: &Engine) -> Option<Due> {
        let (needed, ranges, deltas, most) = {
            let state = self.archive.state.lock();
            let most = state.buckets.values().map(|bucket| bucket.deltas.len()).max();
            (state.needed, state.range_bytes(), state.delta_bytes(), most.unwrap_or(0))
        };
        let policy = &self.files.checkpoint;
        let share = ranges / 100 * u64::from(policy.percent_of_data);
        let log = self.wal.bytes_since(needed);
        let is_long = log + deltas >= policy.log_bytes_min.max(share) || most >= DELTAS_MAX;
        if is_long || self.has_many_segments() {
            return Some(Due::Checkpoint);
        }
        (log >= unsaved_bytes_max(engine)).then_some(Due::Save)
    }

    /// Whether the log is in so many pieces, one for each time the database was opened perhaps,
    /// that the files should be tidied although they hold little.
    pub(in crate::db) fn has_many_segments(&self) -> bool {
        self.wal.stats().segments > SEGMENTS_MAX && self.wal.bytes_since(self.needed()) < TIDY_BYTES
    }
}

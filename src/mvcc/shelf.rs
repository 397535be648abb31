//! The files in which the values of one bucket are, as whoever lets a value leave memory sees them.
//!
//! ```text
//! ranges   [ table 4 )[ table 9      )[ table 7 )     each from a snapshot of its own
//! deltas   table 11, table 12                         what changed since, oldest first
//! ```
//!
//! 1. Files stand here only while the manifest on disk names them: what is found here survives a
//!    crash.
//! 2. A value is in a file if it was written at or before the file's snapshot, nobody has written
//!    its key since, and the file has the key. What was written before a delta and is not in it is
//!    in a file before it.
//! 3. Files change under the lock. Whoever makes a value cold holds it for reading meanwhile, so
//!    whoever has put other files here and then looks for values in old ones finds all of them.
//!
//! Filled by loading and by checkpoints; asked by `departure`.

use std::cmp::Ordering;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::table::Table as File;
use crate::id::Timestamp;
use crate::mvcc::codec::Codec;
use crate::mvcc::place::Place;
use crate::mvcc::{Key, Value};
use crate::sync::{Arc, RwLock, RwLockReadGuard};

/// The files of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// In the order of their keys, which do not overlap.
    pub(crate) ranges: Vec<Arc<File>>,
    /// Sorted each, oldest first.
    pub(crate) deltas: Vec<Arc<File>>,
}

/// The files of a bucket, and the lock on them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    files: RwLock<Files>,
}

impl Shelf {
    /// Puts other files in the place of those that are here.
    pub(crate) fn fill(&self, files: Files) {
        *self.files.write() = files;
    }

    /// The files, which stay while the answer is held.
    pub(crate) fn files(&self) -> RwLockReadGuard<'_, Files> {
        self.files.read()
    }
}

impl Files {
    /// Of the deltas those in which a key can be found: others are in the order of the log.
    pub(crate) fn new(ranges: Vec<Arc<File>>, deltas: &[Arc<File>]) -> Self {
        let deltas = deltas.iter().filter(|delta| delta.is_sorted()).map(Arc::clone).collect();
        Self { ranges, deltas }
    }

    /// Whether a file is one of these.
    pub(crate) fn has(&self, file: &Arc<File>) -> bool {
        self.ranges.iter().chain(&self.deltas).any(|it| Arc::ptr_eq(it, file))
    }

    /// Where the value of a key is that was written at `written` and is the newest (keeps 2). The
    /// block that it is in is read and checked.
    pub(crate) fn find<K: Key, V: Value>(
        &self,
        codec: &Codec<K, V>,
        key: &[u8],
        written: Timestamp,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Place>, CheckpointError> {
        // Keys that are here were decoded, or encoded, before; one that does not compare any more
        // is in no file.
        let compare = |one: &[u8]| codec.compare(one, key).unwrap_or(Ordering::Greater);
        let after = self.ranges.partition_point(|file| {
            file.bounds().is_some_and(|(first, _)| compare(first) != Ordering::Greater)
        });
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        for file in range.into_iter().chain(&self.deltas) {
            if file.timestamp() < written {
                continue;
            }
            if let Some(position) = file.find_value(&compare, buffer)? {
                return Ok(Some(Place { file: Arc::clone(file), position }));
            }
        }
        Ok(None)
    }
}

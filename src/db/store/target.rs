//! A new database, written as a copy of what another one holds.
//!
//! ```text
//!   tables of ranges       as they are in the source    ┐
//!   tables of operations   what its log says since      ├─► MANIFEST, and it is a database
//! ```
//!
//! 1. The directory was new or empty, and is locked.
//! 2. The manifest comes last, when all else is durable. A copy that was not finished has tables
//!    and no manifest, and opening it says so.
//! 3. The copy has an id of its own. It goes its own way from here on, and no file of one of the
//!    two is ever taken for one of the other.
//! 4. It has no log yet. What stood in the log of the source are operations behind the tables of
//!    their buckets, in the same order.
//! 5. What was written of a copy that fails is removed again.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::manifest::{BucketRecord, Manifest, remove_table};
use crate::checkpoint::writer::TableWriter;
use crate::checkpoint::{Origin, TableId, TableKind};
use crate::db::files::Files;
use crate::db::store::lock::lock_empty;
use crate::db::store::pace::Pace;
use crate::error::Result;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::storage::{Lock, Sabotages, Storage};
use crate::sync::Arc;

/// A database in the making.
pub(super) struct Target {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    database: DatabaseId,
    next_table: Cell<TableId>,
    bytes_per_second: Option<u64>,
    /// Whether what was written stays.
    is_kept: Cell<bool>,
    _lock: Box<dyn Lock>,
}

impl Target {
    /// Begins a database in a directory that is new or empty.
    pub(super) fn begin(files: &Files, directory: &Path) -> Result<Self> {
        let storage = Arc::clone(&files.storage);
        let lock = lock_empty(&*storage, directory)?;
        Ok(Self {
            storage,
            directory: directory.to_owned(),
            database: files.database_id(),
            next_table: Cell::new(TableId::FIRST),
            bytes_per_second: files.checkpoint.bytes_per_second,
            is_kept: Cell::new(false),
            _lock: lock,
        })
    }

    /// Begins the next table.
    pub(super) fn table(&self, bucket: StoredId, kind: TableKind) -> Result<TableWriter<'_>> {
        let table = self.next_table.get();
        self.next_table.set(table.next().expect("a database does not write 2^64 tables"));
        let origin = Origin { database: self.database, bucket, table };
        let mut pace = Pace::new(self.bytes_per_second);
        let writer =
            TableWriter::create(&*self.storage, &self.directory, origin, kind, 0, move |bytes| {
                pace.after(bytes, || false);
            });
        Ok(writer?)
    }

    /// Makes it a database (keeps 2).
    pub(super) fn finish(
        self,
        buckets: Vec<BucketRecord>,
        next_bucket: StoredId,
        last: Timestamp,
    ) -> Result<()> {
        let manifest = Manifest {
            database: self.database,
            generation: 1,
            next_bucket,
            next_table: self.next_table.get(),
            first_needed: Lsn::ZERO,
            clean_end: None,
            durable: Lsn::ZERO,
            last_timestamp: last,
            buckets,
        };
        let stored = manifest.store(&*self.storage, &self.directory, Sabotages::default());
        // After a failure that leaves open whether the manifest is there, the tables it names stay.
        self.is_kept.set(stored.as_ref().err().is_none_or(|error| error.is_fatal));
        Ok(stored.map_err(|error| error.source)?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_kept.get() {
            return;
        }
        let mut table = TableId::FIRST;
        while table < self.next_table.get() {
            if let Err(error) = remove_table(&*self.storage, &self.directory, table) {
                tracing::warn!(%error, "a table of an unfinished copy stays");
            }
            let Some(next) = table.next() else { break };
            table = next;
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("directory", &self.directory).finish_non_exhaustive()
    }
}

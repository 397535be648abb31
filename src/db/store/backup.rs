//! A copy of a database, taken while it is used.
//!
//! ```text
//! checkpoints wait ──► log synced up to `end` ──► manifest ──► log up to `end` ──► tables ──► done
//!                      every commit so far        what recovery would find at `end`
//! ```
//!
//! 1. No writer waits. Checkpoints do, so that tables and log stay what they are; meanwhile the
//!    log grows.
//! 2. The copy is what recovery would make of the files if the log ended at `end`.
//! 3. Everything is checked on its way. What is damaged is not copied: the backup fails.

use std::path::Path;

use crate::checkpoint::manifest::{Manifest, TableRecord};
use crate::checkpoint::table::Table;
use crate::db::store::Store;
use crate::db::store::archive::Archive;
use crate::db::store::changes::Changes;
use crate::db::store::open::{Visit, scope_of};
use crate::db::store::read_only::Reading;
use crate::db::store::state::State;
use crate::db::store::target::Target;
use crate::error::{Error, Result};
use crate::id::{Lsn, StoredId, Timestamp};
use crate::sync::Arc;
use crate::wal::read_log;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// The newest commit in it.
    pub newest: Timestamp,
    /// Durable buckets.
    pub buckets: usize,
    /// Tables written.
    pub tables: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Store {
    pub(in crate::db) fn backup(&self, to: &Path) -> Result<BackedUp> {
        let target = Target::begin(&self.files, to)?;
        let _checkpoints_wait = self.checkpoint.lock();
        let end = self.wal.position();
        self.wal.sync_to(end)?;
        let manifest = load(&self.archive)?;
        let needed = manifest.first_needed;
        copy(&self.archive, target, manifest, |visit| self.wal.read(needed, end, visit))
    }
}

impl Reading {
    pub(in crate::db) fn backup(&self, to: &Path) -> Result<BackedUp> {
        let target = Target::begin(&self.files, to)?;
        let manifest = load(&self.archive)?;
        let scope = scope_of(&manifest);
        copy(&self.archive, target, manifest, |visit| {
            let Archive { storage, directory, .. } = &self.archive;
            let options = self.files.wal_options();
            read_log(Arc::clone(storage), directory, &scope, &options, visit)?;
            Ok(())
        })
    }
}

/// The manifest on disk. It stays: checkpoints wait, or there are none.
fn load(archive: &Archive) -> Result<Manifest> {
    let manifest = Manifest::load(&*archive.storage, &archive.directory)?;
    manifest.ok_or_else(|| Error::NotFound { path: archive.directory.clone() })
}

fn copy(
    archive: &Archive,
    target: Target,
    manifest: Manifest,
    read: impl FnOnce(&mut Visit<'_>) -> Result<()>,
) -> Result<BackedUp> {
    let last = manifest.last_timestamp;
    let mut changes = Changes::new(&target, State::new(manifest), last);
    read(&mut |record| changes.apply(&archive.directory, &record, &|_, _, _| false))?;
    let mut applied = changes.finish()?;
    let mut done = BackedUp { newest: applied.last, ..BackedUp::default() };
    let mut buckets = Vec::new();
    for (&id, bucket) in &applied.state.buckets {
        let mut record = bucket.record(id);
        for table in &mut record.tables {
            *table = copy_table(archive, &target, id, table)?;
        }
        record.tables.extend(applied.tables.remove(&id));
        done.buckets += 1;
        done.tables += record.tables.len();
        done.bytes += record.tables.iter().map(|table| table.length).sum::<u64>();
        buckets.push(record);
    }
    target.finish(buckets, StoredId::from_raw(applied.state.next_bucket), done.newest)?;
    Ok(done)
}

/// Writes a table again, checked block by block.
fn copy_table(
    archive: &Archive,
    target: &Target,
    bucket: StoredId,
    record: &TableRecord,
) -> Result<TableRecord> {
    let Archive { storage, directory, database, .. } = archive;
    let table = Table::open(&**storage, directory, *database, bucket, record)?;
    let mut writer = target.table(bucket, record.kind)?;
    let mut buffer = Vec::new();
    for at in 0..table.blocks() {
        for entry in table.read_block(at, &mut buffer)?.entries() {
            writer.push_operation(entry.operation, entry.key, entry.value)?;
        }
    }
    let lower = record.lower.clone();
    Ok(TableRecord { lower, ..writer.finish(record.timestamp, Lsn::ZERO)? })
}

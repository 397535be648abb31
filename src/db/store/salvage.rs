//! Saving what can be read of a damaged database into a new one.
//!
//! ```text
//!            manifest is sound                    manifest is lost (see `orphans`)
//! catalog    from it, and the log                 from the log as far as it reaches
//! tables     those it names, block by block       all that are there, oldest first
//! log        from where it is needed              from the oldest segment of the unbroken row
//!            up to the first damage               up to the first damage
//! ```
//!
//! 1. Of an entry that is both in a table and in the log, the newer one is taken; so what the log
//!    says from before a table is left out where the log does not reach up to that table.

use std::collections::BTreeSet;
use std::path::Path;

use crate::checkpoint::manifest::{BucketRecord, Manifest, TableRecord};
use crate::checkpoint::table::Table;
use crate::checkpoint::{CheckpointError, Origin};
use crate::db::files::Files;
use crate::db::store::changes::Changes;
use crate::db::store::lenient::Lenient;
use crate::db::store::lock::lock_shared;
use crate::db::store::open::{newest_table, scope_of};
use crate::db::store::orphans::Orphans;
use crate::db::store::rescue::{Dropped, Rescue, Salvaged};
use crate::db::store::state::{BucketState, State};
use crate::db::store::target::Target;
use crate::error::{Error, Result};
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::sync::Arc;
use crate::wal::Scope;

/// Saves what can be read of the database in `from` into a new one in `to`.
pub(in crate::db) fn salvage(from: &Path, to: &Path, files: &Files) -> Result<Salvaged> {
    let source = Arc::new(Lenient::new(Arc::clone(&files.storage)));
    let _lock = lock_shared(&*source, from)?;
    let manifest = match Manifest::load(&*source, from) {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => return Err(Error::NotFound { path: from.to_owned() }),
        Err(error @ CheckpointError::Version { .. }) => return Err(error.into()),
        Err(error) => Err(Dropped::of(error)),
    };
    let target = Target::begin(files, to)?;
    let mut rescue = Rescue { source, from, files, done: Salvaged::default() };
    let (buckets, next_bucket) = match manifest {
        Ok(manifest) => rescue.listed(&target, manifest)?,
        Err(lost) => {
            rescue.done.is_manifest_lost = true;
            rescue.done.dropped.push(lost);
            rescue.unlisted(&target)?
        }
    };
    rescue.tell_unreadable();
    rescue.done.buckets = buckets.len();
    target.finish(buckets, next_bucket, rescue.done.newest)?;
    Ok(rescue.done)
}

/// What becomes of the catalog.
type Catalog = (Vec<BucketRecord>, StoredId);

impl Rescue<'_> {
    /// The tables that a manifest names, and the log.
    fn listed(&mut self, target: &Target, manifest: Manifest) -> Result<Catalog> {
        let (database, last) = (manifest.database, manifest.last_timestamp);
        let newest_table = newest_table(&manifest);
        let scope = Scope { tolerates_damage: true, ..scope_of(&manifest) };
        let is_whole = self.look_at_log(&scope, newest_table)?;
        let mut changes = Changes::new(target, State::new(manifest), last);
        self.read_log(&scope, &mut changes, &|bucket, key, at| {
            !is_whole && at <= known_until(bucket, key)
        })?;
        let mut applied = self.finish(changes)?;
        let mut buckets = Vec::new();
        for (&id, bucket) in &applied.state.buckets {
            let mut record = bucket.record(id);
            let mut tables = Vec::new();
            for table in &record.tables {
                tables.extend(self.table(target, (database, id), table)?);
            }
            // The first of those that are left has no lower bound.
            if let Some(first) = tables.first_mut() {
                first.lower.clear();
            }
            tables.extend(applied.tables.remove(&id));
            record.tables = tables;
            buckets.push(record);
        }
        name_apart(&mut buckets);
        Ok((buckets, StoredId::from_raw(applied.state.next_bucket)))
    }

    /// All tables that are there, and the log: nobody says which of them belong together.
    fn unlisted(&mut self, target: &Target) -> Result<Catalog> {
        let orphans = Orphans::find(self)?;
        let Some(database) = orphans.database else {
            return Ok((Vec::new(), StoredId::from_raw(0)));
        };
        let mut state = State::new(Manifest::new(database));
        orphans.enter(&mut state);
        let mut changes = Changes::new(target, state, Timestamp::ZERO);
        changes.last = orphans.pour(self, &mut changes)?;
        if let Some(needed) = orphans.log {
            let (clean_end, durable) = (None, Lsn::ZERO);
            let scope = Scope { database, needed, clean_end, durable, tolerates_damage: true };
            let is_whole = self.look_at_log(&scope, orphans.newest_lsn())?;
            let known = changes.last;
            self.read_log(&scope, &mut changes, &|_, _, at| !is_whole && at <= known)?;
        }
        let mut applied = self.finish(changes)?;
        let mut buckets = Vec::new();
        for (&id, bucket) in &applied.state.buckets {
            let mut record = bucket.record(id);
            record.tables.extend(applied.tables.remove(&id));
            buckets.push(record);
        }
        name_apart(&mut buckets);
        let is_nameless = |bucket: &&BucketRecord| Orphans::is_nameless(bucket);
        let nameless = buckets.iter().filter(is_nameless);
        self.done.named = nameless.map(|bucket| bucket.name.clone()).collect();
        Ok((buckets, StoredId::from_raw(applied.state.next_bucket)))
    }

    /// What can be read of a table that the manifest names; none if that is nothing.
    fn table(
        &mut self,
        target: &Target,
        (database, bucket): (DatabaseId, StoredId),
        record: &TableRecord,
    ) -> Result<Option<TableRecord>> {
        let mut writer = target.table(bucket, record.kind)?;
        let mut entries = 0;
        let origin = Origin { database, bucket, table: record.table };
        let opened = Table::open(&*self.source, self.from, database, bucket, record);
        self.entries(opened, (origin, record.kind, Some(record.entries)), &mut |entry| {
            entries += 1;
            writer.push_operation(entry.operation, entry.key, entry.value)
        })?;
        self.done.entries += entries;
        if entries == 0 && record.entries > 0 {
            return Ok(None);
        }
        let lower = record.lower.clone();
        Ok(Some(TableRecord { lower, ..writer.finish(record.timestamp, Lsn::ZERO)? }))
    }
}

/// Up to when the tables of a bucket know everything about a key, as far as that can be told
/// (keeps 1): where bytes do not tell its range, up to when the newest of them does.
fn known_until(bucket: &BucketState, key: &[u8]) -> Timestamp {
    let of = |table: &TableRecord| table.timestamp;
    let deltas = bucket.deltas.iter().map(of).max().unwrap_or(Timestamp::ZERO);
    let range = if bucket.is_ordered {
        let behind = bucket.ranges.partition_point(|range| range.lower.as_slice() <= key);
        let range = bucket.ranges.get(behind.saturating_sub(1));
        range.and_then(|range| range.table.as_ref()).map(of)
    } else {
        bucket.ranges.iter().filter_map(|range| range.table.as_ref()).map(of).max()
    };
    deltas.max(range.unwrap_or(Timestamp::ZERO))
}

/// Where a part of the log is missing two buckets may seem to have one name.
fn name_apart(buckets: &mut [BucketRecord]) {
    let mut names = BTreeSet::new();
    for bucket in buckets {
        while !names.insert(bucket.name.clone()) {
            bucket.name = format!("{} (bucket {})", bucket.name, bucket.id.get());
        }
    }
}

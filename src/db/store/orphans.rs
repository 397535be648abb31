//! Tables and a log without the manifest that held them together.
//!
//! ```text
//! table 4  bucket 1  a ... k          older ones first; a key within the span of a newer table of
//! table 9  bucket 1    c ... m        its bucket was in it or was gone by then
//! table 7  bucket 2
//! log      ── 5 ── 6 ── 8             the row of links that leads to the newest segment
//! ```
//!
//! 1. Tables are numbered in the order of their making, so of two that hold a key the one with the
//!    greater number is right.
//! 2. Nobody knows where the range of a table began and ended beyond its keys, nor whether it had
//!    been replaced and was about to be removed. So an entry that was deleted may come back, and a
//!    bucket that was dropped; never one that did not exist.
//! 3. A bucket whose creation is in the log no more has no name and no types left.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::manifest::BucketRecord;
use crate::checkpoint::remains::identify;
use crate::checkpoint::table::Table;
use crate::checkpoint::{Operation, Origin, TableKind, list_tables};
use crate::db::store::changes::Changes;
use crate::db::store::rescue::{Dropped, Rescue};
use crate::db::store::state::{Life, State};
use crate::error::Result;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::mvcc::ops::Types;
use crate::sync::Arc;
use crate::wal::{Sighting, sight_log};

/// What is there without a manifest.
#[derive(Debug)]
pub(super) struct Orphans {
    /// To which database most of it belongs; none if nothing says.
    pub(super) database: Option<DatabaseId>,
    tables: Vec<Orphan>,
    /// From where the log can be read.
    pub(super) log: Option<Lsn>,
}

#[derive(Debug)]
struct Orphan {
    origin: Origin,
    kind: TableKind,
    timestamp: Timestamp,
    lsn: Lsn,
    /// The first and the last key, where they bound it.
    span: Option<(Vec<u8>, Vec<u8>)>,
}

impl Orphans {
    /// Looks at every table and segment. What says nothing of itself is told.
    pub(super) fn find(rescue: &mut Rescue<'_>) -> Result<Self> {
        let mut tables = Vec::new();
        for id in list_tables(&*rescue.source, rescue.from)? {
            if let Some(said) = identify(&*rescue.source, rescue.from, id) {
                tables.push(Orphan::look(rescue, said));
            } else {
                let opened = Table::open_unlisted(&*rescue.source, rescue.from, id);
                rescue.done.dropped.extend(opened.err().map(Dropped::of));
            }
        }
        let source: Arc<_> = Arc::clone(&rescue.source);
        let segments = sight_log(source, rescue.from)?;
        let owners = tables.iter().map(|table| table.origin.database);
        let database = most(owners.chain(segments.iter().map(|segment| segment.database)));
        let is_ours = |table: &Orphan| Some(table.origin.database) == database;
        let (tables, others): (Vec<_>, Vec<_>) = tables.into_iter().partition(is_ours);
        for other in others {
            let path = other.origin.table.path(rescue.from);
            let why = "the table is of another database";
            rescue.done.dropped.push(Dropped::whole(path, why));
        }
        let log = database.and_then(|database| row(&segments, database));
        Ok(Self { database, tables, log })
    }

    /// Enters the buckets of the tables into the catalog, without names and types (see 3).
    pub(super) fn enter(&self, state: &mut State) {
        for table in &self.tables {
            let id = table.origin.bucket;
            let types = Types { key: "", value: "", ordered: false };
            state.create(id, &nameless(id), types, Life::closed());
        }
    }

    /// Whether nobody knows what a bucket was called.
    pub(super) fn is_nameless(bucket: &BucketRecord) -> bool {
        bucket.key_type.is_empty() && bucket.name.starts_with(&nameless(bucket.id))
    }

    /// Up to where the log had come when the newest table was written.
    pub(super) fn newest_lsn(&self) -> Lsn {
        self.tables.iter().map(|table| table.lsn).max().unwrap_or(Lsn::ZERO)
    }

    /// Passes on the entries of all tables in the order of their making (keeps 1). Answers the
    /// newest commit that is in one of them.
    pub(super) fn pour(
        &self,
        rescue: &mut Rescue<'_>,
        changes: &mut Changes<'_>,
    ) -> Result<Timestamp> {
        for (at, table) in self.tables.iter().enumerate() {
            let newer = self.tables.get(at + 1..).unwrap_or_default();
            let newer: Vec<_> = newer.iter().filter(|newer| newer.covers(table)).collect();
            let (mut entries, mut refused) = (0, None);
            let Origin { bucket, table: id, .. } = table.origin;
            let opened = Table::open_unlisted(&*rescue.source, rescue.from, id);
            let expected = opened.as_ref().ok().map(Table::len);
            rescue.entries(opened, (table.origin, table.kind, expected), &mut |entry| {
                if newer.iter().any(|newer| newer.spans(entry.key)) {
                    return Ok(());
                }
                entries += 1;
                let value = (entry.operation == Operation::Put).then_some(entry.value);
                refused = refused.take().or(changes.push(bucket, entry.key, value).err());
                Ok(())
            })?;
            if let Some(refused) = refused {
                return Err(refused);
            }
            rescue.done.entries += entries;
        }
        Ok(self.tables.iter().map(|table| table.timestamp).max().unwrap_or(Timestamp::ZERO))
    }
}

impl Orphan {
    fn look(rescue: &Rescue<'_>, (origin, kind): (Origin, TableKind)) -> Self {
        let (mut timestamp, mut lsn, mut span) = (Timestamp::ZERO, Lsn::ZERO, None);
        if let Ok(table) = Table::open_unlisted(&*rescue.source, rescue.from, origin.table) {
            (timestamp, lsn) = (table.timestamp(), table.lsn());
            let bounds = table.bounds().filter(|_| kind == TableKind::Range && table.is_sorted());
            span = bounds.map(|(first, last)| (first.to_vec(), last.to_vec()));
        }
        Self { origin, kind, timestamp, lsn, span }
    }

    /// Whether a key lies between its first and its last.
    fn spans(&self, key: &[u8]) -> bool {
        self.span.as_ref().is_some_and(|(first, last)| **first <= *key && *key <= **last)
    }

    fn covers(&self, older: &Self) -> bool {
        self.origin.bucket == older.origin.bucket && self.span.is_some()
    }
}

fn nameless(bucket: StoredId) -> String {
    format!("salvaged {}", bucket.get())
}

/// What is there most often.
fn most(all: impl Iterator<Item = DatabaseId>) -> Option<DatabaseId> {
    let mut counts = HashMap::new();
    let mut best = None;
    for one in all {
        let count = counts.entry(one).or_insert(0_u64);
        *count += 1;
        if best.is_none_or(|(most, _)| *count > most) {
            best = Some((*count, one));
        }
    }
    best.map(|(_, one)| one)
}

/// Where the row of linked segments begins that leads to the newest one.
fn row(segments: &[Sighting], database: DatabaseId) -> Option<Lsn> {
    let ours = segments.iter().filter(|segment| segment.database == database);
    let linked: BTreeMap<_, _> =
        ours.filter_map(|it| Some((it.records.segment(), (it.records, it.link?)))).collect();
    let (_, &(mut start, mut link)) = linked.last_key_value()?;
    while let Some(&(before, further)) = linked.get(&link.segment()) {
        // Segments are linked to older ones only, so this ends.
        if before >= start {
            break;
        }
        (start, link) = (before, further);
    }
    Some(start)
}

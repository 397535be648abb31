//! What the files of a database hold, as its handle remembers it: the manifest of tomorrow.
//!
//! ```text
//! bucket 3 "words"    ranges   [.. "k") table 4, clean    ["k" ..) table 9, touched
//!                     deltas   table 11          until the bucket is opened and rewritten
//!                     pending  put, remove, ..   from the log; nobody opened the bucket yet
//! ```
//!
//! 1. For each bucket that is not open: its ranges, then its deltas, then what is pending, applied
//!    in this order, are the bucket.
//! 2. For each bucket that is open: its ranges, its deltas, and then the log from `needed` on,
//!    applied in this order, are the bucket. A range may be newer than a delta: what was written
//!    between them comes after it, in a later delta or in the log. A range that the log or a delta
//!    touched since it was written is marked.
//! 3. The ranges of a bucket tile its keys: each begins at its lower bound and ends at the next
//!    one; the first has no lower bound.
//!
//! Kept by the store under one lock.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::checkpoint::manifest::{BucketRecord, Manifest, TableRecord};
use crate::checkpoint::{TableId, TableKind};
use crate::codec::DecodeError;
use crate::id::{BucketId, DatabaseId, Lsn, StoredId, Timestamp};
use crate::mvcc::ops::{Op, Ops, Reader, Types};
use crate::mvcc::tables::AnyTable;
use crate::sync::Arc;

/// Everything that a manifest says, and what it will say next.
#[derive(Debug)]
pub(super) struct State {
    pub(super) database: DatabaseId,
    pub(super) generation: u64,
    pub(super) next_bucket: u32,
    pub(super) next_table: TableId,
    /// The log from here on is needed.
    pub(super) needed: Lsn,
    /// No commit at or before this time is to be made again.
    last: Timestamp,
    pub(super) buckets: BTreeMap<StoredId, BucketState>,
}

/// One durable bucket.
#[derive(Debug)]
pub(super) struct BucketState {
    pub(super) name: Arc<str>,
    pub(super) key_type: String,
    pub(super) value_type: String,
    pub(super) is_ordered: bool,
    pub(super) ranges: Vec<RangeState>,
    pub(super) deltas: Vec<TableRecord>,
    pub(super) life: Life,
}

/// Whether the bucket is in memory.
#[derive(Debug)]
pub(super) enum Life {
    Closed(Pending),
    Open(BucketId),
}

/// A part of a bucket's keys.
#[derive(Clone, Debug)]
pub(super) struct RangeState {
    /// Empty in the first range, which has no lower bound.
    pub(super) lower: Vec<u8>,
    /// `None` while nothing was written.
    pub(super) table: Option<TableRecord>,
    /// Whether something in it changed since.
    pub(super) is_touched: bool,
}

/// Operations of the log on a bucket that nobody has opened, in their order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ops: Ops,
    /// The newest of them.
    pub(super) newest: Timestamp,
}

impl RangeState {
    /// Whether it is so small that it is written along with its neighbour.
    pub(super) fn is_small(&self, table_bytes: u64) -> bool {
        self.table.as_ref().is_none_or(|table| table.length < table_bytes / 4)
    }

    fn whole() -> Self {
        Self { lower: Vec::new(), table: None, is_touched: false }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.ops.bytes().len() as u64
    }

    pub(super) fn push(&mut self, op: &Op<'_>, at: Timestamp) {
        self.ops.copy(op);
        self.newest = at;
    }

    /// The operations. They were copied one by one, so all of them can be read.
    pub(super) fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        Reader::new(self.ops.bytes()).map_while(Result::ok)
    }
}

/// A number for a new table. Used up even if the table is not finished.
pub(super) fn take_table(next: &mut TableId) -> TableId {
    let id = *next;
    *next = id.next().expect("a database does not write 2^64 tables");
    id
}

impl State {
    pub(super) fn new(manifest: Manifest) -> Self {
        let buckets = manifest.buckets.into_iter().map(|record| {
            let id = record.id;
            (id, BucketState::from(record))
        });
        Self {
            database: manifest.database,
            generation: manifest.generation,
            next_bucket: manifest.next_bucket.get(),
            next_table: manifest.next_table,
            needed: manifest.first_needed,
            last: manifest.last_timestamp,
            buckets: buckets.collect(),
        }
    }

    /// The manifest that says this, one generation on, after the commit `last` at least (what is
    /// left of the log may know of none), and with the end of the log as far as it is durable.
    pub(super) fn manifest(
        &mut self,
        (last, durable): (Timestamp, Lsn),
        clean_end: Option<Lsn>,
    ) -> Manifest {
        self.generation += 1;
        self.last = self.last.max(last);
        let buckets = self.buckets.iter().map(|(&id, bucket)| bucket.record(id));
        Manifest {
            database: self.database,
            generation: self.generation,
            next_bucket: StoredId::from_raw(self.next_bucket),
            next_table: self.next_table,
            first_needed: self.needed,
            clean_end,
            durable,
            last_timestamp: self.last,
            buckets: buckets.collect(),
        }
    }

    pub(super) fn id(&self, name: &str) -> Option<StoredId> {
        self.buckets.iter().find(|(_, bucket)| &*bucket.name == name).map(|(&id, _)| id)
    }

    /// A number for a new table.
    pub(super) fn take_table(&mut self) -> TableId {
        take_table(&mut self.next_table)
    }

    /// Notes a bucket that was created.
    pub(super) fn create(&mut self, id: StoredId, name: &str, types: Types<'_>, life: Life) {
        self.next_bucket = self.next_bucket.max(id.get().saturating_add(1));
        let bucket = self.buckets.entry(id).or_insert_with(|| BucketState {
            name: name.into(),
            key_type: String::new(),
            value_type: String::new(),
            is_ordered: false,
            ranges: vec![RangeState::whole()],
            deltas: Vec::new(),
            life,
        });
        if bucket.is_untyped() {
            bucket.name = name.into();
            bucket.adopt(types);
        }
    }

    /// Applies an operation of the log, while it is being recovered and nothing is open.
    ///
    /// Operations that a table or the manifest reflects already may come again: what they say is
    /// absolute, and the log goes on to the end, so the last word on everything is the same.
    pub(super) fn replay(&mut self, op: &Op<'_>, at: Timestamp) {
        match *op {
            Op::Put { bucket, .. } | Op::Remove { bucket, .. } => {
                let bucket = self.buckets.get_mut(&bucket);
                if let Some(BucketState { life: Life::Closed(pending), .. }) = bucket {
                    pending.push(op, at);
                }
            }
            Op::Create { bucket, name, types } => {
                // A bucket that the manifest knows to have been dropped, with a lower id than
                // those it knows, does not come back: its end follows in the log.
                self.create(bucket, name, types, Life::closed());
            }
            Op::Drop { bucket } => drop(self.buckets.remove(&bucket)),
            Op::Rename { bucket, name } => {
                if let Some(bucket) = self.buckets.get_mut(&bucket) {
                    bucket.name = name.into();
                }
            }
        }
    }

    /// Data in the tables of ranges, in bytes.
    pub(super) fn range_bytes(&self) -> u64 {
        let ranges = self.buckets.values().flat_map(|bucket| &bucket.ranges);
        ranges.filter_map(|range| range.table.as_ref()).map(|table| table.length).sum()
    }

    /// Data in the deltas, in bytes.
    pub(super) fn delta_bytes(&self) -> u64 {
        self.buckets.values().flat_map(|bucket| &bucket.deltas).map(|table| table.length).sum()
    }
}

impl From<BucketRecord> for BucketState {
    fn from(record: BucketRecord) -> Self {
        let (deltas, tables): (Vec<_>, Vec<_>) =
            record.tables.into_iter().partition(|table| table.kind == TableKind::Delta);
        let range = |table: TableRecord| RangeState {
            lower: table.lower.clone(),
            table: Some(table),
            is_touched: false,
        };
        let mut ranges: Vec<_> = tables.into_iter().map(range).collect();
        if ranges.is_empty() {
            ranges.push(RangeState::whole());
        }
        Self {
            name: record.name.into(),
            key_type: record.key_type,
            value_type: record.value_type,
            is_ordered: record.is_ordered,
            ranges,
            deltas,
            life: Life::closed(),
        }
    }
}

impl BucketState {
    /// Whether nobody knows what it holds: its manifest was lost, and salvage found its tables.
    pub(super) fn is_untyped(&self) -> bool {
        self.key_type.is_empty() && self.value_type.is_empty()
    }

    /// Whether it can be opened with these types. They are taken at their word where nothing is
    /// known; what cannot be decoded is noticed then.
    pub(super) fn takes(&self, types: Types<'_>) -> bool {
        self.is_untyped() || (&*self.key_type, &*self.value_type) == (types.key, types.value)
    }

    /// Notes what it holds.
    pub(super) fn adopt(&mut self, types: Types<'_>) {
        types.key.clone_into(&mut self.key_type);
        types.value.clone_into(&mut self.value_type);
        self.is_ordered = types.ordered;
    }

    /// What a manifest says of it.
    pub(super) fn record(&self, id: StoredId) -> BucketRecord {
        BucketRecord {
            id,
            name: self.name.to_string(),
            key_type: self.key_type.clone(),
            value_type: self.value_type.clone(),
            is_ordered: self.is_ordered,
            tables: self.tables().cloned().collect(),
        }
    }

    /// The ranges' tables and the deltas.
    pub(super) fn tables(&self) -> impl Iterator<Item = &TableRecord> {
        self.ranges.iter().filter_map(|range| range.table.as_ref()).chain(&self.deltas)
    }

    /// Puts what became of some ranges in their place. Answers the tables that are not needed any
    /// more.
    pub(super) fn replace(
        &mut self,
        places: std::ops::Range<usize>,
        ranges: Vec<RangeState>,
    ) -> Vec<TableId> {
        let old = self.ranges.splice(places, ranges);
        let garbage = old.filter_map(|range| range.table).map(|table| table.table).collect();
        // A range without entries needs no table; the one before it covers it (keeps 3).
        if self.ranges.iter().any(|range| range.table.is_some()) {
            self.ranges.retain(|range| range.table.is_some());
        } else {
            self.ranges.truncate(1);
        }
        if let Some(first) = self.ranges.first_mut() {
            first.lower.clear();
            if let Some(table) = &mut first.table {
                table.lower.clear();
            }
        }
        garbage
    }

    /// Marks the one of the ranges that holds `key`. Encodings compare as the table says.
    pub(super) fn touch(
        ranges: &mut [RangeState],
        key: &[u8],
        table: &dyn AnyTable,
    ) -> Result<(), DecodeError> {
        // The number of ranges whose lower bound is not above the key; the first has none.
        let mut low = 1;
        let mut high = ranges.len();
        while low < high {
            let middle = low.midpoint(high);
            let Some(range) = ranges.get(middle) else { break };
            match table.compare_keys(&range.lower, key)? {
                Ordering::Greater => high = middle,
                Ordering::Less | Ordering::Equal => low = middle + 1,
            }
        }
        if let Some(range) = ranges.get_mut(low - 1) {
            range.is_touched = true;
        }
        Ok(())
    }
}

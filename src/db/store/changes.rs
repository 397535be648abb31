//! What a log says since a manifest was stored, on its way into a copy.
//!
//! 1. The catalog is replayed as recovery does it.
//! 2. Operations on entries go straight into one table for each bucket, in their order, so that
//!    memory is bounded however long the log is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use crate::checkpoint::manifest::TableRecord;
use crate::checkpoint::writer::TableWriter;
use crate::checkpoint::{Operation, TableKind};
use crate::db::store::open::each_operation;
use crate::db::store::state::{BucketState, State};
use crate::db::store::target::Target;
use crate::error::Result;
use crate::id::{Lsn, StoredId, Timestamp};
use crate::mvcc::ops::Op;
use crate::wal::{Kind, Record};

/// The changes since a manifest, as they are read.
#[derive(Debug)]
pub(super) struct Changes<'t> {
    target: &'t Target,
    pub(super) state: State,
    tables: BTreeMap<StoredId, TableWriter<'t>>,
    pub(super) last: Timestamp,
    pub(super) records: u64,
}

/// What became of a database and of its log.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) state: State,
    /// What the log says on each bucket.
    pub(super) tables: BTreeMap<StoredId, TableRecord>,
    pub(super) last: Timestamp,
    pub(super) records: u64,
}

impl<'t> Changes<'t> {
    /// Begins with what a manifest says, which knows of commits up to `last`.
    pub(super) fn new(target: &'t Target, state: State, last: Timestamp) -> Self {
        Self { target, state, tables: BTreeMap::new(), last, records: 0 }
    }

    /// Takes a record of the log. An operation on a bucket that `is_known` says to be in its
    /// tables already is left out.
    pub(super) fn apply(
        &mut self,
        directory: &Path,
        record: &Record<'_>,
        is_known: &dyn Fn(&BucketState, &[u8], Timestamp) -> bool,
    ) -> Result<()> {
        if record.kind != Kind::Commit {
            return Ok(());
        }
        let at = record.timestamp;
        self.records += 1;
        self.last = self.last.max(at);
        each_operation(directory, record, |op| {
            let (bucket, key, value) = match *op {
                Op::Put { bucket, key, value } => (bucket, key, Some(value)),
                Op::Remove { bucket, key } => (bucket, key, None),
                Op::Create { .. } | Op::Drop { .. } | Op::Rename { .. } => {
                    self.state.replay(op, at);
                    if let Op::Drop { bucket } = op {
                        drop(self.tables.remove(bucket));
                    }
                    return Ok(());
                }
            };
            match self.state.buckets.get(&bucket) {
                Some(found) if !is_known(found, key, at) => self.push(bucket, key, value),
                _ => Ok(()),
            }
        })
    }

    /// Adds an operation: `None` removes.
    pub(super) fn push(&mut self, to: StoredId, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let operation = if value.is_some() { Operation::Put } else { Operation::Delete };
        let table = match self.tables.entry(to) {
            Entry::Occupied(begun) => begun.into_mut(),
            Entry::Vacant(free) => free.insert(self.target.table(to, TableKind::Delta)?),
        };
        Ok(table.push_operation(operation, key, value.unwrap_or_default())?)
    }

    /// Ends the tables.
    pub(super) fn finish(self) -> Result<Changed> {
        let Self { state, tables, last, records, .. } = self;
        let finish = |(bucket, table): (StoredId, TableWriter<'_>)| {
            let mut record = table.finish(last, Lsn::ZERO)?;
            record.lower.clear();
            Ok((bucket, record))
        };
        let tables = tables.into_iter().map(finish).collect::<Result<_>>()?;
        Ok(Changed { state, tables, last, records })
    }
}

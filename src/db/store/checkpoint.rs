//! Checkpoints: ranges that changed are written again, and the log that they stand in is let go.
//!
//! ```text
//! log      ───────────────┤needed              ├scanned        ├position
//!                          └── marks ranges ───┘
//! ranges   [   clean   )[ touched )[ touched )[ clean )
//!                       └──────── span ────────┘  small neighbours are taken along
//!                          table │ table │ table      each from a snapshot of its own
//! ```
//!
//! 1. No writer stops: a table is written from a snapshot, which is held for one table's length.
//! 2. The snapshot of a table has every commit whose record lies before the table's position.
//! 3. What touched a range is found in the log itself, up to `scanned`; a range that is not marked
//!    is as its table says up to there. So when all marked ranges are written again, the log before
//!    `scanned` is needed no more.
//! 4. A manifest that names a table is stored only after the log is durable up to the table's
//!    snapshot: no crash leaves a table that is ahead of the log.
//! 5. A checkpoint writes at most all data, and comes after the log has grown by a part of that;
//!    so bytes written stay within a constant of bytes logged.

use std::collections::BTreeSet;

use crate::checkpoint::manifest::TableRecord;
use crate::checkpoint::writer::TableWriter;
use crate::checkpoint::{Operation, Origin, TableId, TableKind};
use crate::db::store::Store;
use crate::db::store::pace::Pace;
use crate::db::store::state::{BucketState, Life, RangeState, State, take_table};
use crate::error::{Error, Result};
use crate::id::{BucketId, Lsn, StoredId};
use crate::mvcc::ops::{Op, Reader};
use crate::mvcc::stored::{DumpError, EncodedRange};
use crate::storage::Sabotage;
use crate::sync::{Arc, Ordering};
use crate::txn::{Engine, Snapshot};
use crate::wal::{Kind, unreadable};

/// How far the log has been looked at.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) scanned: Lsn,
    /// Whether values were saved since the checkpoint that is under way began.
    pub(super) has_saved: bool,
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpointed {
    /// Tables written.
    pub tables: usize,
    /// Their size in bytes.
    pub table_bytes: u64,
    /// Bytes of the log that are needed no more.
    pub released_bytes: u64,
}

/// Neighbouring ranges that are written anew, by their places.
struct Span {
    bucket: StoredId,
    open: BucketId,
    places: std::ops::Range<usize>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// What a checkpoint is to do.
struct Plan {
    spans: Vec<Span>,
    /// The deltas that the spans take in. A bucket that is opened later keeps its deltas: no range
    /// of it is written before the next checkpoint; and one that is written later stays, too.
    folded: Vec<(StoredId, Vec<TableId>)>,
}

/// What a span has become.
struct Rewritten {
    span: Span,
    ranges: Vec<RangeState>,
}

impl Store {
    /// Writes what changed since the last checkpoint, and lets the log before it go.
    pub(in crate::db) fn checkpoint(&self, engine: &Arc<Engine>) -> Result<Checkpointed> {
        self.checkpoint_now(engine, &mut self.checkpoint.lock())
    }

    /// The same, by whoever has the lock of checkpoints.
    pub(super) fn checkpoint_now(
        &self,
        engine: &Arc<Engine>,
        progress: &mut Progress,
    ) -> Result<Checkpointed> {
        self.wal.check()?;
        let end = self.wal.position();
        progress.has_saved = false;
        self.mark_touched(engine, progress.scanned, end, &mut |_, _| ())?;
        progress.scanned = end;
        let plan = self.write_deltas_and_plan(engine)?;
        let mut done = Vec::new();
        let rewritten = plan.spans.into_iter().try_for_each(|span| {
            done.push(Rewritten { span, ranges: Vec::new() });
            done.last_mut().map_or(Ok(()), |last| self.rewrite(engine, last, progress))
        });
        if let Err(error) = rewritten {
            let tables = done.iter().flat_map(|it| &it.ranges).filter_map(|it| it.table.as_ref());
            self.remove_tables(tables.map(|table| table.table));
            return Err(error);
        }
        if progress.has_saved {
            // What was saved meanwhile may be newer than a range, and the old one has its mark.
            let ranges = done.iter_mut().flat_map(|it| &mut it.ranges);
            ranges.for_each(|range| range.is_touched = true);
        }
        self.finish(engine, done, &plan.folded, end)
    }

    /// Marks the ranges that records between two positions of the log touch, and passes on the
    /// keys of the buckets that are open.
    pub(super) fn mark_touched(
        &self,
        engine: &Arc<Engine>,
        from: Lsn,
        to: Lsn,
        each: &mut dyn FnMut(StoredId, &[u8]),
    ) -> Result<()> {
        let mut state = self.archive.state.lock();
        self.wal.read::<Error>(from, to, &mut |record| {
            if record.kind != Kind::Commit {
                return Ok(());
            }
            for op in Reader::new(record.payload) {
                let op = op.map_err(|_| unreadable(&self.archive.directory, record.lsn))?;
                if let Some((bucket, key)) = mark(&mut state, engine, &op)? {
                    each(bucket, key);
                }
            }
            Ok(())
        })
    }

    /// Writes down what is pending for buckets that nobody has opened, and says what is to be
    /// written anew of the others.
    fn write_deltas_and_plan(&self, engine: &Arc<Engine>) -> Result<Plan> {
        let mut state = self.archive.state.lock();
        self.write_pending(&mut state)?;
        let (mut spans, mut folded) = (Vec::new(), Vec::new());
        for (&id, bucket) in &state.buckets {
            if let Life::Open(open) = bucket.life {
                spans.extend(plan(id, open, &bucket.ranges, self.files.checkpoint.table_bytes));
                folded.push((id, bucket.deltas.iter().map(|delta| delta.table).collect()));
            }
        }
        drop(state);
        // A dropped bucket may still be listed by a plan; its table answers, and is not asked for.
        spans.retain(|span: &Span| !engine.catalog().tables().get(span.open).is_dropped());
        Ok(Plan { spans, folded })
    }

    /// Writes down what is pending for buckets that nobody has opened.
    pub(super) fn write_pending(&self, state: &mut State) -> Result<()> {
        let State { buckets, next_table, .. } = state;
        for (&id, bucket) in buckets {
            if let Life::Closed(pending) = &bucket.life
                && !pending.is_empty()
            {
                let record = self.write_delta(id, take_table(next_table), pending.iter())?;
                bucket.deltas.push(record);
                bucket.life = Life::closed();
            }
        }
        Ok(())
    }

    pub(super) fn origin(&self, bucket: StoredId, table: TableId) -> Origin {
        Origin { database: self.archive.database, bucket, table }
    }

    pub(super) fn writer(&self, origin: Origin, kind: TableKind) -> Result<TableWriter<'_>> {
        let mut pace = Pace::new(self.files.checkpoint.bytes_per_second);
        let pace = move |bytes| pace.after(bytes, || self.is_hurried() || self.is_short());
        let (storage, directory) = (&*self.archive.storage, &self.archive.directory);
        let writer = TableWriter::create(storage, directory, origin, kind, 0, pace)?;
        Ok(writer.sabotage(self.files.sabotages))
    }

    fn write_delta<'a>(
        &self,
        bucket: StoredId,
        table: TableId,
        ops: impl Iterator<Item = Op<'a>>,
    ) -> Result<TableRecord> {
        let mut writer = self.writer(self.origin(bucket, table), TableKind::Delta)?;
        for op in ops {
            match op {
                Op::Put { key, value, .. } => {
                    writer.push_operation(Operation::Put, key, value)?;
                }
                Op::Remove { key, .. } => {
                    writer.push_operation(Operation::Delete, key, &[])?;
                }
                _ => {}
            }
        }
        let mut record = writer.finish(self.archive.recovered, self.archive.recovered_end)?;
        record.lower.clear();
        Ok(record)
    }

    /// Writes the tables of a span, each from a snapshot of its own (keeps 1).
    fn rewrite(
        &self,
        engine: &Arc<Engine>,
        to: &mut Rewritten,
        progress: &mut Progress,
    ) -> Result<()> {
        let Rewritten { span, ranges } = to;
        let mut low = span.low.clone();
        loop {
            if self.is_short() {
                self.save_now(engine, progress)?;
            }
            let number = self.archive.state.lock().take_table();
            let written = self.write_range(engine, span, &low, number)?;
            let lower = std::mem::take(&mut low);
            if written.record.is_some() || ranges.is_empty() {
                ranges.push(RangeState { lower, table: written.record, is_touched: false });
            }
            match written.next {
                Some(next) => low = next,
                None => return Ok(()),
            }
        }
    }

    /// A position of the log, and a snapshot that has all before it (keeps 2): what lies before the
    /// position is linked, and confirmed before the snapshot is taken.
    pub(super) fn snapshot(&self, engine: &Arc<Engine>) -> (Lsn, Snapshot) {
        let position = self.wal.position();
        let newest = engine.log().now(&engine.collector().pin());
        engine.confirmed_at(newest);
        (position, Snapshot::take(engine, false))
    }

    fn write_range(
        &self,
        engine: &Arc<Engine>,
        span: &Span,
        low: &[u8],
        number: TableId,
    ) -> Result<Written> {
        let (position, snapshot) = self.snapshot(engine);
        let mut writer = self.writer(self.origin(span.bucket, number), TableKind::Range)?;
        let range = EncodedRange {
            low: Some(low).filter(|low| !low.is_empty()),
            high: span.high.as_deref(),
        };
        let mut written = Written { record: None, next: None };
        let mut refused = None;
        let table = engine.catalog().tables().get(span.open);
        let dumped = table.dump(snapshot.view(), range, &mut |key, value| {
            if writer.len() >= self.files.checkpoint.table_bytes {
                written.next = Some(key.to_vec());
                return false;
            }
            refused = writer.push(key, value).err();
            refused.is_none()
        });
        if let Some(error) = refused {
            return Err(error.into());
        }
        check_dumped(engine, span.open, dumped)?;
        if !writer.is_empty() {
            let mut record = writer.finish(snapshot.timestamp(), position)?;
            record.lower = low.to_vec();
            written.record = Some(record);
        }
        Ok(written)
    }

    /// Puts the new ranges in the place of the old, and then the manifest that says so. The deltas
    /// of the buckets that were open are in those ranges now.
    fn finish(
        &self,
        engine: &Arc<Engine>,
        done: Vec<Rewritten>,
        folded: &[(StoredId, Vec<TableId>)],
        end: Lsn,
    ) -> Result<Checkpointed> {
        let written: Vec<StoredId> = done.iter().map(|it| it.span.bucket).collect();
        let mut state = self.archive.state.lock();
        // Under the lock, which changes of the catalog take, too: the manifest tells of those
        // that the log would bring back, and of no other.
        if !self.files.sabotages.breaks(Sabotage::TableAheadOfLog) {
            self.wal.sync_to(self.wal.position())?;
        }
        let mut outcome = Checkpointed::default();
        let mut garbage = Vec::new();
        // From the last span to the first, so that places stay good.
        for Rewritten { span, ranges } in done.into_iter().rev() {
            let tables = ranges.iter().filter_map(|range| range.table.as_ref());
            outcome.tables += tables.clone().count();
            outcome.table_bytes += tables.clone().map(|table| table.length).sum::<u64>();
            match state.buckets.get_mut(&span.bucket) {
                Some(bucket) => garbage.extend(bucket.replace(span.places, ranges)),
                None => garbage.extend(tables.map(|table| table.table)),
            }
        }
        for (bucket, deltas) in folded {
            if let Some(bucket) = state.buckets.get_mut(bucket) {
                bucket.deltas.retain(|delta| !deltas.contains(&delta.table));
                garbage.extend_from_slice(deltas);
            }
        }
        let before = state.needed;
        // What was saved meanwhile has let go of more of the log.
        let end = end.max(before);
        state.needed = end;
        let last = engine.log().now(&engine.collector().pin());
        // The log grows meanwhile, so the smaller number is asked for first.
        let kept = self.wal.bytes_since(end);
        outcome.released_bytes = self.wal.bytes_since(before) - kept;
        self.store_manifest(&mut state, last, None)?;
        drop(state);
        self.wal.release(end)?;
        for bucket in
            written.into_iter().chain(folded.iter().map(|it| it.0)).collect::<BTreeSet<_>>()
        {
            self.shelve(engine, bucket);
        }
        self.remove_tables(garbage.into_iter());
        // Relaxed: under the lock of checkpoints.
        self.saves.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(?outcome, "checkpoint");
        Ok(outcome)
    }

    /// Removes tables that the manifest on disk does not name any more. What cannot be removed
    /// stays until the database is opened again.
    pub(super) fn remove_tables(&self, tables: impl Iterator<Item = TableId>) {
        for table in tables {
            let path = table.path(&self.archive.directory);
            if let Err(error) = self.archive.storage.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a table that is not needed stays");
            }
        }
    }
}

/// What came of passing on entries; that somebody stopped it is no error here.
pub(super) fn check_dumped(
    engine: &Engine,
    bucket: BucketId,
    dumped: std::result::Result<(), DumpError>,
) -> Result<()> {
    match dumped {
        Ok(()) | Err(DumpError::Stopped) => Ok(()),
        Err(DumpError::Decode(source)) => {
            Err(Error::Decode { bucket: engine.catalog().name(bucket), source })
        }
        Err(DumpError::Encode(error)) => Err(error.into()),
        Err(DumpError::File(error)) => Err(error.into()),
    }
}

struct Written {
    /// `None` if there was nothing to write.
    record: Option<TableRecord>,
    /// Where the next table begins, if the span goes on.
    next: Option<Vec<u8>>,
}

/// Marks the range that an operation touches. Answers with the key, if the bucket is open.
fn mark<'o>(
    state: &mut State,
    engine: &Engine,
    op: &Op<'o>,
) -> Result<Option<(StoredId, &'o [u8])>> {
    let (Op::Put { bucket: id, key, .. } | Op::Remove { bucket: id, key }) = *op else {
        return Ok(None);
    };
    let Some(bucket) = state.buckets.get_mut(&id) else { return Ok(None) };
    let Life::Open(open) = bucket.life else { return Ok(None) };
    let touched = BucketState::touch(&mut bucket.ranges, key, engine.catalog().tables().get(open));
    touched.map_err(|source| Error::Decode { bucket: bucket.name.clone(), source })?;
    Ok(Some((id, key)))
}

/// The spans of a bucket: touched ranges, and small ones beside them.
fn plan(bucket: StoredId, open: BucketId, ranges: &[RangeState], table_bytes: u64) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        let follows = spans.last().is_some_and(|span| span.places.end == at);
        let joins = follows && range.is_small(table_bytes);
        if !range.is_touched && !joins {
            continue;
        }
        let high = ranges.get(at + 1).map(|next| next.lower.clone());
        if let Some(span) = spans.last_mut().filter(|_| follows) {
            (span.places.end, span.high) = (at + 1, high);
        } else {
            let (low, places) = (range.lower.clone(), at..at + 1);
            spans.push(Span { bucket, open, places, low, high });
        }
    }
    spans
}

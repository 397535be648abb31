//! Saving: what was written lately goes to deltas, so that values can leave memory.
//!
//! ```text
//! log   ───────────────┤needed     ├scanned        ├end
//!                       └── keys touched, sorted ───┘
//! delta 13   what a snapshot has at these keys       no range is written again
//! ```
//!
//! A checkpoint writes whole ranges, which is dear where few keys of each were written. A save
//! writes these keys alone. The next checkpoint takes the deltas in.
//!
//! 1. The delta of a bucket has every key that the log touched between the last save or checkpoint
//!    and `end`, as a snapshot has it that has everything before `end`. So the log before `end` is
//!    needed no more, once the manifest names the delta.
//! 2. The keys of a delta are sorted, each is there once: values are found in it again.
//! 3. One save serves all who wait for one. It may run in the middle of a checkpoint, between two
//!    ranges, by whoever makes that; then the ranges that the checkpoint writes stay marked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::manifest::TableRecord;
use crate::checkpoint::{Operation, TableKind};
use crate::db::store::Store;
use crate::db::store::checkpoint::{Progress, check_dumped};
use crate::db::store::state::Life;
use crate::error::{Error, Result};
use crate::id::{BucketId, Lsn, StoredId};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::txn::Engine;

/// How long who needs room waits for a checkpoint before it looks whether there is room now.
const PATIENCE: Duration = Duration::from_millis(2);

/// Keys by bucket.
type Touched = BTreeMap<StoredId, Vec<Box<[u8]>>>;

/// One who waits for room, until dropped: also by a panic in the user's `Encode`.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        // Relaxed: a hint to whoever makes a checkpoint.
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Relaxed: as above.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    /// Saves since somebody needs room. Answers whether that was done, by whomever (keeps 3); not
    /// if there is nothing to save, and no checkpoint under way.
    pub(super) fn save_for_room(&self, engine: &Arc<Engine>) -> bool {
        // Relaxed: the number changes under the lock, and to miss a change is to save once more.
        let saves = || self.saves.load(Ordering::Relaxed);
        let before = saves();
        let _waiting = Waiting::begin(&self.is_short);
        let outcome = loop {
            if saves() != before {
                break Ok(true);
            }
            let Some(mut progress) = self.checkpoint.try_lock_for(PATIENCE) else { continue };
            break match () {
                () if saves() != before => Ok(true),
                () if self.is_saved() => Ok(false),
                () => self.save_or_rewrite(engine, &mut progress).map(|()| true),
            };
        };
        outcome.inspect_err(|error| tracing::warn!(%error, "no room can be made")).unwrap_or(false)
    }

    /// Whether nothing was written since the last save.
    fn is_saved(&self) -> bool {
        self.wal.position() == self.needed()
    }

    /// Whether somebody waits for room.
    pub(super) fn is_short(&self) -> bool {
        // Relaxed: a hint.
        self.is_short.load(Ordering::Relaxed) > 0
    }

    /// Brings into the files what is in memory and in the log only.
    pub(super) fn save(&self, engine: &Arc<Engine>) -> Result<()> {
        self.save_or_rewrite(engine, &mut self.checkpoint.lock())
    }

    /// A save; or a checkpoint, if there are keys whose encodings do not sort as they do: those are
    /// not found again in a delta, so their values could not leave.
    fn save_or_rewrite(&self, engine: &Arc<Engine>, progress: &mut Progress) -> Result<()> {
        let is_sorted = {
            let state = self.archive.state.lock();
            let mut open = state.buckets.values().filter(|it| matches!(it.life, Life::Open(_)));
            open.all(|bucket| bucket.is_ordered)
        };
        if is_sorted {
            self.save_now(engine, progress)
        } else {
            self.checkpoint_now(engine, progress).map(drop)
        }
    }

    /// The same, by whoever has the lock of checkpoints.
    pub(super) fn save_now(&self, engine: &Arc<Engine>, progress: &mut Progress) -> Result<()> {
        self.wal.check()?;
        if self.is_saved() {
            // Relaxed: under the lock of checkpoints. Who waited has waited for a snapshot's end.
            self.saves.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let end = self.wal.position();
        // At first: a bucket that is opened from here on has nothing before `end` that is not in
        // its delta.
        self.write_pending(&mut self.archive.state.lock())?;
        let mut touched = Touched::new();
        // From where the log is needed on, so that nothing between two saves is left out.
        let from = self.needed();
        self.mark_touched(engine, from, end, &mut |bucket, key| {
            touched.entry(bucket).or_default().push(key.into());
        })?;
        (progress.scanned, progress.has_saved) = (end, true);
        let mut written = Vec::new();
        let outcome = touched.into_iter().try_for_each(|(bucket, keys)| {
            written.extend(self.write_keys(engine, bucket, keys)?.map(|record| (bucket, record)));
            Ok(())
        });
        if let Err(error) = outcome {
            self.remove_tables(written.iter().map(|(_, record)| record.table));
            return Err(error);
        }
        self.finish_save(engine, written, end)
    }

    /// Writes the delta of one bucket (keeps 1, 2).
    fn write_keys(
        &self,
        engine: &Arc<Engine>,
        bucket: StoredId,
        mut keys: Vec<Box<[u8]>>,
    ) -> Result<Option<TableRecord>> {
        let Some((open, number)) = self.number_for(bucket) else { return Ok(None) };
        let table = engine.catalog().tables().get(open);
        if table.is_dropped() {
            return Ok(None);
        }
        let mut undecoded = None;
        let mut compare = |one: &[u8], other: &[u8]| {
            let compared = table.compare_keys(one, other);
            compared.unwrap_or_else(|error| {
                undecoded = Some(error);
                std::cmp::Ordering::Less
            })
        };
        keys.sort_by(|one, other| compare(one, other));
        keys.dedup_by(|one, other| compare(one, other).is_eq());
        if let Some(source) = undecoded {
            return Err(Error::Decode { bucket: engine.catalog().name(open), source });
        }
        let (position, snapshot) = self.snapshot(engine);
        let mut writer = self.writer(self.origin(bucket, number), TableKind::Delta)?;
        let mut refused = None;
        let mut sorted = keys.iter().map(|key| &**key);
        let dumped = table.dump_keys(snapshot.view(), &mut sorted, &mut |key, value| {
            let operation = if value.is_some() { Operation::Put } else { Operation::Delete };
            refused = writer.push_operation(operation, key, value.unwrap_or_default()).err();
            refused.is_none()
        });
        if let Some(error) = refused {
            return Err(error.into());
        }
        check_dumped(engine, open, dumped)?;
        let mut record = writer.finish(snapshot.timestamp(), position)?;
        record.lower.clear();
        Ok(Some(record))
    }

    /// The table of an open bucket, and a number for a new file of it.
    fn number_for(&self, bucket: StoredId) -> Option<(BucketId, crate::checkpoint::TableId)> {
        let mut state = self.archive.state.lock();
        let Life::Open(open) = state.buckets.get(&bucket)?.life else { return None };
        Some((open, state.take_table()))
    }

    /// Has the manifest name the deltas, and lets the log go.
    fn finish_save(
        &self,
        engine: &Arc<Engine>,
        written: Vec<(StoredId, TableRecord)>,
        end: Lsn,
    ) -> Result<()> {
        let mut state = self.archive.state.lock();
        // As in `finish` of a checkpoint.
        self.wal.sync_to(self.wal.position())?;
        let (mut garbage, mut saved) = (Vec::new(), Vec::new());
        for (id, record) in written {
            match state.buckets.get_mut(&id) {
                Some(bucket) => {
                    bucket.deltas.push(record);
                    saved.push(id);
                }
                None => garbage.push(record.table),
            }
        }
        state.needed = end;
        let last = engine.log().now(&engine.collector().pin());
        self.store_manifest(&mut state, last, None)?;
        drop(state);
        self.wal.release(end)?;
        for bucket in saved {
            self.shelve(engine, bucket);
        }
        // Relaxed: under the lock of checkpoints.
        self.saves.fetch_add(1, Ordering::Relaxed);
        self.remove_tables(garbage.into_iter());
        Ok(())
    }
}

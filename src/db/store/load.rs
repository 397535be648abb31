//! Bringing a bucket into memory, when it is opened for the first time.
//!
//! ```text
//! ranges    blocks, shared out over threads        sorted, each key once
//! deltas    ┐ in the order of the log; shared out by key where equal keys
//! pending   ┘ have equal bytes, else on one thread
//! ```
//!
//! 1. Nobody knows the table before it is whole; if loading fails, nothing has changed.
//! 2. Operations on one key are applied in the order of the log.
//! 3. What is loaded is stamped with the moment from which the file has it, so that it is known
//!    what may leave memory again without being written. Where there is a limit, and little room,
//!    values stay in their files from the beginning.
//! 4. Progress is told now and then, by whichever thread gets there, and once at the end.

use std::num::NonZero;

use crate::checkpoint::table::Table;
use crate::checkpoint::{Entry, Operation, ValuePosition};
use crate::crc::crc32;
use crate::db::files::RecoveryStep;
use crate::db::store::archive::Archive;
use crate::db::store::state::{BucketState, Life, RangeState};
use crate::error::{Error, Result};
use crate::id::{StoredId, Timestamp};
use crate::mvcc::account::Gauge;
use crate::mvcc::ops::Op;
use crate::mvcc::place::Place;
use crate::mvcc::shelf::Files;
use crate::mvcc::table::Horizons;
use crate::mvcc::tables::AnyTable;
use crate::ssi::Needed;
use crate::sync::{Arc, AtomicU64, Ordering, thread};
use crate::txn::Engine;

/// Entries below which a second thread is not worth its start.
const SHARE_MIN: u64 = 20_000;
const THREADS_MAX: usize = 8;
/// Operations that are applied under one pin.
const BATCH: usize = 1024;
/// Entries and operations between two reports of progress.
const REPORT_EVERY: u64 = 50_000;

/// What is to be done by all threads together, and what each of them does.
struct Load<'a> {
    archive: &'a Archive,
    engine: &'a Engine,
    bucket: &'a BucketState,
    table: &'a dyn AnyTable,
    /// Entries and operations taken in, of how many.
    done: AtomicU64,
    total: u64,
    /// Bytes that are to come, and cannot be found again in a file.
    unsaved: u64,
}

/// One operation on a key.
struct Change<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    at: Timestamp,
    place: Option<(&'a Arc<Table>, ValuePosition)>,
}

impl Archive {
    /// Fills `table` with what the files hold of a bucket, and marks the ranges that are not as
    /// the log left them.
    pub(super) fn load(
        &self,
        engine: &Engine,
        id: StoredId,
        bucket: &mut BucketState,
        table: &dyn AnyTable,
    ) -> Result<()> {
        let Life::Closed(pending) = &bucket.life else { return Ok(()) };
        let open = |record| {
            let (storage, directory) = (&*self.storage, &self.directory);
            Table::open(storage, directory, self.database, id, record).map(Arc::new)
        };
        let ranges = bucket.ranges.iter().filter_map(|range| range.table.as_ref());
        let ranges = ranges.map(open).collect::<std::result::Result<Vec<_>, _>>()?;
        check_bounds(bucket, &ranges)?;
        let deltas = bucket.deltas.iter().map(open).collect::<std::result::Result<Vec<_>, _>>()?;
        if let Some(shelf) = table.shelf() {
            shelf.fill(Files::new(ranges.clone(), &deltas));
        }
        let mut touched = bucket.ranges.clone();
        let entries = ranges.iter().chain(&deltas).map(|table| table.len()).sum::<u64>();
        let (done, total) = (AtomicU64::new(0), entries + pending.len() as u64);
        let unsorted = deltas.iter().filter(|delta| !delta.is_sorted());
        let unsaved = pending.bytes() + unsorted.map(|delta| delta.file_length()).sum::<u64>();
        let load = Load { archive: self, engine, bucket, table, done, total, unsaved };
        load.ranges(&ranges)?;
        let has_operations = !deltas.is_empty() || !pending.is_empty();
        if has_operations {
            load.operations(&deltas)?;
            load.touch(&deltas, &mut touched)?;
            let guard = engine.collector().pin();
            let (any, needed) = (self.recovered, Needed::from(self.recovered));
            let horizons = Horizons { any, passed: any, departed: any, needed: &needed };
            table.sweep(horizons, usize::MAX, &guard);
        }
        load.tell(total);
        bucket.ranges = touched;
        Ok(())
    }
}

impl Load<'_> {
    fn threads(entries: u64) -> usize {
        let useful = usize::try_from(entries / SHARE_MIN).unwrap_or(THREADS_MAX);
        if useful <= 1 {
            // Asking for the number of cores takes longer than loading a small bucket.
            return 1;
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        cores.min(useful).clamp(1, THREADS_MAX)
    }

    /// Whether values that can stay in their files do, since there is little room: what comes from
    /// the log has to fit, and the first commits are not to wait.
    fn stays(&self) -> bool {
        if self.table.shelf().is_none() {
            return false;
        }
        // Relaxed: an estimate.
        let left = self.total.saturating_sub(self.done.load(Ordering::Relaxed));
        let to_come = self.unsaved.saturating_add(left.saturating_mul(self.table.stub_bytes()));
        let is_short =
            |gauge: &Arc<Gauge>| gauge.used().saturating_add(to_come) > gauge.limit() / 4 * 3;
        self.table.gauges().iter().any(is_short)
    }

    /// Counts what was taken in, and tells of it now and then (keeps 4).
    fn note(&self, more: u64) {
        // Relaxed: a count that nothing is read because of.
        let before = self.done.fetch_add(more, Ordering::Relaxed);
        let now = before + more;
        if before / REPORT_EVERY < now / REPORT_EVERY && now < self.total {
            self.tell(now);
        }
    }

    fn tell(&self, done: u64) {
        if let Some(progress) = &self.archive.progress {
            let name = self.bucket.name.clone();
            progress(RecoveryStep::Bucket { name, done, total: self.total });
        }
    }

    fn decode_error(&self, source: crate::codec::DecodeError) -> Error {
        Error::Decode { bucket: self.bucket.name.clone(), source }
    }

    /// Loads sorted tables, each thread a run of neighbouring blocks.
    fn ranges(&self, tables: &[Arc<Table>]) -> Result<()> {
        let blocks: Vec<(&Arc<Table>, usize)> = tables
            .iter()
            .flat_map(|table| (0..table.blocks()).map(move |at| (table, at)))
            .collect();
        let threads = Self::threads(tables.iter().map(|table| table.len()).sum());
        let share = blocks.len().div_ceil(threads).max(1);
        on_threads(blocks.chunks(share), |chunk| {
            let mut buffer = Vec::new();
            for &(table, at) in chunk {
                let block = table.read_block(at, &mut buffer)?;
                let guard = self.engine.collector().pin();
                let mut count = 0;
                for Entry { key, value, position, .. } in block.entries() {
                    let place = self.stays().then(|| Place { file: Arc::clone(table), position });
                    let at = table.timestamp();
                    let loaded = self.table.load(key, Some(value), at, place, &guard);
                    loaded.map_err(|source| self.decode_error(source))?;
                    count += 1;
                }
                self.note(count);
            }
            Ok(())
        })
    }

    /// Passes on the operations of the deltas and then those of the log: key, value, the time at
    /// which it was so, and where the value is if that can be found again.
    fn each_operation(
        &self,
        deltas: &[Arc<Table>],
        mut each: impl FnMut(Change<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = Vec::new();
        for delta in deltas {
            for at in 0..delta.blocks() {
                for entry in delta.read_block(at, &mut buffer)?.entries() {
                    let stays = delta.is_sorted() && self.stays();
                    each(Change {
                        key: entry.key,
                        value: (entry.operation == Operation::Put).then_some(entry.value),
                        at: delta.timestamp(),
                        place: stays.then_some((delta, entry.position)),
                    })?;
                }
            }
        }
        let Life::Closed(pending) = &self.bucket.life else { return Ok(()) };
        let change = |key, value| Change { key, value, at: self.archive.recovered, place: None };
        for op in pending.iter() {
            match op {
                Op::Put { key, value, .. } => each(change(key, Some(value)))?,
                Op::Remove { key, .. } => each(change(key, None))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Applies the operations, each thread to its share of the keys (keeps 2).
    fn operations(&self, deltas: &[Arc<Table>]) -> Result<()> {
        let Life::Closed(pending) = &self.bucket.life else { return Ok(()) };
        let count = deltas.iter().map(|delta| delta.len()).sum::<u64>() + pending.len() as u64;
        let threads = if self.bucket.is_ordered { Self::threads(count) } else { 1 };
        on_threads(0..threads, |share| {
            let mut guard = self.engine.collector().pin();
            let mut done = 0;
            self.each_operation(deltas, |Change { key, value, at, place }| {
                if threads > 1 && crc32(0, key) as usize % threads != share {
                    return Ok(());
                }
                let place =
                    place.map(|(file, position)| Place { file: Arc::clone(file), position });
                done += 1;
                if done % BATCH == 0 {
                    guard = self.engine.collector().pin();
                    self.note(BATCH as u64);
                }
                let loaded = self.table.load(key, value, at, place, &guard);
                loaded.map_err(|source| self.decode_error(source))
            })
        })
    }

    /// Marks the ranges that an operation changed.
    fn touch(&self, deltas: &[Arc<Table>], ranges: &mut [RangeState]) -> Result<()> {
        if let [whole] = ranges {
            whole.is_touched = true;
            return Ok(());
        }
        self.each_operation(deltas, |change| {
            let touched = BucketState::touch(ranges, change.key, self.table);
            touched.map_err(|source| self.decode_error(source))
        })
    }
}

/// Each table keeps to its range, as far as bytes can tell.
fn check_bounds(bucket: &BucketState, tables: &[Arc<Table>]) -> Result<()> {
    if !bucket.is_ordered {
        return Ok(());
    }
    let lowers = bucket.ranges.iter().filter(|range| range.table.is_some());
    let lowers: Vec<&[u8]> = lowers.map(|range| range.lower.as_slice()).collect();
    for (at, table) in tables.iter().enumerate() {
        let lower = lowers.get(at).copied().unwrap_or_default();
        table.check_range(lower, lowers.get(at + 1).copied())?;
    }
    Ok(())
}

/// Runs `work` for each item on a thread of its own, the first one on this. The first error wins.
fn on_threads<T: Send>(
    items: impl Iterator<Item = T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let mut items = items;
    let Some(first) = items.next() else { return Ok(()) };
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = items.map(|item| scope.spawn(move || work(item))).collect();
        let mut outcome = work(first);
        for other in others {
            match other.join() {
                Ok(result) => outcome = outcome.and(result),
                // The user's `Decode` or `Ord`: what it said goes to whoever opened the bucket.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome
    })
}

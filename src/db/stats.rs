//! What a database tells about itself.

use std::borrow::Cow;
use std::time::Duration;

use crate::db::store::Unopened;
use crate::id::{Lsn, Timestamp};
use crate::mvcc::account::Bytes;
use crate::mvcc::table::Swept;
use crate::mvcc::tables::AnyTable;
use crate::sync::Arc;
use crate::txn::{BucketEntry, Count, Engine};
use crate::wal::Wal;

/// A bucket in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketInfo {
    /// The name.
    pub name: Arc<str>,
    /// The type of the keys: as the compiler names it, or as the files do if the bucket is not
    /// in memory.
    pub key_type: Cow<'static, str>,
    /// The type of the values, likewise.
    pub value_type: Cow<'static, str>,
    /// Keys in the index, those included that were deleted and not yet vacuumed; zero if the
    /// bucket is not in memory.
    pub records: usize,
    /// What the bucket takes in memory, in bytes; zero if it is not there.
    pub memory: BucketMemory,
}

/// What the entries of a bucket, or of all, take, in bytes. Exact when nothing runs; what the
/// types own on the heap counts as far as it is known or measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketMemory {
    /// Keys, and what the engine keeps for each.
    pub keys: u64,
    /// The newest values.
    pub live: u64,
    /// Older values that a snapshot needs, or that were not cut off yet.
    pub retained: u64,
    /// What left by itself and waits to be swept away.
    pub dead: u64,
}

impl BucketMemory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.keys + self.live + self.retained + self.dead
    }
}

impl From<Bytes> for BucketMemory {
    fn from(bytes: Bytes) -> Self {
        let Bytes { records, live, retained, dead } = bytes;
        Self { keys: records, live, retained, dead }
    }
}

/// Where the memory of a database is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// All buckets.
    pub buckets: BucketMemory,
    /// What was removed and waits for readers to let go of it.
    pub garbage: u64,
    /// What caches keep to choose who leaves.
    pub eviction: u64,
    /// Committed transactions that running ones may conflict with, and records of keys that were
    /// removed or evicted and cannot leave before these are forgotten (the buckets count them too).
    pub log: u64,
}

impl From<BucketEntry> for BucketInfo {
    fn from(entry: BucketEntry) -> Self {
        let BucketEntry { name, key_type, value_type, records, bytes } = entry;
        let (key_type, value_type) = (key_type.into(), value_type.into());
        Self { name, key_type, value_type, records, memory: bytes.into() }
    }
}

impl From<Unopened> for BucketInfo {
    fn from(bucket: Unopened) -> Self {
        let Unopened { name, key_type, value_type } = bucket;
        let (key_type, value_type) = (key_type.into(), value_type.into());
        Self { name, key_type, value_type, records: 0, memory: BucketMemory::default() }
    }
}

/// What a vacuum did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vacuumed {
    /// Records looked at.
    pub visited: usize,
    /// Old versions removed.
    pub versions: usize,
    /// Keys removed from the index.
    pub keys: usize,
}

impl From<Swept> for Vacuumed {
    fn from(swept: Swept) -> Self {
        Self { visited: swept.visited, versions: swept.versions, keys: swept.records }
    }
}

/// Refused commits by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aborts {
    /// Another transaction wrote or locked the same key first.
    pub write_conflicts: u64,
    /// A cycle of conflicts would have closed.
    pub cycles: u64,
    /// A read-only transaction may have seen another order.
    pub read_only_pivots: u64,
    /// The transaction outlived the record of concurrent commits.
    pub windows_lost: u64,
    /// The search for a cycle took too long.
    pub search_budgets: u64,
}

impl Aborts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.write_conflicts
            + self.cycles
            + self.read_only_pivots
            + self.windows_lost
            + self.search_budgets
    }
}

/// The running transaction or snapshot that sees furthest back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldestSnapshot {
    /// Its moment.
    pub timestamp: Timestamp,
    /// How long it has been running; known for snapshots, transactions begun by hand, and
    /// labelled ones.
    pub age: Option<Duration>,
    /// Its label.
    pub label: Option<Arc<str>>,
}

/// The log of a durable database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Where it ends.
    pub position: Lsn,
    /// Up to where it is on the device.
    pub durable: Lsn,
    /// Segments that hold a part of it.
    pub segments: usize,
    /// Segments that are ready for use.
    pub spares: usize,
    /// Commits written to it since the database was opened.
    pub commits: u64,
    /// Bytes written to it.
    pub bytes: u64,
    /// Times it was synced.
    pub syncs: u64,
    /// Why nothing is written any more, if a write or a sync has failed.
    pub failure: Option<String>,
}

impl LogStats {
    fn of(wal: &Wal) -> Self {
        let stats = wal.stats();
        Self {
            position: stats.position,
            durable: stats.durable,
            segments: stats.segments,
            spares: stats.spares,
            commits: stats.commits,
            bytes: stats.bytes,
            syncs: stats.syncs,
            failure: wal.poison_cause().map(|cause| cause.to_string()),
        }
    }
}

/// Counts since the database was opened, and what is in memory now.
///
/// Counts are gathered from several places while others go on; they are exact when nothing runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions committed, those that only read included. Snapshots do not count.
    pub commits: u64,
    /// Commits that were refused.
    pub aborts: Aborts,
    /// Transactions that ended without a commit: rolled back, or refused.
    pub rollbacks: u64,
    /// Times a closure was run again.
    pub retries: u64,
    /// Attempts that were made at the gate, where nobody overtakes.
    pub gated: u64,
    /// Attempts at the gate that took longer than the others waited.
    pub gates_lost: u64,
    /// Commits that had a read overwritten and were let through, since no cycle resulted.
    pub rescued: u64,
    /// The newest commit.
    pub now: Timestamp,
    /// Keys in the indexes, those included that were deleted and not yet vacuumed.
    pub records: usize,
    /// Versions superseded and still in memory, those excluded that the collector holds.
    pub retained_versions: u64,
    /// Committed transactions that the log remembers for running ones.
    pub log_transactions: u64,
    /// The memory they take, in bytes, with that of the records that cannot leave before them.
    pub log_bytes: u64,
    /// Objects that were removed and wait for readers to let go of them.
    pub garbage_objects: usize,
    /// Entries that left by themselves: evicted, expired, or asked to; and values of durable
    /// buckets that left memory.
    pub departures: u64,
    /// Values of durable buckets that were brought back into memory.
    pub fetches: u64,
    /// Where the memory is.
    pub memory: MemoryStats,
    /// Transactions and snapshots that are open.
    pub running: usize,
    /// The one that sees furthest back.
    pub oldest_snapshot: Option<OldestSnapshot>,
    /// The log on disk, if the database is durable.
    pub log: Option<LogStats>,
}

impl Stats {
    pub(super) fn of(engine: &Engine) -> Self {
        let guard = engine.collector().pin();
        let counters = engine.counters();
        let (log_transactions, log_bytes) = engine.log().retained(&guard);
        let refused = engine.log().tally().counts();
        let (gated, gates_lost) = engine.log().gate_counts();
        let oldest = engine.log().registry().oldest();
        let garbage = engine.collector().stats();
        let tables = || engine.catalog().tables().iter();
        Self {
            commits: counters.get(Count::Commits),
            aborts: Aborts {
                write_conflicts: counters.get(Count::WriteConflicts) + refused.locked,
                cycles: refused.cycles + refused.overwritten,
                read_only_pivots: refused.read_only_pivots,
                windows_lost: refused.windows_lost,
                search_budgets: refused.search_budgets,
            },
            rollbacks: counters.get(Count::Rollbacks),
            retries: counters.get(Count::Retries),
            gated,
            gates_lost,
            rescued: refused.rescued,
            now: engine.log().now(&guard),
            records: tables().map(|table| table.records(&guard)).sum(),
            retained_versions: counters
                .get(Count::VersionsRetained)
                .cast_signed()
                .max(0)
                .cast_unsigned(),
            log_transactions,
            log_bytes,
            garbage_objects: garbage.garbage_objects,
            departures: counters.get(Count::Departures),
            fetches: counters.get(Count::Fetches),
            memory: MemoryStats {
                limit: engine.catalog().tables().gauge().map(|gauge| gauge.limit()),
                buckets: tables().map(AnyTable::bytes).sum::<Bytes>().into(),
                garbage: garbage.garbage_bytes as u64,
                eviction: tables().map(|table| table.overhead().1).sum(),
                log: log_bytes,
            },
            running: engine.log().registry().running(),
            log: engine.journal().map(|journal| LogStats::of(journal.wal())),
            oldest_snapshot: oldest.map(|oldest| OldestSnapshot {
                timestamp: oldest.timestamp,
                age: oldest.since.map(|since| since.elapsed()),
                label: oldest.label,
            }),
        }
    }
}

//! What everything in one database shares.
//!
//! 1. The collector is dropped before the tables: what it still holds may point into records.
//! 2. The commit log is dropped before both: its nodes name records, and need none of them.

use std::time::Duration;

use crate::epoch::Collector;
use crate::id::Timestamp;
use crate::mvcc::account::{Reserved, SET_ASIDE};
use crate::mvcc::footprint::Footprint;
use crate::mvcc::table::Swept;
use crate::mvcc::tables::AnyTable;
use crate::ssi::{CommitLog, Rules};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::txn::burial::Burial;
use crate::txn::catalog::Catalog;
use crate::txn::counters::{Count, Counters};
use crate::txn::journal::{Backing, Journal};
use crate::txn::options::Isolation;

/// Records that a vacuum looks at under one pin, about.
pub(super) const VACUUM_STEP: usize = 4096;

/// What an engine is made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) isolation: Isolation,
    pub(crate) rules: Rules,
    /// The most bytes that the entries of all buckets may take.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) snapshots: SnapshotBounds,
}

/// From when on a snapshot refuses to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SnapshotBounds {
    pub(crate) age: Option<Duration>,
    /// Bytes of old versions in all buckets, for the snapshot that sees furthest back.
    pub(crate) retained_bytes: Option<u64>,
}

/// The shared state of a database.
pub(crate) struct Engine {
    log: CommitLog<Footprint>,
    collector: Collector,
    catalog: Catalog,
    counters: Counters,
    isolation: Isolation,
    snapshots: SnapshotBounds,
    backing: Backing,
    burial: Burial,
    /// The table that the next vacuum begins with.
    vacuum: Mutex<usize>,
    /// The oldest moment that readers needed when they were last waited for in vain.
    in_vain: AtomicU64,
    /// A part of the limit for what a durable database keeps in memory besides entries.
    _set_aside: Option<Reserved>,
}

impl Engine {
    /// An engine for a database that lives in memory.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::recovered(settings, Timestamp::ZERO, Backing::Memory)
    }

    /// An engine that goes on where a recovery ended: behind the commit at `now`.
    pub(crate) fn recovered(settings: &Settings, now: Timestamp, backing: Backing) -> Self {
        let is_full = backing.journal().is_some_and(Journal::is_full);
        let rules = Rules { confirm: is_full, ..settings.rules.clone() };
        let catalog = Catalog::new(settings.memory_limit);
        let gauge = catalog.tables().gauge().filter(|_| backing.journal().is_some());
        Self {
            log: CommitLog::starting_at(now, rules),
            collector: Collector::new(),
            _set_aside: gauge.map(|gauge| gauge.reserve_anyway(gauge.limit() / SET_ASIDE)),
            catalog,
            counters: Counters::new(),
            isolation: settings.isolation,
            snapshots: settings.snapshots,
            backing,
            burial: Burial::default(),
            vacuum: Mutex::new(0),
            in_vain: AtomicU64::new(Timestamp::MAX.get()),
        }
    }

    pub(crate) fn log(&self) -> &CommitLog<Footprint> {
        &self.log
    }

    pub(crate) fn collector(&self) -> &Collector {
        &self.collector
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where durable buckets are.
    pub(crate) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// The log, if the database has one.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.backing.journal()
    }

    pub(crate) fn snapshot_bounds(&self) -> SnapshotBounds {
        self.snapshots
    }

    /// The horizon as it is now.
    pub(crate) fn horizon_now(&self) -> Timestamp {
        let guard = self.collector.pin();
        self.log.horizons(&guard).any
    }

    /// Whether all buckets together have a limit.
    pub(crate) fn has_memory_limit(&self) -> bool {
        self.catalog.tables().gauge().is_some()
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// No snapshot, running or to come, lies below this. Lags behind a little: commits recompute
    /// it now and then, when they trim the log.
    pub(crate) fn horizon(&self) -> Timestamp {
        self.log.registry().published().any
    }

    /// Whether somebody who needs room goes on waiting for the reader of this moment, given whether
    /// there is patience left. Once there was none, nobody waits for the same one again.
    pub(super) fn waits_for(&self, moment: Timestamp, is_patient: bool) -> bool {
        // Relaxed: it orders nothing, and to miss it is to wait once more.
        if !is_patient {
            self.in_vain.store(moment.get(), Ordering::Relaxed);
        }
        is_patient && self.in_vain.load(Ordering::Relaxed) != moment.get()
    }

    /// When the records of entries that left may be removed.
    pub(super) fn burial(&self) -> &Burial {
        &self.burial
    }

    /// Looks at up to `budget` records, prunes what nobody can read, removes records that hold
    /// nothing, trims the commit log and frees what readers have let go of.
    pub(crate) fn vacuum(&self, budget: usize) -> Swept {
        let mut total = Swept::default();
        if let Some(mut next) = self.vacuum.try_lock() {
            let tables = self.catalog.tables();
            // One table more than there are: the first may be entered in its middle.
            let mut ends = tables.len() + 1;
            while ends > 0 && total.visited < budget {
                let Some(table) = tables.at(*next) else {
                    *next = 0;
                    ends -= 1;
                    continue;
                };
                let step = VACUUM_STEP.min(budget - total.visited);
                let is_searched = self.expire(table, step);
                let swept = self.sweep(table, step);
                total.visited += swept.visited;
                total.versions += swept.versions;
                total.records += swept.records;
                if swept.wrapped {
                    // The sweep goes by whole leaves and is a little ahead of the search.
                    if !is_searched {
                        self.expire(table, usize::MAX);
                    }
                    *next += 1;
                    ends -= 1;
                }
            }
        }
        self.counters.add(Count::VersionsRetained, (total.versions as u64).wrapping_neg());
        self.collector.collect();
        total
    }

    /// A step of a vacuum under a pin of its own: readers' garbage is not held up for the length
    /// of a table.
    fn sweep(&self, table: &dyn AnyTable, step: usize) -> Swept {
        let guard = self.collector.pin();
        self.tidy_now(&guard);
        let needed = self.log.needed(&guard);
        let horizons = self.horizons_anew(&needed, &guard);
        let buried = table.bury(horizons, VACUUM_STEP, &guard);
        let mut swept = table.sweep(horizons, step, &guard);
        swept.versions += buried;
        swept
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

//! Limits: room is reserved before a commit takes effect, or made, or the commit is refused.
//!
//! ```text
//! needs ─► reserve ─────────────────────────────► commit ─► count ─► give the reservation back
//!             └ full ─► vacuum ─► evict ─► checkpoint ─► again
//!                          └ nothing left to free ─► refused
//! ```
//!
//! 1. A commit reserves what its versions and records take, at every limit that counts them, before
//!    it holds anything and before it is visible.
//! 2. What only removes is never refused, and neither is what removes more than it adds where
//!    little is retained for snapshots.
//! 3. Relief comes in this order: what nobody can read any more, then what the policies of the
//!    buckets name that evict: entries of caches, and values of durable buckets that are in the
//!    files; then a checkpoint, after which more values are.
//! 4. A value that is read back may go over the limit by a small part of it. The reader makes room
//!    before, but what it may see itself cannot go; it waits for no checkpoint.
//! 5. Values that have left stay for readers who may hold references to them. Most of these end
//!    soon, though one may wait for a disk, or for a processor: so a commit that needs room waits
//!    for them, but not for ever, and once for each reader that does not end.
//! 6. Without a limit nothing of this happens.

use std::time::{Duration, Instant};

use crate::epoch::Guard;
use crate::error::{Error, Result};
use crate::id::BucketId;
use crate::mvcc::account::{Gauge, Reserved, SET_ASIDE};
use crate::mvcc::departure::{BATCH, Wanted};
use crate::mvcc::place::FetchError;
use crate::mvcc::tables::AnyTable;
use crate::mvcc::view::Headroom;
use crate::mvcc::write_set::Needs;
use crate::sync::{Arc, thread};
use crate::txn::counters::Count;
use crate::txn::engine::{Engine, VACUUM_STEP};
use crate::txn::journal::Journal;

/// Records that one vacuum looks at for a commit that needs room.
const VACUUM_BUDGET: usize = 1024;
/// Records of departed entries that are removed before others are evicted.
const BURY_BUDGET: usize = 16 * BATCH;
/// A part of a limit that departed entries may take before readers are asked to let go of them.
const DEAD_SHARE: u64 = 32;
/// More than is needed is evicted, by one part in so many of the limit, so that not every commit
/// has to.
const OVERSHOOT: u64 = 512;
/// And no more than this: who evicts waits for it.
const OVERSHOOT_MAX: u64 = 64 << 10;
/// How often room is made for one commit before it is refused, without anything freed by anybody.
const FUTILE_MAX: usize = 3;
/// Values that have left memory but for their readers, at most, before no more are asked to.
const PARTED_MAX: usize = 1024;
/// Batches in a row of which nothing can leave, before the search for more is given up.
const REFUSALS_MAX: usize = 8;
/// A part of a limit that values read back may take above it (4).
const EXCESS: u64 = 16;
/// How long readers are waited for, at most (5).
const PATIENCE: Duration = Duration::from_millis(500);
/// And how long before it is seen whether they have ended.
const PAUSE: Duration = Duration::from_millis(1);

/// What one bucket gave.
#[derive(Clone, Copy, Debug, Default)]
struct Evicted {
    /// Bytes that were freed.
    bytes: u64,
    /// Values that have left memory but for their readers.
    parted: u64,
}

impl Headroom for Engine {
    fn reserve(
        &self,
        bucket: BucketId,
        bytes: u64,
    ) -> std::result::Result<Vec<Reserved>, FetchError> {
        let table = self.catalog().tables().get(bucket);
        self.counters().add(Count::Fetches, 1);
        table.gauges().iter().map(|gauge| self.reserve_for_reading(gauge, table, bytes)).collect()
    }
}

impl Engine {
    /// Reserves at all limits of a bucket what a commit needs there (keeps 1).
    pub(super) fn reserve(
        &self,
        table: &dyn AnyTable,
        needs: Needs,
        reserved: &mut Vec<Reserved>,
    ) -> Result<()> {
        for gauge in table.gauges() {
            if needs.removes_only {
                reserved.push(gauge.reserve_anyway(needs.adds));
            } else {
                reserved.push(self.reserve_at(gauge, table, needs)?);
            }
        }
        Ok(())
    }

    /// Makes room after a bucket was brought into memory: what its log has came without asking. If
    /// there is none, the next commit is told.
    pub(crate) fn settle_in(&self, bucket: BucketId) {
        let table = self.catalog().tables().get(bucket);
        let needs = Needs { adds: 0, removes_only: false };
        if table.shelf().is_some() {
            let _ = self.reserve(table, needs, &mut Vec::new());
        }
    }

    fn reserve_at(
        &self,
        gauge: &Arc<Gauge>,
        table: &dyn AnyTable,
        needs: Needs,
    ) -> Result<Reserved> {
        let left = || self.counters().get(Count::Departures);
        let (mut futile, mut has_vacuumed, mut left_before) = (0, false, left());
        let mut waiting = None;
        loop {
            let full = match gauge.reserve(needs.adds) {
                Ok(reserved) => return Ok(reserved),
                Err(full) => full,
            };
            let missing = (full.used + needs.adds).saturating_sub(gauge.limit());
            let has_tried = futile >= FUTILE_MAX;
            if needs.adds > gauge.limit()
                || has_tried && !self.wait_for_readers(gauge, table, &mut waiting)
            {
                return Err(self.no_room(gauge, table, needs.adds));
            }
            let has_made_room = self.make_room(gauge, table, missing);
            // What others let leave, others took: that is no sign that nothing can leave.
            let left_by_now = left();
            let was_futile = !has_made_room && left_by_now == left_before;
            left_before = left_by_now;
            futile = if was_futile { futile + 1 } else { 0 };
            if has_made_room {
                waiting = None;
                continue;
            }
            // A checkpoint that is under way holds values back that leave meanwhile; to wait for a
            // save is to wait for the end of its snapshot, too.
            if self.save(gauge, table) {
                continue;
            }
            if has_vacuumed {
                futile = FUTILE_MAX;
                continue;
            }
            // What was removed, and is not swept yet.
            self.vacuum(usize::MAX);
            has_vacuumed = true;
        }
    }

    fn reserve_for_reading(
        &self,
        gauge: &Arc<Gauge>,
        table: &dyn AnyTable,
        bytes: u64,
    ) -> std::result::Result<Reserved, FetchError> {
        if let Ok(reserved) = gauge.reserve(bytes) {
            return Ok(reserved);
        }
        self.make_room(gauge, table, bytes);
        let (used, limit) = (gauge.used(), gauge.limit());
        if used.saturating_add(bytes) > limit.saturating_add(limit / EXCESS) {
            return Err(FetchError::NoRoom { needed: bytes, used, limit });
        }
        Ok(gauge.reserve_anyway(bytes))
    }

    /// Waits a little for readers, if values that have left memory are still there for them
    /// (keeps 5). `since` is when the caller began to wait without anything having been freed.
    fn wait_for_readers(
        &self,
        gauge: &Arc<Gauge>,
        table: &dyn AnyTable,
        since: &mut Option<Instant>,
    ) -> bool {
        if self.evicting(gauge, table).iter().all(|it| it.parted() == 0) {
            return false;
        }
        let oldest = self.log().needed(&self.collector().pin()).oldest();
        let since = since.get_or_insert_with(Instant::now);
        let goes_on = self.waits_for(oldest, since.elapsed() < PATIENCE);
        if goes_on {
            thread::sleep(PAUSE);
        }
        goes_on
    }

    pub(super) fn no_room(&self, gauge: &Arc<Gauge>, table: &dyn AnyTable, needed: u64) -> Error {
        let is_database = self.catalog().tables().gauge().is_some_and(|it| Arc::ptr_eq(it, gauge));
        let bucket = (!is_database).then(|| self.catalog().name(table.id()));
        Error::MemoryLimit { bucket, needed, used: gauge.used(), limit: gauge.limit() }
    }

    /// Frees `missing` bytes and a little more at a limit, if it can (keeps 3). Answers whether
    /// anything was freed, or will be soon; others may have taken it by then.
    fn make_room(&self, gauge: &Arc<Gauge>, table: &dyn AnyTable, missing: u64) -> bool {
        let before = gauge.used();
        if self.retains_versions() {
            self.vacuum(VACUUM_BUDGET);
        }
        let vacuumed = before.saturating_sub(gauge.used());
        let overshoot = (gauge.limit() / OVERSHOOT).min(OVERSHOOT_MAX);
        let goal = missing.saturating_add(overshoot).saturating_sub(vacuumed);
        let (mut open, mut parted) = (goal, 0);
        for table in self.evicting(gauge, table) {
            if open == 0 {
                break;
            }
            let evicted = self.evict(table, open);
            open = open.saturating_sub(evicted.bytes);
            parted += evicted.parted;
        }
        // What has parted is freed when its readers are done, by whoever comes next.
        vacuumed + (goal - open) + parted > 0 || gauge.used() < before
    }

    /// Has values written to files that are in memory only, so that they can leave. Answers whether
    /// that was done; others may have done it.
    fn save(&self, gauge: &Arc<Gauge>, table: &dyn AnyTable) -> bool {
        let is_durable = self.evicting(gauge, table).iter().any(|it| it.stored_id().is_some());
        is_durable && self.journal().is_some_and(Journal::save)
    }

    /// The tables that can give way at a limit: the bucket's own, or all that evict, largest first.
    fn evicting<'e>(
        &'e self,
        gauge: &Arc<Gauge>,
        table: &'e dyn AnyTable,
    ) -> Vec<&'e dyn AnyTable> {
        let tables = self.catalog().tables();
        if tables.gauge().is_none_or(|database| !Arc::ptr_eq(database, gauge)) {
            return if table.evicts() { vec![table] } else { Vec::new() };
        }
        let mut all: Vec<_> = tables.iter().filter(|table| table.evicts()).collect();
        // Once for each: others change the counts meanwhile, and a sort wants one order.
        all.sort_by_cached_key(|table| std::cmp::Reverse(table.bytes().total()));
        all
    }

    /// Lets entries leave whose time is over, of the next `budget` of a bucket. Answers whether its
    /// end was reached.
    pub(super) fn expire(&self, table: &dyn AnyTable, mut budget: usize) -> bool {
        if table.expiry().is_none() {
            return true;
        }
        while budget > 0 {
            // A pin a step, as vacuums have it.
            let wanted = Wanted::Expired(budget.min(VACUUM_STEP));
            let depart = |owner, guard: &Guard<'_>| table.depart(wanted, owner, guard);
            let search = self.let_leave(depart).search;
            if search.is_over {
                return true;
            }
            budget = budget.saturating_sub(search.visited);
        }
        false
    }

    /// Evicts from one bucket until about `bytes` are freed.
    fn evict(&self, table: &dyn AnyTable, bytes: u64) -> Evicted {
        let is_durable = table.stored_id().is_some();
        let mut evicted = Evicted::default();
        if is_durable {
            evicted.bytes = self.part(table);
        } else {
            self.bury(table);
        }
        let parted_max = parted_max(table);
        let mut refusals = 0;
        // More of what stays for readers would be of no help.
        while evicted.bytes < bytes && table.parted() < parted_max {
            let wanted = Wanted::Room(bytes - evicted.bytes);
            let depart = |owner, guard: &Guard<'_>| table.depart(wanted, owner, guard);
            let seen_off = self.let_leave(depart);
            evicted.bytes += seen_off.bytes;
            if seen_off.bytes > 0 {
                continue;
            }
            if is_durable && seen_off.entries == 0 && seen_off.asked > 0 && refusals < REFUSALS_MAX
            {
                // They are not in the files, or what is there is damaged. Others may be.
                refusals += 1;
                continue;
            }
            let parted = if seen_off.entries > 0 { self.part_unconfirmed(table) } else { 0 };
            evicted.bytes += parted;
            // Nothing was chosen; or all of it stays for a snapshot, and more would, too.
            if parted == 0 {
                evicted.parted += if is_durable { seen_off.retained } else { 0 };
                break;
            }
        }
        evicted
    }

    /// Takes out what has left memory but for its readers. Answers how many bytes that frees.
    fn part(&self, table: &dyn AnyTable) -> u64 {
        let guard = self.collector().pin();
        let (versions, bytes) = table.part(&self.log().needed(&guard), PARTED_MAX, &guard);
        self.counters().add(Count::VersionsRetained, (versions as u64).wrapping_neg());
        bytes
    }

    /// Where readers are shown what is durable only, what leaves stays for them until a moment
    /// after it is confirmed, which without another commit nobody would do. Takes it out then.
    fn part_unconfirmed(&self, table: &dyn AnyTable) -> u64 {
        if table.stored_id().is_none() || !self.journal().is_some_and(Journal::is_full) {
            return 0;
        }
        let now = self.log().now(&self.collector().pin());
        self.confirmed_at(now);
        self.part(table)
    }

    /// Removes records of entries that departed before. Where many are left because readers have
    /// not let go of their values yet, it asks the readers first.
    fn bury(&self, table: &dyn AnyTable) {
        let bury = || {
            let guard = self.collector().pin();
            self.tidy_now(&guard);
            let needed = self.log().needed(&guard);
            let versions = table.bury(self.horizons_anew(&needed, &guard), BURY_BUDGET, &guard);
            self.counters().add(Count::VersionsRetained, (versions as u64).wrapping_neg());
        };
        bury();
        let limit = table.gauges().iter().map(|gauge| gauge.limit()).min().unwrap_or(u64::MAX);
        if table.bytes().dead > limit / DEAD_SHARE {
            self.collector().collect();
            bury();
        }
    }

    fn retains_versions(&self) -> bool {
        self.catalog().tables().iter().any(|table| table.bytes().retained > 0)
    }
}

/// How many values may have left memory but for their readers, which only takes more: what is set
/// aside of the limit has room for them.
fn parted_max(table: &dyn AnyTable) -> usize {
    let limit = table.gauges().iter().map(|gauge| gauge.limit()).min().unwrap_or(u64::MAX);
    let room = limit / SET_ASIDE / 2 / table.stub_bytes();
    usize::try_from(room).unwrap_or(usize::MAX).clamp(1, PARTED_MAX)
}

//! Limits: room is reserved before a commit takes effect, or made, or the commit is refused.
//!
//! ```text
//! needs ─► reserve ─────────────────────────────► commit ─► count ─► give the reservation back
//!             └ full ─► vacuum ─► evict ─► again
//!                          └ nothing left to free ─► refused
//! ```
//!
//! 1. A commit reserves what its versions and records take, at every limit that counts them, before
//!    it holds anything and before it is visible.
//! 2. What only removes is never refused, and neither is what removes more than it adds where
//!    little is retained for snapshots.
//! 3. Relief comes in this order: what nobody can read any more, then entries of the buckets
//!    that evict.
//! 4. Without a limit nothing of this happens.

use crate::epoch::Guard;
use crate::error::{Error, Result};
use crate::mvcc::account::{Gauge, Reserved};
use crate::mvcc::departure::{BATCH, Wanted};
use crate::mvcc::tables::AnyTable;
use crate::mvcc::write_set::Needs;
use crate::sync::Arc;
use crate::txn::engine::{Engine, VACUUM_STEP};

/// Records that one vacuum looks at for a commit that needs room.
const VACUUM_BUDGET: usize = 1024;
/// Records of departed entries that are removed before others are evicted.
const BURY_BUDGET: usize = 2 * BATCH;
/// A part of a limit that departed entries may take before readers are asked to let go of them.
const DEAD_SHARE: u64 = 32;
/// More than is needed is evicted, by one part in so many of the limit, so that not every commit
/// has to.
const OVERSHOOT: u64 = 512;
/// How often room is made for one commit before it is refused, without anything freed.
const FUTILE_MAX: usize = 3;

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

    fn reserve_at(
        &self,
        gauge: &Arc<Gauge>,
        table: &dyn AnyTable,
        needs: Needs,
    ) -> Result<Reserved> {
        let mut futile = 0;
        loop {
            let full = match gauge.reserve(needs.adds) {
                Ok(reserved) => return Ok(reserved),
                Err(full) => full,
            };
            let missing = (full.used + needs.adds).saturating_sub(gauge.limit());
            let freed = needs.adds <= gauge.limit() && self.make_room(gauge, table, missing);
            futile = if freed { 0 } else { futile + 1 };
            if futile >= FUTILE_MAX || needs.adds > gauge.limit() {
                return Err(self.no_room(gauge, table, needs.adds));
            }
        }
    }

    fn no_room(&self, gauge: &Arc<Gauge>, table: &dyn AnyTable, needed: u64) -> Error {
        let is_database = self.catalog().tables().gauge().is_some_and(|it| Arc::ptr_eq(it, gauge));
        let bucket = (!is_database).then(|| self.catalog().name(table.id()));
        Error::MemoryLimit { bucket, needed, used: gauge.used(), limit: gauge.limit() }
    }

    /// Frees `missing` bytes and a little more at a limit, if it can (keeps 3). Answers whether
    /// anything was freed; others may have taken it by then.
    fn make_room(&self, gauge: &Arc<Gauge>, table: &dyn AnyTable, missing: u64) -> bool {
        let before = gauge.used();
        if self.retains_versions() {
            self.vacuum(VACUUM_BUDGET);
        }
        let vacuumed = before.saturating_sub(gauge.used());
        let goal = missing.saturating_add(gauge.limit() / OVERSHOOT).saturating_sub(vacuumed);
        let mut open = goal;
        for table in self.evicting(gauge, table) {
            if open == 0 {
                break;
            }
            open = open.saturating_sub(self.evict(table, open));
        }
        let freed = vacuumed + (goal - open);
        // Of what leaves and stays for a snapshot at least the key counts no more.
        if freed == 0 && gauge.used() >= before {
            // What was removed, and is not swept yet.
            self.vacuum(usize::MAX);
        }
        freed > 0 || gauge.used() < before
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

    /// Evicts from one bucket until about `bytes` are freed. Answers how many were.
    pub(crate) fn evict(&self, table: &dyn AnyTable, bytes: u64) -> u64 {
        self.bury(table);
        let mut freed = 0;
        while freed < bytes {
            let wanted = Wanted::Room(bytes - freed);
            let depart = |owner, guard: &Guard<'_>| table.depart(wanted, owner, guard);
            let seen_off = self.let_leave(depart);
            freed += seen_off.bytes;
            // Nothing was chosen; or all of it stays for a snapshot, and more would, too.
            if seen_off.bytes == 0 {
                break;
            }
        }
        freed
    }

    /// Removes records of entries that departed before. Where many are left because readers have
    /// not let go of their values yet, it asks the readers first.
    fn bury(&self, table: &dyn AnyTable) {
        let bury = || {
            let guard = self.collector().pin();
            let horizon = self.log().horizons(&guard).any;
            table.bury(self.burial(horizon, &guard), BURY_BUDGET, &guard);
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

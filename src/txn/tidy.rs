//! Tidying: what commits overwrote and removed leaves with them.
//!
//! ```text
//! log   ─► 5 ─► 6 ─► 7 ─► 8 ─► 9        a commit moves the floor from 5 to 7
//!          ▲ floor   ▲                  6 and 7: what they overwrote goes, but for what snapshots
//!                                       need; records of what they removed leave the index
//! ```
//!
//! A commit cannot take out what it overwrote: others may still read it. The log knows when nobody
//! does but snapshots that were taken before, and which records it was.
//!
//! 1. Tidying happens behind a commit, which has taken effect. Whatever goes wrong in it costs
//!    memory only, until the next write of the key or the next vacuum.
//! 2. It holds no version, no entry of the registry and no lock of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;

use crate::epoch::Guard;
use crate::mvcc::footprint::{Footprint, WriteRef};
use crate::mvcc::table::Horizons;
use crate::mvcc::tables::tidy;
use crate::mvcc::waiting::Clearing;
use crate::ssi::{Linked, Needed, Passed, Registration};
use crate::txn::counters::Count;
use crate::txn::engine::Engine;

/// Records that are tidied up together.
const BATCH: usize = 128;
/// Kept records that are looked at again for each commit that is passed.
const RETRIES: usize = 2;
/// Commits after which what was kept in the next bucket has its turn.
const TURN: u64 = 32;

impl Engine {
    /// Ends a transaction whose versions carry its timestamp, and tidies up after those that the
    /// log passes on this occasion.
    pub(super) fn finish(
        &self,
        linked: Linked<'_, Footprint>,
        registration: Registration<Footprint>,
        guard: &Guard<'_>,
    ) {
        let passed = self.log().finish(linked, registration, guard);
        self.tidy(passed, guard);
    }

    /// Tidies up after all that can be passed by now.
    pub(super) fn tidy_now(&self, guard: &Guard<'_>) {
        self.tidy(self.log().trim(guard), guard);
    }

    /// Tidies up after commits that the log has passed.
    pub(super) fn tidy(&self, passed: Passed<'_, Footprint>, guard: &Guard<'_>) {
        if passed.len() == 0 {
            return;
        }
        // The user's `Ord`, when records leave: a panic must not look like one of the commit.
        let tidied = catch_unwind(AssertUnwindSafe(|| self.tidy_records(passed, guard)));
        if tidied.is_err() {
            tracing::error!("a key panicked when it was compared to leave memory");
        }
    }

    fn tidy_records(&self, passed: Passed<'_, Footprint>, guard: &Guard<'_>) {
        let needed = self.log().needed(guard);
        let horizons = self.horizons(&needed);
        let commits = passed.len();
        let writes = passed.flat_map(Footprint::writes).copied();
        let mut writes = writes.filter(|write| write.leaves_something());
        loop {
            let batch: SmallVec<[WriteRef; 16]> = writes.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            self.count_gone(self.tidy_batch(&batch, horizons, guard));
        }
        self.count_gone(self.retry(commits * RETRIES, horizons, guard));
    }

    fn count_gone(&self, versions: usize) {
        self.counters().add(Count::VersionsRetained, (versions as u64).wrapping_neg());
    }

    fn tidy_batch(&self, writes: &[WriteRef], horizons: Horizons<'_>, guard: &Guard<'_>) -> usize {
        let addresses = writes.iter().map(|write| write.record.addr().get());
        let mut clearing = Clearing::of(addresses.collect());
        let mut versions = 0;
        for write in writes {
            let table = self.catalog().tables().get(write.bucket);
            // A dropped table is emptied whatever the log still names.
            if !table.is_dropped() {
                versions += tidy(*write, table, &mut clearing, horizons, guard);
            }
        }
        versions
    }

    /// Looks again at what was kept for snapshots in one bucket; the clock says in which.
    fn retry(&self, limit: usize, horizons: Horizons<'_>, guard: &Guard<'_>) -> usize {
        let tables = self.catalog().tables();
        let turn = horizons.passed.get() / TURN;
        let at = usize::try_from(turn).unwrap_or(0) % tables.len().max(1);
        tables.at(at).map_or(0, |table| table.retry(horizons, limit, guard))
    }

    /// What may leave, as it was found out last.
    fn horizons<'n>(&self, needed: &'n Needed) -> Horizons<'n> {
        let (any, passed) = (self.horizon(), self.log().passed());
        Horizons { any, passed, departed: self.burial().allowed(), needed }
    }

    /// What may leave now.
    pub(super) fn horizons_anew<'n>(&self, needed: &'n Needed, guard: &Guard<'_>) -> Horizons<'n> {
        let horizons = self.horizons(needed);
        let last_behind = || self.log().last_behind(guard);
        let departed = self.burial().advance(horizons.passed, last_behind);
        Horizons { departed, ..horizons }
    }
}

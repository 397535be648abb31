//! How many commits were refused, and why.
//!
//! 1. Counters only grow. They are read for statistics and decide nothing.
//!
//! Written by `certify`.

use super::footprint::Refusal;
use crate::sync::{AtomicU64, Ordering};

/// One counter for each kind of refusal, and one for suspects that were let through.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    overwritten: Counter,
    cycles: Counter,
    read_only_pivots: Counter,
    windows_lost: Counter,
    search_budgets: Counter,
    locked: Counter,
    rescued: Counter,
}

#[derive(Debug)]
struct Counter(AtomicU64);

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Counter {
    fn add(&self) {
        // Relaxed: a statistic orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: a statistic orders nothing.
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) overwritten: u64,
    pub(crate) cycles: u64,
    pub(crate) read_only_pivots: u64,
    pub(crate) windows_lost: u64,
    pub(crate) search_budgets: u64,
    pub(crate) locked: u64,
    /// Commits that had a read overwritten and closed no cycle.
    pub(crate) rescued: u64,
}

impl Tally {
    pub(super) fn count(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Overwritten { .. } => self.overwritten.add(),
            Refusal::Cycle(_) => self.cycles.add(),
            Refusal::ReadOnlyPivot { .. } => self.read_only_pivots.add(),
            Refusal::WindowLost => self.windows_lost.add(),
            Refusal::SearchBudget => self.search_budgets.add(),
            Refusal::Locked { .. } => self.locked.add(),
        }
    }

    pub(super) fn count_rescue(&self) {
        self.rescued.add();
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            overwritten: self.overwritten.get(),
            cycles: self.cycles.get(),
            read_only_pivots: self.read_only_pivots.get(),
            windows_lost: self.windows_lost.get(),
            search_budgets: self.search_budgets.get(),
            locked: self.locked.get(),
            rescued: self.rescued.get(),
        }
    }
}

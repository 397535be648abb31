//! What happened so far, counted without a shared cache line.
//!
//! 1. A count is never lost; the sum of the shards may miss what happens while it is taken.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, thread_shard};

const SHARDS: usize = 8;

/// Counters of one database, spread over threads.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: [CachePadded<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard([AtomicU64; Count::ALL]);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Count {
    Commits,
    Rollbacks,
    Retries,
    /// Commits that lost a key to an earlier one. What certification refuses, the log counts.
    WriteConflicts,
    /// Versions superseded less versions pruned; wraps.
    VersionsRetained,
    /// Entries that left by themselves, and values that left memory.
    Departures,
    /// Values that were brought back into memory.
    Fetches,
}

impl Count {
    const ALL: usize = Self::Fetches as usize + 1;
}

impl Counters {
    pub(crate) fn new() -> Self {
        let shard = || CachePadded::new(Shard([const { AtomicU64::new(0) }; Count::ALL]));
        Self { shards: std::array::from_fn(|_| shard()) }
    }

    pub(crate) fn add(&self, count: Count, amount: u64) {
        if amount == 0 {
            return;
        }
        let shard = self.shards.get(thread_shard() % SHARDS);
        if let Some(counter) = shard.and_then(|shard| shard.0.get(count as usize)) {
            // Relaxed: a statistic orders nothing.
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        let of = |shard: &Shard| {
            // Relaxed: as in `add`.
            shard.0.get(count as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(of(shard)))
    }
}

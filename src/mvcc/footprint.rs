//! What one transaction read and wrote, frozen for the conflict graph.
//!
//! ```text
//! reads      addresses of the records it read from            sorted
//! intervals  ranges it scanned, keys it found absent          per bucket
//! locks      the same for what it read in order to write: addresses, and absent keys
//! writes     records it put a version on                      sorted by address
//! signatures one bit per address, to tell most pairs apart at a glance
//! ```
//!
//! 1. A record's address stands for its key: a record that a registered transaction reads or
//!    writes stays where it is until that transaction ends, and the graph compares only
//!    transactions that ran at the same time as one that is still registered. If a removed key
//!    gets a new record meanwhile, the removal, which has the old address, lies between its readers
//!    and its next writer; an entry that leaves by itself is removed by no transaction, so there
//!    the record stays as long as two may be compared (see `txn::burial`).
//! 2. The records in `writes` are live while the node is retained: their newest version is at
//!    least as new as the node, and so newer than the horizon below which records die.
//!
//! Built by the commit pipeline, tested by the conflict graph through [`ssi::Footprint`].

use std::ptr::NonNull;

use smallvec::SmallVec;

use crate::id::BucketId;
use crate::mvcc::interval::AnyIntervals;
use crate::ssi;

/// A record that a transaction wrote, with its types forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteRef {
    /// The address of the record; first, so that it decides the order.
    pub(crate) record: NonNull<()>,
    pub(crate) bucket: BucketId,
    /// Which of the transaction's writes in the bucket this is.
    pub(crate) index: u32,
}

// SAFETY: the pointer is an identity; who follows it promises that the record is live, and
// records may be shared between threads.
unsafe impl Send for WriteRef {}
// SAFETY: as above.
unsafe impl Sync for WriteRef {}

/// Addresses of records: few in most transactions, and then without memory of their own.
pub(crate) type Addresses = SmallVec<[usize; 8]>;

/// The writes of a transaction, likewise.
pub(crate) type Writes = SmallVec<[WriteRef; 4]>;

/// The intervals of each bucket that has some.
pub(crate) type Intervals = Vec<(BucketId, Box<dyn AnyIntervals>)>;

/// The frozen read and write sets of a transaction.
#[derive(Default)]
pub(crate) struct Footprint {
    reads: Addresses,
    writes: Writes,
    intervals: Intervals,
    locks: Addresses,
    locked_intervals: Intervals,
    read_signature: Signature,
    write_signature: Signature,
}

/// One bit per address. Two sets with disjoint signatures are disjoint.
#[derive(Clone, Copy, Debug, Default)]
struct Signature(u64);

impl Signature {
    fn of(addresses: impl Iterator<Item = usize>) -> Self {
        Self(addresses.fold(0, |bits, address| {
            // Fibonacci hashing: the top six bits of the product depend on all of the address.
            bits | 1 << ((address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58)
        }))
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Footprint {
    pub(crate) fn new(
        mut reads: Addresses,
        intervals: Intervals,
        mut locks: Addresses,
        locked_intervals: Intervals,
        mut writes: Writes,
    ) -> Self {
        reads.sort_unstable();
        reads.dedup();
        locks.sort_unstable();
        locks.dedup();
        writes.sort_unstable();
        // An unsound `Ord` may write one record twice; the later write counts.
        writes.reverse();
        writes.dedup_by_key(|write| write.record);
        writes.reverse();
        let read_signature = Signature::of(reads.iter().copied());
        let write_signature = Signature::of(writes.iter().map(|w| w.record.addr().get()));
        Self { reads, writes, intervals, locks, locked_intervals, read_signature, write_signature }
    }

    /// The writes, in the order in which their heads are taken.
    pub(crate) fn writes(&self) -> &[WriteRef] {
        &self.writes
    }

    /// Replaces a write whose record left the index by one to the record that took its place.
    pub(crate) fn move_write(&mut self, from: WriteRef, to: WriteRef) {
        for write in self.writes.iter_mut().filter(|write| **write == from) {
            *write = to;
        }
        self.writes.sort_unstable();
        self.write_signature = Signature::of(self.writes.iter().map(|w| w.record.addr().get()));
    }

    /// One record that `self` read and `writer` wrote, as evidence of their conflict.
    pub(crate) fn overlap(&self, writer: &Self) -> Option<WriteRef> {
        let by_point = || {
            writer.writes.iter().find(|w| self.reads.binary_search(&w.record.addr().get()).is_ok())
        };
        by_point().or_else(|| writer.writes.iter().find(|w| cover(&self.intervals, w))).copied()
    }

    fn points_meet(&self, writer: &Self) -> bool {
        if !self.read_signature.meets(writer.write_signature) {
            return false;
        }
        if self.reads.len() < writer.writes.len() {
            let position =
                |read: &usize| writer.writes.binary_search_by_key(read, |w| w.record.addr().get());
            return self.reads.iter().any(|read| position(read).is_ok());
        }
        writer.writes.iter().any(|w| self.reads.binary_search(&w.record.addr().get()).is_ok())
    }
}

/// Whether one of the intervals holds the key of a write of a retained footprint.
fn cover(intervals: &Intervals, write: &WriteRef) -> bool {
    intervals.iter().any(|(bucket, intervals)| {
        // SAFETY: the record belongs to the bucket named beside it, whose intervals these are,
        // and is live while the writer's node is retained (2).
        *bucket == write.bucket && unsafe { intervals.contains_key_of(write.record) }
    })
}

impl ssi::Footprint for Footprint {
    fn reads_meet_writes(&self, writer: &Self) -> bool {
        self.points_meet(writer)
            || (!self.intervals.is_empty()
                && writer.writes.iter().any(|w| cover(&self.intervals, w)))
    }

    fn has_reads(&self) -> bool {
        !self.reads.is_empty() || !self.intervals.is_empty()
    }

    fn has_locks(&self) -> bool {
        !self.locks.is_empty() || !self.locked_intervals.is_empty()
    }

    fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    fn locks_meet_writes(&self, writer: &Self) -> bool {
        let is_taken = |lock| {
            writer.locks.binary_search(lock).is_ok()
                || writer.writes.binary_search_by_key(lock, |w| w.record.addr().get()).is_ok()
        };
        self.locks.iter().any(is_taken)
            || (!self.locked_intervals.is_empty()
                && writer.writes.iter().any(|w| cover(&self.locked_intervals, w)))
    }

    fn bytes(&self) -> usize {
        let intervals = self.intervals.iter().chain(&self.locked_intervals);
        let intervals: usize = intervals.map(|(_, set)| set.len() * 64).sum();
        let spilled = |spilled: bool, bytes: usize| if spilled { bytes } else { 0 };
        spilled(self.reads.spilled(), self.reads.capacity() * size_of::<usize>())
            + spilled(self.locks.spilled(), self.locks.capacity() * size_of::<usize>())
            + spilled(self.writes.spilled(), self.writes.capacity() * size_of::<WriteRef>())
            + intervals
    }
}

impl std::fmt::Debug for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footprint")
            .field("reads", &self.reads.len())
            .field("intervals", &self.intervals.len())
            .field("locks", &self.locks.len())
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

//! What one transaction read and wrote, frozen for the conflict graph.
//!
//! ```text
//! reads      addresses of the records it read from            sorted
//! writes     records it put a version on                      sorted by address
//! rare       intervals: ranges it scanned, keys it found absent, per bucket
//!            locks: the same for what it read in order to write: addresses, and absent keys
//! ```
//!
//! Most transactions are small, and every commit writes one of these where no cache has it: so a
//! small one is small, and what most do without is in a box.
//!
//! 1. A record's address stands for its key: a record that a registered transaction reads or
//!    writes stays where it is until that transaction ends, and the graph compares only
//!    transactions that ran at the same time as one that is still registered and may commit. If a
//!    removed key gets a new record meanwhile, the removal, which has the old address, lies between
//!    its readers and its next writer; an entry that leaves by itself is removed by no transaction,
//!    so there the record stays as long as two may be compared (see `txn::burial`).
//! 2. The records in `writes` are live while the node is retained: their newest version is at
//!    least as new as the node, and records die only up to where the log has passed its nodes.
//! 3. So whoever passes a node, with a guard made before, may follow them once more, unless their
//!    table has been dropped. (A pin that was there before a record could die keeps its memory.)
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
    /// Which of the transaction's writes in the bucket this is; the highest bit says whether it
    /// leaves something behind.
    place: u32,
}

impl WriteRef {
    const LEAVES: u32 = 1 << 31;

    /// The write at `index` of the transaction's writes in the bucket.
    pub(crate) fn new(record: NonNull<()>, bucket: BucketId, index: usize) -> Self {
        let place = u32::try_from(index).ok().filter(|place| place & Self::LEAVES == 0);
        let place = place.expect("a transaction has fewer than 2^31 writes in a bucket");
        Self { record, bucket, place }
    }

    /// Which of the transaction's writes in the bucket this is.
    pub(crate) fn index(self) -> usize {
        (self.place & !Self::LEAVES) as usize
    }

    /// The same, but somebody is to tidy up after it.
    pub(crate) fn leaving(self) -> Self {
        Self { place: self.place | Self::LEAVES, ..self }
    }

    /// Whether somebody is to tidy up after it, once nobody needs what it overwrote.
    pub(crate) fn leaves_something(self) -> bool {
        self.place & Self::LEAVES != 0
    }
}

// SAFETY: the pointer is an identity; who follows it promises that the record is live, and
// records may be shared between threads.
unsafe impl Send for WriteRef {}
// SAFETY: as above.
unsafe impl Sync for WriteRef {}

/// Addresses of records: few in most transactions, and then without memory of their own.
pub(crate) type Addresses = SmallVec<[usize; 5]>;

/// The writes of a transaction, likewise.
type Writes = SmallVec<[WriteRef; 3]>;

/// The intervals of each bucket that has some.
type Intervals = Vec<(BucketId, Box<dyn AnyIntervals>)>;

/// About what the record of a removed key takes until it leaves the index.
const REMOVED: usize = 128;

/// The frozen read and write sets of a transaction.
#[derive(Default)]
pub(crate) struct Footprint {
    reads: Addresses,
    writes: Writes,
    rare: Option<Box<Rare>>,
}

// With its node's 72 bytes a footprint fills three cache lines.
const _: () = assert!(size_of::<Option<Footprint>>() <= 3 * 64 - 72);

/// What was read without an address, and what was locked.
#[derive(Default)]
struct Rare {
    intervals: Intervals,
    locks: Addresses,
    locked_intervals: Intervals,
    /// Bytes of the records of entries that leave with this commit.
    departed: usize,
}

impl Footprint {
    /// What has an address: records that were read, and those that were locked. The rest is added,
    /// bucket by bucket, and then all of it is frozen.
    pub(crate) fn of_addresses(reads: Addresses, locks: Addresses) -> Self {
        let rare = (!locks.is_empty()).then(|| Box::new(Rare { locks, ..Rare::default() }));
        Self { reads, writes: Writes::new(), rare }
    }

    pub(crate) fn add_write(&mut self, write: WriteRef) {
        self.writes.push(write);
    }

    /// Adds what was read in a bucket without an address, and what was locked.
    pub(crate) fn add_intervals(
        &mut self,
        bucket: BucketId,
        read: Option<Box<dyn AnyIntervals>>,
        locked: Option<Box<dyn AnyIntervals>>,
    ) {
        if read.is_none() && locked.is_none() {
            return;
        }
        let rare = self.rare.get_or_insert_default();
        rare.intervals.extend(read.map(|read| (bucket, read)));
        rare.locked_intervals.extend(locked.map(|locked| (bucket, locked)));
    }

    /// Puts everything into its order. Nothing is added behind this.
    pub(crate) fn freeze(&mut self) {
        sort(&mut self.reads);
        if let Some(rare) = &mut self.rare {
            sort(&mut rare.locks);
        }
        if self.writes.len() > 1 {
            self.writes.sort_unstable();
            // An unsound `Ord` may write one record twice; the later write counts.
            self.writes.reverse();
            self.writes.dedup_by_key(|write| write.record);
            self.writes.reverse();
        }
    }

    /// The writes, in the order in which their heads are taken.
    pub(crate) fn writes(&self) -> &[WriteRef] {
        &self.writes
    }

    /// Notes that the write at `at` leaves something behind. Before the node is linked.
    pub(crate) fn note_leaving(&mut self, at: usize) {
        if let Some(write) = self.writes.get_mut(at) {
            *write = write.leaving();
        }
    }

    /// Notes bytes of records that depart. Before the node is linked.
    pub(crate) fn note_departed(&mut self, bytes: usize) {
        if bytes > 0 {
            self.rare.get_or_insert_default().departed += bytes;
        }
    }

    /// Replaces a write whose record left the index by one to the record that took its place.
    pub(crate) fn move_write(&mut self, from: WriteRef, to: WriteRef) {
        for write in self.writes.iter_mut().filter(|write| **write == from) {
            *write = to;
        }
        self.writes.sort_unstable();
    }

    /// One record that `self` read and `writer` wrote, as evidence of their conflict.
    pub(crate) fn overlap(&self, writer: &Self) -> Option<WriteRef> {
        let by_point = || {
            writer.writes.iter().find(|w| self.reads.binary_search(&w.record.addr().get()).is_ok())
        };
        by_point().or_else(|| writer.writes.iter().find(|w| cover(self.intervals(), w))).copied()
    }

    fn intervals(&self) -> &[(BucketId, Box<dyn AnyIntervals>)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.intervals)
    }

    fn points_meet(&self, writer: &Self) -> bool {
        if self.reads.len() < writer.writes.len() {
            let position =
                |read: &usize| writer.writes.binary_search_by_key(read, |w| w.record.addr().get());
            return self.reads.iter().any(|read| position(read).is_ok());
        }
        writer.writes.iter().any(|w| self.reads.binary_search(&w.record.addr().get()).is_ok())
    }
}

fn sort(addresses: &mut Addresses) {
    addresses.sort_unstable();
    addresses.dedup();
}

/// Whether one of the intervals holds the key of a write of a retained footprint.
fn cover(intervals: &[(BucketId, Box<dyn AnyIntervals>)], write: &WriteRef) -> bool {
    intervals.iter().any(|(bucket, intervals)| {
        // SAFETY: the record belongs to the bucket named beside it, whose intervals these are,
        // and is live while the writer's node is retained (2).
        *bucket == write.bucket && unsafe { intervals.contains_key_of(write.record) }
    })
}

impl ssi::Footprint for Footprint {
    fn reads_meet_writes(&self, writer: &Self) -> bool {
        let intervals = self.intervals();
        self.points_meet(writer)
            || (!intervals.is_empty() && writer.writes.iter().any(|w| cover(intervals, w)))
    }

    fn has_reads(&self) -> bool {
        !self.reads.is_empty() || !self.intervals().is_empty()
    }

    fn has_locks(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| !rare.locks.is_empty() || !rare.locked_intervals.is_empty())
    }

    fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    fn locks_meet_writes(&self, writer: &Self) -> bool {
        let Some(rare) = &self.rare else { return false };
        let is_taken = |lock| {
            let locked = writer.rare.as_ref().map(|rare| &rare.locks);
            locked.is_some_and(|locks| locks.binary_search(lock).is_ok())
                || writer.writes.binary_search_by_key(lock, |w| w.record.addr().get()).is_ok()
        };
        rare.locks.iter().any(is_taken)
            || (!rare.locked_intervals.is_empty()
                && writer.writes.iter().any(|w| cover(&rare.locked_intervals, w)))
    }

    fn bytes(&self) -> usize {
        let spilled = |spilled: bool, bytes: usize| if spilled { bytes } else { 0 };
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let intervals = rare.intervals.iter().chain(&rare.locked_intervals);
            let intervals: usize = intervals.map(|(_, set)| set.len() * 64).sum();
            let locks = rare.locks.capacity() * size_of::<usize>();
            size_of::<Rare>() + spilled(rare.locks.spilled(), locks) + intervals
        });
        spilled(self.reads.spilled(), self.reads.capacity() * size_of::<usize>())
            + spilled(self.writes.spilled(), self.writes.capacity() * size_of::<WriteRef>())
            + rare
    }

    fn held_up(&self) -> usize {
        let leaving = self.writes.iter().filter(|write| write.leaves_something()).count();
        self.rare.as_ref().map_or(0, |rare| rare.departed) + leaving * REMOVED
    }
}

impl std::fmt::Debug for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footprint")
            .field("reads", &self.reads.len())
            .field("intervals", &self.intervals().len())
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

//! Fingerprints of keys whose entries left, so that a key that comes back is known again.
//!
//! ```text
//! buckets   [unit 14 | fingerprint 18] x 16; in a full one the oldest is overwritten
//! units     [3 ghosts, 310 bytes] [4, 402] [1, 99]     a unit: a stretch of time in which about
//!            ^ tail                         ^ head     1/256 of the limit became ghosts
//! ```
//!
//! A ghost takes no node of a list: its age is the unit in which it came, and moving the tail past
//! a unit forgets all of it at once.
//!
//! 1. A ghost is alive if its unit lies between tail and head.
//! 2. `count` and `bytes` are the sums over the units. They may exceed what the buckets hold by
//!    ghosts that were overwritten, until the tail passes.
//!
//! A strange key is taken for a ghost about once in thirty thousand times.

use super::resident::mix;
use crate::epoch::prefetch::prefetch;
use crate::slab::roomy;
use std::collections::VecDeque;

/// Ghosts in a bucket: a cache line of them.
const BUCKET: usize = 16;
const BUCKETS_MIN: usize = 4;
/// The part of all places that may be taken before there must be more.
const FULL: (usize, usize) = (5, 8);
/// The bits of a ghost that hold the fingerprint.
const PRINT: u32 = (1 << 18) - 1;
/// The names of units, which count in a circle.
const NAMES: u32 = 1 << 14;
/// Into so many units is the limit cut.
const UNITS: u64 = 256;
/// Units at most, where most of their ghosts came back.
const UNITS_MAX: usize = 1024;

/// Aligned, so that it is one line and not a part of two.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([u32; BUCKET]);

#[derive(Debug, Default)]
struct Unit {
    count: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ghosts {
    buckets: Vec<Bucket>,
    units: VecDeque<Unit>,
    /// The name of the oldest unit.
    tail: u32,
    /// Bytes that came in the newest unit, some of which may have left.
    came: u64,
    count: u64,
    bytes: u64,
}

impl Ghosts {
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Bytes of the entries that are remembered.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that remembering takes.
    pub(super) fn overhead(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>() + self.units.capacity() * size_of::<Unit>()
    }

    /// Remembers a key, and forgets the oldest so that entries of no more than `limit` bytes are
    /// remembered. `entries` is how many there are of those that are not ghosts.
    pub(super) fn insert(&mut self, hash: u64, weight: u64, limit: u64, entries: usize) {
        if self.units.is_empty() || self.came >= limit / UNITS {
            let is_empty = |unit: &Unit| unit.count == 0;
            while self.units.len() >= UNITS_MAX || self.units.front().is_some_and(is_empty) {
                self.forget_unit();
            }
            self.units.push_back(Unit::default());
            self.came = 0;
        }
        self.fit(entries);
        if let Some(newest) = self.units.back_mut() {
            newest.count += 1;
            newest.bytes += weight;
        }
        self.came += weight;
        self.count += 1;
        self.bytes += weight;
        self.place(hash);
        self.trim(limit);
    }

    /// Asks for the bucket of a key to be brought near.
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.address(hash).0) {
            prefetch(bucket);
        }
    }

    fn place(&mut self, hash: u64) {
        let (at, print) = self.address(hash);
        let (tail, units) = (self.tail, self.units.len());
        let Some(Bucket(bucket)) = self.buckets.get_mut(at) else { return };
        // The dead are cleared away, before their units' names come again.
        bucket.iter_mut().filter(|ghost| age(**ghost, tail) >= units).for_each(|ghost| *ghost = 0);
        let free_or_oldest = |ghost: &&mut u32| (**ghost != 0).then(|| age(**ghost, tail));
        if let Some(place) = bucket.iter_mut().min_by_key(free_or_oldest) {
            let newest = u32::try_from(units - 1).expect("units are few");
            *place = ((tail + newest) % NAMES) << PRINT.count_ones() | print;
        }
    }

    /// Takes a ghost out of the sums. False if it was dead.
    fn take_off(&mut self, ghost: u32, weight: u64) -> bool {
        let Some(unit) = self.units.get_mut(age(ghost, self.tail)) else { return false };
        let (count, weight) = (1.min(unit.count), weight.min(unit.bytes));
        unit.count -= count;
        unit.bytes -= weight;
        self.count -= count;
        self.bytes -= weight;
        true
    }

    /// Forgets a key. True if it was remembered.
    pub(super) fn remove(&mut self, hash: u64, weight: u64) -> bool {
        let (at, print) = self.address(hash);
        let (tail, units) = (self.tail, self.units.len());
        let Some(Bucket(bucket)) = self.buckets.get_mut(at) else { return false };
        let is_it = |ghost: &&mut u32| **ghost & PRINT == print && age(**ghost, tail) < units;
        let found = bucket.iter_mut().find(is_it).map(std::mem::take);
        found.is_some_and(|ghost| self.take_off(ghost, weight))
    }

    /// Forgets the oldest, so that entries of no more than `limit` bytes are remembered.
    pub(super) fn trim(&mut self, limit: u64) {
        while self.bytes > limit && !self.units.is_empty() {
            self.forget_unit();
        }
    }

    fn forget_unit(&mut self) {
        if let Some(unit) = self.units.pop_front() {
            self.count -= unit.count;
            self.bytes -= unit.bytes;
            self.tail = (self.tail + 1) % NAMES;
        }
    }

    /// The bucket of a hash, and its fingerprint, which is not zero.
    fn address(&self, hash: u64) -> (usize, u32) {
        let hash = mix(hash);
        let bucket = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        let print = u32::try_from(hash & u64::from(PRINT)).expect("18 bits were kept").max(1);
        (usize::try_from(bucket).expect("is below the number of buckets"), print)
    }

    /// Makes room for one ghost more, at first for about as many as there are entries.
    fn fit(&mut self, entries: usize) {
        let places = (self.buckets.len() * BUCKET) as u64;
        let few = self.buckets.len() > BUCKETS_MIN && self.count * 128 < places;
        let shrunk = few && (entries as u64) * 16 < places;
        if self.buckets.is_empty() || shrunk {
            // A little more, so that as many ghosts as there are entries do not make it grow.
            let buckets = (entries * FULL.1).div_ceil(BUCKET * FULL.0);
            let buckets = (buckets + buckets / 16).max(BUCKETS_MIN);
            self.buckets = roomy(buckets);
            self.buckets.resize(buckets, Bucket::default());
        } else if self.count * FULL.1 as u64 > places * FULL.0 as u64 {
            // A bucket splits in two. Which half a ghost belongs to is no longer known, so it is in
            // both, and in one of them nobody asks for it.
            let mut split = roomy(self.buckets.len() * 2);
            split.extend(self.buckets.iter().flat_map(|bucket| [*bucket, *bucket]));
            self.buckets = split;
        }
    }
}

/// Units from the tail to the one in which a ghost came; as many as there are, or more, if it is
/// dead.
fn age(ghost: u32, tail: u32) -> usize {
    let ahead = (ghost >> PRINT.count_ones()).wrapping_sub(tail) % NAMES;
    usize::try_from(ahead).expect("14 bits fit")
}

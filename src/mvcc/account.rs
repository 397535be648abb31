//! Bytes: what the entries of a bucket take, counted as they come and go.
//!
//! ```text
//! a record enters the index   records +      a version is stamped      live +
//! a record leaves it          records -      it is superseded          live -  retained +
//! an entry departs            records -      it is cut off                     retained -
//!                             dead +
//! ```
//!
//! What is dead was evicted, and is there for a snapshot that sees it, or until nobody is compared
//! by it. It does not count for a limit: a cache does not refuse what it is asked to keep because
//! somebody's transaction takes its time.
//!
//! 1. What leaves is subtracted with the number it was added with: sizes depend on nothing that
//!    changes (see `weigh`). So when nothing runs the sums are what a walk would find, and zero
//!    when everything is gone.
//! 2. Counts are spread over threads; only a gauge, which exists where there is a limit, is one
//!    number for all.
//! 3. A gauge shows what is there and what is reserved. Whoever reserved gives back what it
//!    reserved after it has counted what came of it, so a gauge never shows less than there is.
//!
//! Counted by write sets, sweeps and loading; read by statistics and by whoever enforces limits.

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicU64, Ordering, thread_shard};

const SHARDS: usize = 4;

/// The part of the limit of a durable database, or bucket, that is set aside for what is not
/// counted: mapped segments of the log, indexes of files, buffers, and what was let go and not
/// freed yet; and for what it takes to let values leave that stay for readers.
pub(crate) const SET_ASIDE: u64 = 16;

/// A change in what a bucket takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) records: i64,
    pub(crate) live: i64,
    pub(crate) retained: i64,
    pub(crate) dead: i64,
}

impl Delta {
    /// What went, if nothing came.
    pub(crate) fn gone(self) -> usize {
        usize::try_from(-(self.limited() + self.dead)).unwrap_or(0)
    }

    /// The part that counts for a limit.
    fn limited(self) -> i64 {
        self.records + self.live + self.retained
    }

    /// An entry departs: its record and the tombstone are dead, its version is superseded.
    pub(crate) fn depart(&mut self, record: usize, tombstone: usize, version: usize) {
        self.records -= signed(record);
        self.dead += signed(record + tombstone);
        self.supersede(version);
    }

    /// A key that had departed is written again: the tombstone is superseded.
    pub(crate) fn come_back(&mut self, record: usize, tombstone: usize) {
        self.records += signed(record);
        self.dead -= signed(record + tombstone);
        self.retained += signed(tombstone);
    }

    /// A version that was the newest is not any more.
    pub(crate) fn supersede(&mut self, bytes: usize) {
        self.live -= signed(bytes);
        self.retained += signed(bytes);
    }
}

/// A number of bytes, to add and subtract.
pub(crate) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("memory is far smaller than 2^63 bytes")
}

impl std::ops::AddAssign for Delta {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.live += other.live;
        self.retained += other.retained;
        self.dead += other.dead;
    }
}

/// What entries take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// Keys, records and their part of the index.
    pub(crate) records: u64,
    /// The newest versions.
    pub(crate) live: u64,
    /// Older versions that a snapshot needs, or that nobody has cut off yet.
    pub(crate) retained: u64,
    /// What departed and waits for a sweep.
    pub(crate) dead: u64,
}

impl Bytes {
    pub(crate) fn total(self) -> u64 {
        self.records + self.live + self.retained + self.dead
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            records: sum.records + one.records,
            live: sum.live + one.live,
            retained: sum.retained + one.retained,
            dead: sum.dead + one.dead,
        })
    }
}

/// Counts that wrap: a shard by itself may be negative.
#[derive(Debug)]
struct Shard {
    records: AtomicU64,
    live: AtomicU64,
    retained: AtomicU64,
    dead: AtomicU64,
}

impl Shard {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { records: zero(), live: zero(), retained: zero(), dead: zero() }
    }
}

fn add(counter: &AtomicU64, amount: i64) {
    if amount != 0 {
        // Relaxed: a count orders nothing.
        counter.fetch_add(amount.cast_unsigned(), Ordering::Relaxed);
    }
}

/// What one bucket takes.
#[derive(Debug)]
pub(crate) struct Account {
    shards: [CachePadded<Shard>; SHARDS],
    gauges: Box<[Arc<Gauge>]>,
}

impl Account {
    /// An account that the gauges of the bucket and of the database follow, if there are any.
    pub(crate) fn new(gauges: impl IntoIterator<Item = Arc<Gauge>>) -> Self {
        Self {
            shards: std::array::from_fn(|_| CachePadded::new(Shard::new())),
            gauges: gauges.into_iter().collect(),
        }
    }

    pub(crate) fn add(&self, delta: Delta) {
        let Some(shard) = self.shards.get(thread_shard() % SHARDS) else { return };
        add(&shard.records, delta.records);
        add(&shard.live, delta.live);
        add(&shard.retained, delta.retained);
        add(&shard.dead, delta.dead);
        for gauge in &self.gauges {
            add(&gauge.used, delta.limited());
        }
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let sum = |pick: fn(&Shard) -> &AtomicU64| {
            // Relaxed: as in `add`.
            let of = |shard: &CachePadded<Shard>| pick(shard).load(Ordering::Relaxed);
            let sum = self.shards.iter().map(of).fold(0_u64, u64::wrapping_add);
            // While others count, one shard may be read before and one after a move.
            sum.cast_signed().max(0).cast_unsigned()
        };
        Bytes {
            records: sum(|shard| &shard.records),
            live: sum(|shard| &shard.live),
            retained: sum(|shard| &shard.retained),
            dead: sum(|shard| &shard.dead),
        }
    }

    /// The limits that count these bytes.
    pub(crate) fn gauges(&self) -> &[Arc<Gauge>] {
        &self.gauges
    }
}

/// A limit, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Gauge {
    used: CachePadded<AtomicU64>,
    limit: u64,
}

/// A limit does not leave room for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// Bytes in use, reservations of others included.
    pub(crate) used: u64,
}

impl Gauge {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: CachePadded::new(AtomicU64::new(0)), limit }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use and reserved.
    pub(crate) fn used(&self) -> u64 {
        // Relaxed: a number that others change all the time.
        self.used.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    /// Reserves room for what is about to be counted, until it is given back (3).
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved, Full> {
        // Relaxed: one number, and whoever adds to it sees what it was.
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved { gauge: Arc::clone(self), bytes };
        // Dropping the reservation takes it back.
        if used.saturating_add(bytes) <= self.limit { Ok(reserved) } else { Err(Full { used }) }
    }

    /// Reserves without asking, for what must always be possible.
    pub(crate) fn reserve_anyway(self: &Arc<Self>, bytes: u64) -> Reserved {
        // Relaxed: as in `reserve`.
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reserved { gauge: Arc::clone(self), bytes }
    }
}

/// Room that was reserved, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub(crate) struct Reserved {
    gauge: Arc<Gauge>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Relaxed: as in `Gauge::reserve`.
        self.gauge.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_adds_up_over_threads_and_its_gauge_follows() {
        let gauge = Arc::new(Gauge::new(1000));
        let account = Account::new([Arc::clone(&gauge)]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        account.add(Delta { records: 5, live: 3, ..Delta::default() });
                        let mut delta = Delta::default();
                        delta.supersede(3);
                        account.add(delta);
                        account.add(Delta { records: -4, retained: -3, ..Delta::default() });
                    }
                });
            }
        });
        assert_eq!(account.bytes(), Bytes { records: 400, ..Bytes::default() });
        assert_eq!(gauge.used(), 400);
    }

    #[test]
    fn reservation_fits_to_the_last_byte_and_comes_back() {
        let gauge = Arc::new(Gauge::new(100));
        let most = gauge.reserve(100).unwrap();
        assert_eq!(gauge.reserve(1).unwrap_err(), Full { used: 100 });
        let more = gauge.reserve_anyway(7);
        assert_eq!(gauge.used(), 107);
        drop((most, more));
        assert_eq!(gauge.used(), 0);
        assert!(gauge.reserve(101).is_err());
        assert_eq!(gauge.used(), 0, "what was refused is not reserved");
    }
}

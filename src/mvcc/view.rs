//! A registered snapshot, and reading through it.
//!
//! ```text
//! a slot in the registry  ──borrowed by──►  ReadView  ──get, scan──►  &K, &V
//! keeps versions from the prune             pins per call             live as long as the view
//! ```
//!
//! 1. While a registration lives, no version that its snapshot sees is cut off its chain, and no
//!    record that holds one dies: the horizon never passes a registered snapshot.
//! 2. A [`ReadView`] borrows a registration, so what is read through it stays for its lifetime
//!    even after the pin of the read itself has ended.
//! 3. A value that is in the files only is read while nothing is pinned. To be lent for the view's
//!    lifetime it goes into its chain, where it counts; see `exchange`.
//!
//! Called by transactions and snapshots.

use std::borrow::Borrow;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::epoch::{Collector, Guard, Participant};
use crate::id::{BucketId, Timestamp};
use crate::mvcc::account::Reserved;
use crate::mvcc::expiry::Expired;
use crate::mvcc::footprint::Footprint;
use crate::mvcc::place::{FetchError, Place};
use crate::mvcc::record::Record;
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::slab::Boxed;
use crate::ssi::{Entry, Registration};

#[derive(Clone, Copy)]
enum Pinner<'v> {
    Collector(&'v Collector),
    Participant(&'v Participant<'v>),
}

/// A snapshot to read through.
#[derive(Clone, Copy)]
pub(crate) struct ReadView<'v> {
    snapshot: Timestamp,
    pinner: Pinner<'v>,
    headroom: &'v dyn Headroom,
    /// What has expired in the table that is read, if its entries do.
    expired: Option<&'v Expired>,
}

/// Room for what is read back from the files.
pub(crate) trait Headroom: Sync {
    /// Reserves so many bytes wherever a bucket's are counted, and makes room if need be.
    fn reserve(&self, bucket: BucketId, bytes: u64) -> Result<Vec<Reserved>, FetchError>;
}

/// What is at a key.
pub(crate) enum Item<'v, V> {
    Value(&'v V),
    /// A value that is in the files only.
    Cold,
    /// A tombstone of the transaction's own.
    Removed,
}

impl<V> Clone for Item<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Item<'_, V> {}

/// A value that a snapshot sees, in memory or not.
pub(crate) struct Met<'v, K, V> {
    pub(crate) record: &'v Record<K, V>,
    /// If it is in memory.
    pub(crate) found: Option<Found<'v, V>>,
}

/// The same, in memory.
pub(crate) struct Found<'v, V> {
    pub(crate) version: &'v Version<V>,
    pub(crate) value: &'v V,
}

impl<'v> ReadView<'v> {
    /// The view of one table for a read-write transaction, which pins through its own participant.
    #[inline]
    pub(crate) fn of_transaction(
        registration: &'v Registration<Footprint>,
        participant: &'v Participant<'v>,
        headroom: &'v dyn Headroom,
        expired: Option<&'v Expired>,
    ) -> Self {
        let (snapshot, pinner) = (registration.snapshot(), Pinner::Participant(participant));
        Self { snapshot, pinner, headroom, expired }
    }

    /// The view of a read-only snapshot, which several threads may share.
    pub(crate) fn of_snapshot(
        entry: &'v Entry,
        collector: &'v Collector,
        headroom: &'v dyn Headroom,
    ) -> Self {
        let (snapshot, pinner) = (entry.snapshot(), Pinner::Collector(collector));
        Self { snapshot, pinner, headroom, expired: None }
    }

    /// The view of a table whose entries expire.
    pub(crate) fn expiring(self, expired: &'v Expired) -> Self {
        Self { expired: Some(expired), ..self }
    }

    #[inline]
    pub(crate) fn pin(&self) -> Guard<'v> {
        match self.pinner {
            Pinner::Collector(collector) => collector.pin(),
            Pinner::Participant(participant) => participant.pin(),
        }
    }

    /// A leaked box, made of memory that the participant has to spare.
    pub(crate) fn new_box<T>(&self, make: impl FnOnce() -> T) -> NonNull<T> {
        match self.pinner {
            Pinner::Collector(_) => Boxed::leak(Boxed::new(make())),
            Pinner::Participant(participant) => participant.new_box(make),
        }
    }

    /// Finds the value of one key. One index search, no lock, no wait; and a read from a file if
    /// the value is not in memory.
    #[inline]
    pub(crate) fn get<K, V, Q>(
        &self,
        table: &'v Table<K, V>,
        key: &Q,
    ) -> Result<Option<&'v V>, FetchError>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        match self.find(table, key) {
            None => Ok(None),
            Some(Met { found: Some(found), .. }) => Ok(Some(found.value)),
            Some(Met { record, found: None }) => {
                Ok(self.fetch(table, record)?.map(|found| found.value))
            }
        }
    }

    /// Finds the value of one key, and leaves it where it is. One index search, no lock, no wait.
    #[inline]
    pub(crate) fn find<K, V, Q>(&self, table: &'v Table<K, V>, key: &Q) -> Option<Met<'v, K, V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        let guard = self.pin();
        let record = table.index().get(key, &guard)?;
        let version = self.visible(record, &guard)?;
        let Some(value) = table.hit(version) else {
            let record = Self::keep(record, &guard);
            return version.is_cold().then_some(Met { record, found: None });
        };
        let found = Self::outlive(version, value, &guard);
        Some(Met { record: Self::keep(record, &guard), found: Some(found) })
    }

    /// Calls `read` with the value of one key, which stays where it is.
    pub(crate) fn lend<K, V, Q, R>(
        &self,
        table: &'v Table<K, V>,
        key: &Q,
        read: impl FnOnce(&V) -> R,
    ) -> Result<Option<R>, FetchError>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        loop {
            let Some(met) = self.find(table, key) else { return Ok(None) };
            if let Some(found) = met.found {
                return Ok(Some(read(found.value)));
            }
            // Not there any more if somebody has read it back meanwhile.
            if let Some(place) = self.place(met.record) {
                return Ok(Some(read(&table.read_back(&place)?)));
            }
        }
    }

    fn place<K: Key, V: Value>(&self, record: &Record<K, V>) -> Option<Place> {
        record.place_at(self.snapshot, &self.pin())
    }

    /// Where the value of a key is, or the value if it is in memory.
    pub(crate) fn locate<K: Key, V: Value>(
        &self,
        table: &'v Table<K, V>,
        key: &K,
    ) -> Option<Result<&'v V, Place>> {
        loop {
            let met = self.find::<K, V, K>(table, key)?;
            if let Some(found) = met.found {
                return Some(Ok(found.value));
            }
            if let Some(place) = self.place(met.record) {
                return Some(Err(place));
            }
        }
    }

    /// Brings a cold value back into memory, for as long as the policy of its bucket likes.
    #[cold]
    pub(super) fn fetch<K: Key, V: Value>(
        &self,
        table: &'v Table<K, V>,
        record: &'v Record<K, V>,
    ) -> Result<Option<Found<'v, V>>, FetchError> {
        let weigh = |version: &Version<V>| table.weigher().version(version);
        loop {
            if let Some(place) = self.place(record) {
                let value = table.read_back(&place)?;
                let bytes = table.weigher().boxed(Some(&value)) as u64;
                let reserved = self.headroom.reserve(table.id(), bytes)?;
                let guard = self.pin();
                match record.land(self.snapshot, value, table.has_keeper(), weigh, &guard) {
                    Ok(landed) => table.landed(record, landed),
                    Err(_came_back_meanwhile) => {}
                }
                drop(reserved);
            }
            let guard = self.pin();
            let Some(version) = record.visible_at(self.snapshot, &guard) else { return Ok(None) };
            if let Some(value) = version.value() {
                return Ok(Some(Self::outlive(version, value, &guard)));
            }
        }
    }

    /// Passes on up to `limit` visible entries of the range, in order of iteration. Answers whether
    /// the range is exhausted.
    pub(crate) fn scan<K, V>(
        &self,
        table: &'v Table<K, V>,
        bounds: (Bound<&K>, Bound<&K>),
        backward: bool,
        limit: usize,
        out: &mut Vec<(&'v K, Item<'v, V>)>,
    ) -> bool
    where
        K: Key,
        V: Value,
    {
        let guard = self.pin();
        let mut cursor = table.index().range::<K>(bounds, &guard);
        let mut missing = limit;
        out.reserve(limit);
        let take = |record: &Record<K, V>| {
            let Some(version) = self.visible(record, &guard) else { return true };
            if let Some(value) = version.value() {
                let found = Self::outlive(version, value, &guard);
                out.push((Self::keep(record, &guard).key(), Item::Value(found.value)));
                missing -= 1;
            } else if version.is_cold() {
                out.push((Self::keep(record, &guard).key(), Item::Cold));
                missing -= 1;
            }
            missing > 0
        };
        if backward { cursor.walk_back(take) } else { cursor.walk(take) }
    }

    /// The version that is read, unless it has expired.
    #[inline]
    fn visible<'g, K: Key, V: Value>(
        &self,
        record: &'g Record<K, V>,
        guard: &'g Guard<'_>,
    ) -> Option<&'g Version<V>> {
        let version = record.visible_at(self.snapshot, guard)?;
        let is_over = self.expired.is_some_and(|it| record.is_over(version, it, guard));
        (!is_over).then_some(version)
    }

    /// Turns a record that a pin protects, and of which the snapshot sees a version, into one that
    /// the registration protects.
    #[inline]
    fn keep<'g, K: Key, V: Value>(
        record: &'g Record<K, V>,
        _pinned: &'g Guard<'_>,
    ) -> &'v Record<K, V> {
        let record = &raw const *record;
        // SAFETY: the record holds a version that the registered snapshot sees, so it does not
        // die before the registration ends, which the view borrows (1, 2, kept by the horizon).
        unsafe { &*record }
    }

    /// The same for the version that the snapshot sees, and its value.
    #[inline]
    fn outlive<'g, V: Value>(
        version: &'g Version<V>,
        value: &'g V,
        _pinned: &'g Guard<'_>,
    ) -> Found<'v, V> {
        let (version, value) = (&raw const *version, &raw const *value);
        // SAFETY: as in `keep`; a version with a value in memory stays in the chain until it is cut
        // off, which it is not before the registration ends.
        let version = unsafe { &*version };
        // SAFETY: as above.
        let value = unsafe { &*value };
        Found { version, value }
    }
}

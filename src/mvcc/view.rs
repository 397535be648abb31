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
//!
//! Called by transactions and snapshots.

use std::borrow::Borrow;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::epoch::{Collector, Guard, Participant};
use crate::id::Timestamp;
use crate::mvcc::expiry::Expired;
use crate::mvcc::footprint::Footprint;
use crate::mvcc::record::Record;
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
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
    /// What has expired in the table that is read, if its entries do.
    expired: Option<Expired>,
}

/// A value that a snapshot sees.
pub(crate) struct Found<'v, K, V> {
    pub(crate) record: &'v Record<K, V>,
    pub(crate) version: &'v Version<V>,
    pub(crate) value: &'v V,
}

impl<'v> ReadView<'v> {
    /// The view of a read-write transaction, which pins through its own participant.
    pub(crate) fn of_transaction(
        registration: &'v Registration<Footprint>,
        participant: &'v Participant<'v>,
    ) -> Self {
        Self {
            snapshot: registration.snapshot(),
            pinner: Pinner::Participant(participant),
            expired: None,
        }
    }

    /// The view of a read-only snapshot, which several threads may share.
    pub(crate) fn of_snapshot(entry: &'v Entry, collector: &'v Collector) -> Self {
        Self { snapshot: entry.snapshot(), pinner: Pinner::Collector(collector), expired: None }
    }

    /// The view of a table whose entries expire.
    pub(crate) fn expiring(self, expired: Option<Expired>) -> Self {
        Self { expired, ..self }
    }

    #[inline]
    pub(crate) fn pin(&self) -> Guard<'v> {
        match self.pinner {
            Pinner::Collector(collector) => collector.pin(),
            Pinner::Participant(participant) => participant.pin(),
        }
    }

    /// A leaked box, made of memory that the participant has to spare.
    pub(crate) fn new_box<T>(&self, content: T) -> NonNull<T> {
        match self.pinner {
            Pinner::Collector(_) => NonNull::from(Box::leak(Box::new(content))),
            Pinner::Participant(participant) => participant.new_box(content),
        }
    }

    /// Finds the value of one key. One index search, no lock, no wait.
    #[inline]
    pub(crate) fn get<K, V, Q>(&self, table: &'v Table<K, V>, key: &Q) -> Option<Found<'v, K, V>>
    where
        K: Key + Borrow<Q>,
        V: Value,
        Q: Ord + ?Sized,
    {
        let guard = self.pin();
        let record = table.index().get(key, &guard)?;
        let version = self.visible(record, &guard)?;
        let value = table.hit(version)?;
        Some(Self::outlive(record, (version, value), &guard))
    }

    /// Appends up to `limit` visible entries of the range to `out`, in order of iteration.
    /// Answers whether the range is exhausted.
    pub(crate) fn scan<K, V>(
        &self,
        table: &'v Table<K, V>,
        bounds: (Bound<&K>, Bound<&K>),
        backward: bool,
        limit: usize,
        out: &mut Vec<(&'v K, Option<&'v V>)>,
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
            let version = self.visible(record, &guard);
            if let Some((version, value)) = version.and_then(|it| Some((it, it.value()?))) {
                let found = Self::outlive(record, (version, value), &guard);
                out.push((found.record.key(), Some(found.value)));
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
        let is_over = self.expired.is_some_and(|it| record.is_over(version, &it, guard));
        (!is_over).then_some(version)
    }

    /// Turns what a pin protects into what the registration protects.
    #[inline]
    fn outlive<'g, K: Key, V: Value>(
        record: &'g Record<K, V>,
        (version, value): (&'g Version<V>, &'g V),
        _pinned: &'g Guard<'_>,
    ) -> Found<'v, K, V> {
        let (record, version, value) = (&raw const *record, &raw const *version, &raw const *value);
        // SAFETY: the record holds a version that the registered snapshot sees, so it does not
        // die before the registration ends, which the view borrows (1, 2, kept by the horizon).
        let record = unsafe { &*record };
        // SAFETY: as above; the version is not cut off before the registration ends.
        let version = unsafe { &*version };
        // SAFETY: as above.
        let value = unsafe { &*value };
        Found { record, version, value }
    }
}

//! A table: the index of one bucket's records, what they take, and its sweep.
//!
//! 1. Records enter through `index().insert`, and are counted; they leave through
//!    [`Table::sweep`], and one at a time through [`leftovers`](super::leftovers), which subtract
//!    them.
//! 2. A table lives as long as its engine: dropping a bucket empties it and leaves the shell, so
//!    that a transaction may hold a plain reference to it.
//!
//! Called by transactions (through workspaces), snapshots, and the vacuum.

use std::cell::Cell;
use std::ops::Bound;
use std::time::Instant;

use crate::epoch::Guard;
use crate::id::{BucketId, Timestamp};
#[cfg(feature = "testing")]
use crate::mvcc::account::Bytes;
use crate::mvcc::account::{Account, Delta, Gauge, Reserved, SET_ASIDE, signed};
use crate::mvcc::codec::Stored;
use crate::mvcc::exchange::Landed;
use crate::mvcc::expiry::{Expired, Expiry};
use crate::mvcc::place::{FetchError, Place};
use crate::mvcc::record::{PINNED, Record, Stale};
use crate::mvcc::residents::Residence;
use crate::mvcc::shelf::Shelf;
use crate::mvcc::terms::{EntryInfo, Listener, Terms};
use crate::mvcc::version::Version;
use crate::mvcc::waiting::Waiting;
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::skiplist::{Entry as _, SkipList};
use crate::ssi::Needed;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// Records that are inspected under one pin.
const INSPECT_BATCH: usize = 256;

/// The records of one bucket.
pub(crate) struct Table<K: Key, V: Value> {
    id: BucketId,
    /// Before the index: rings hold addresses of records.
    residence: Option<Residence<K, V>>,
    index: SkipList<Record<K, V>>,
    stored: Option<Stored<K, V>>,
    /// The files that values may leave memory for, if they do.
    shelf: Option<Shelf>,
    /// A part of the bucket's limit.
    _set_aside: Option<Reserved>,
    weigher: Arc<Weigher<K, V>>,
    account: Account,
    expiry: Option<Expiry>,
    listener: Option<Arc<Listener<K, V>>>,
    dropped: AtomicBool,
    /// From this horizon on the table may be emptied; zero while it is in use.
    empty_from: AtomicU64,
    /// Where the next sweep goes on. Held for the length of a sweep: one at a time.
    sweep: Mutex<Option<K>>,
    waiting: Waiting<K>,
    /// Where the next search for expired entries goes on.
    search: Mutex<Option<K>>,
}

/// How far a search for expired entries came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Search {
    /// Entries looked at.
    pub(crate) visited: usize,
    /// Whether it came to the end of the bucket; then the next one starts over.
    pub(crate) is_over: bool,
}

impl Search {
    /// Nothing is to be looked at.
    pub(crate) const NONE: Self = Self { visited: 0, is_over: true };
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Records looked at.
    pub(crate) visited: usize,
    /// Versions cut off.
    pub(crate) versions: usize,
    /// Records removed.
    pub(crate) records: usize,
    /// Whether the sweep reached the end of the table; the next one starts over.
    pub(crate) wrapped: bool,
}

/// What a sweep may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizons<'n> {
    /// No snapshot lies below this.
    pub(crate) any: Timestamp,
    /// Up to where no commit, running or in the log, needs the records of what was removed.
    pub(crate) passed: Timestamp,
    /// Up to where nobody needs the records of entries that left by themselves.
    pub(crate) departed: Timestamp,
    /// Which versions readers need.
    pub(crate) needed: &'n Needed,
}

impl<K: Key, V: Value> Table<K, V> {
    /// A table of these terms, which counts what it takes for the database's limit, too.
    pub(crate) fn new(id: BucketId, terms: Terms<K, V>, database: Option<&Arc<Gauge>>) -> Self {
        let own = terms.limit.map(|limit| Arc::new(Gauge::new(limit)));
        let capacity = own.as_ref().or(database).map_or(u64::MAX, |gauge| gauge.limit());
        let weigher = Arc::new(terms.weigher);
        let reside = |retention| Residence::new(retention, Arc::clone(&weigher), capacity);
        let is_shelved = terms.stored.is_some() && terms.retention.is_some();
        let limited = own.as_ref().filter(|_| is_shelved);
        let set_aside = limited.map(|gauge| gauge.reserve_anyway(gauge.limit() / SET_ASIDE));
        Self {
            id,
            residence: terms.retention.map(reside),
            index: SkipList::new(),
            shelf: is_shelved.then(Shelf::default),
            _set_aside: set_aside,
            stored: terms.stored,
            account: Account::new(own.into_iter().chain(database.cloned())),
            expiry: terms.expires.then(|| Expiry::new(terms.ttl)),
            listener: terms.listener,
            weigher,
            dropped: AtomicBool::new(false),
            empty_from: AtomicU64::new(0),
            sweep: Mutex::new(None),
            waiting: Waiting::default(),
            search: Mutex::new(None),
        }
    }

    pub(crate) fn index(&self) -> &SkipList<Record<K, V>> {
        &self.index
    }

    /// What waits to leave; see [`leftovers`](super::leftovers).
    pub(super) fn waiting(&self) -> &Waiting<K> {
        &self.waiting
    }

    /// Where the bucket is in the files, if it is durable.
    pub(crate) fn stored(&self) -> Option<&Stored<K, V>> {
        self.stored.as_ref()
    }

    /// The files that values leave memory for, if they do.
    pub(crate) fn shelf(&self) -> Option<&Shelf> {
        self.shelf.as_ref()
    }

    pub(crate) fn weigher(&self) -> &Weigher<K, V> {
        &self.weigher
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Counts a record that entered the index (keeps 1).
    pub(crate) fn note_record(&self, key: &K) {
        let records = signed(self.weigher.record(key));
        self.account.add(Delta { records, ..Delta::default() });
    }

    /// Reads the newest value at `snapshot` without a registration. A value that is in the files
    /// only takes one, too.
    pub(crate) fn get_unregistered<'g, Q>(
        &'g self,
        key: &Q,
        snapshot: Timestamp,
        guard: &'g Guard<'_>,
    ) -> Result<Option<&'g V>, Stale>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Some(record) = self.index.get(key, guard) else { return Ok(None) };
        let Some(version) = record.visible_unregistered(snapshot, guard)? else { return Ok(None) };
        let expired = self.expired();
        let is_over = expired.is_some_and(|expired| record.is_over(version, &expired, guard));
        match self.hit(version) {
            None if version.is_cold() => Err(Stale::Cold),
            value => Ok(value.filter(|_| !is_over)),
        }
    }

    /// The value of a version that a reader asked for by its key. The hit makes an entry of a cache
    /// warmer.
    #[inline]
    pub(crate) fn hit<'g>(&self, version: &'g Version<V>) -> Option<&'g V> {
        let value = version.value()?;
        if let Some(residence) = &self.residence {
            let touch = |heat| if heat == PINNED { None } else { residence.keeper.touch(heat) };
            version.warm(touch);
        }
        Some(value)
    }

    /// What has expired by now, if entries of this table do.
    #[inline]
    pub(crate) fn expired(&self) -> Option<Expired> {
        self.expiry.as_ref().map(|expiry| expiry.at(Instant::now()))
    }

    pub(crate) fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    /// Who is told of entries that leave by themselves.
    pub(crate) fn listener(&self) -> Option<&Listener<K, V>> {
        self.listener.as_deref()
    }

    /// How entries are chosen that leave for others, if they are.
    pub(crate) fn residence(&self) -> Option<&Residence<K, V>> {
        self.residence.as_ref()
    }

    pub(crate) fn has_keeper(&self) -> bool {
        self.residence.is_some()
    }

    /// Whether entries leave by themselves.
    pub(crate) fn loses_entries(&self) -> bool {
        self.residence.is_some() || self.expiry.is_some()
    }

    /// The heat of a new version, on top of one with `heat` if there was a value.
    pub(crate) fn first_heat(&self, heat: Option<u8>) -> u8 {
        match (&self.residence, heat) {
            (Some(_), Some(PINNED)) => PINNED,
            (Some(residence), Some(heat)) => residence.keeper.touch(heat).unwrap_or(heat),
            // A new entry's is set by whoever admits it.
            (None, _) | (Some(_), None) => 0,
        }
    }

    /// Puts a record into a ring, whose mark the committed head carries.
    pub(crate) fn enrol(&self, record: &Record<K, V>) {
        if let Some(residence) = &self.residence {
            residence.keeper.admit(residence.tenant(record));
        }
    }

    /// Reads a value that is in the files only.
    pub(crate) fn read_back(&self, place: &Place) -> Result<V, FetchError> {
        let stored = self.stored.as_ref().expect("only values of durable buckets are in files");
        let mut buffer = Vec::new();
        Ok((stored.codec.decode_value)(place.read(&mut buffer)?)?)
    }

    /// Counts a value that is back in memory. The caller holds a pin.
    pub(crate) fn landed(&self, record: &Record<K, V>, landed: Landed) {
        self.account.add(landed.delta);
        if landed.enrols {
            self.enrol(record);
        }
    }

    pub(crate) fn id(&self) -> BucketId {
        self.id
    }

    pub(crate) fn is_dropped(&self) -> bool {
        // Acquire: pairs with the Release in `mark_dropped`.
        self.dropped.load(Ordering::Acquire)
    }

    pub(crate) fn mark_dropped(&self) {
        // Release: whoever sees the mark sees the catalog without the name.
        self.dropped.store(true, Ordering::Release);
    }

    /// Lets sweeps empty the dropped table once the horizon is at `horizon`.
    pub(crate) fn empty_from(&self, horizon: Timestamp) {
        // Release: pairs with the Acquire in `sweep`.
        self.empty_from.store(horizon.get(), Ordering::Release);
    }

    /// Takes out versions that no reader needs and records that nobody can read, looking at
    /// no more than `budget` records; goes on where the last sweep ended. Another sweep in progress
    /// makes this one do nothing.
    pub(crate) fn sweep(
        &self,
        Horizons { any: horizon, passed, departed, needed }: Horizons<'_>,
        budget: usize,
        guard: &Guard<'_>,
    ) -> Swept {
        let mut swept = Swept::default();
        let Some(mut position) = self.sweep.try_lock() else { return swept };
        // Acquire: pairs with the Release in `empty_from`.
        let empty_from = self.empty_from.load(Ordering::Acquire);
        let unused = empty_from != 0 && horizon.get() >= empty_from;
        if let Some(residence) = &self.residence {
            residence.let_go(unused, budget);
        }
        let (delta, versions) = (Cell::new(Delta::default()), Cell::new(0));
        let count = |change: Delta| {
            let mut sum = delta.get();
            sum += change;
            delta.set(sum);
        };
        let weigh = |version: &Version<V>| self.weigher.version(version);
        let visit = |record: &Record<K, V>| {
            if unused {
                return true;
            }
            let pruned = record.thin(needed, weigh, guard);
            versions.set(versions.get() + pruned.versions);
            count(Delta { retained: -signed(pruned.bytes), ..Delta::default() });
            record.is_empty(guard)
        };
        let kill = |record: &Record<K, V>| {
            let dies = match () {
                () if unused => record.condemn(guard),
                // One that departs only now is newer than either horizon.
                () if record.has_departed(guard) => record.kill(departed, needed, guard),
                () => record.kill(passed, needed, guard),
            };
            dies.then(|| {
                let (weight, older) = self.weigh_dying(record, guard);
                count(weight);
                versions.set(versions.get() + older);
                weight.gone()
            })
        };
        let done = self.index.sweep(position.take(), budget, visit, kill, guard);
        self.account.add(delta.get());
        swept.versions = versions.get();
        swept.visited = done.visited;
        swept.records = done.removed;
        swept.wrapped = done.resume.is_none();
        *position = done.resume;
        swept
    }

    /// Entries that have expired, `limit` at most of `budget` looked at, from where the last search
    /// ended.
    pub(crate) fn next_expired<'g>(
        &'g self,
        expired: &Expired,
        (limit, budget): (usize, usize),
        guard: &'g Guard<'_>,
    ) -> (Vec<&'g Record<K, V>>, Search) {
        let Some(mut position) = self.search.try_lock() else { return (Vec::new(), Search::NONE) };
        let low = position.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let (mut last, mut left) = (None, budget);
        let take = |record: &'g Record<K, V>| {
            let newest = record.newest_value(guard);
            if newest.is_some_and(|version| record.is_over(version, expired, guard)) {
                found.push(record);
            }
            left -= 1;
            last = Some(record);
            left > 0 && found.len() < limit
        };
        let is_over = self.index.range::<K>((low.as_ref(), Bound::Unbounded), guard).walk(take);
        *position = last.filter(|_| !is_over).map(|record| record.key().clone());
        (found, Search { visited: budget - left, is_over })
    }

    /// Passes on what is known of the entries of a range, some hundreds at most. Answers where to
    /// go on, if there may be more.
    pub(crate) fn inspect(
        &self,
        bounds: (Bound<&K>, Bound<&K>),
        visit: &mut impl FnMut(&K, EntryInfo) -> bool,
        guard: &Guard<'_>,
    ) -> Option<K> {
        let (mut left, mut wants_more, mut last) = (INSPECT_BATCH, true, None);
        let take = |record: &Record<K, V>| {
            if let Some(info) = self.info(record, guard) {
                wants_more = visit(record.key(), info);
            }
            left -= 1;
            last = Some(record.key().clone());
            left > 0 && wants_more
        };
        let is_over = self.index.range::<K>(bounds, guard).walk(take);
        last.filter(|_| wants_more && !is_over)
    }

    fn info(&self, record: &Record<K, V>, guard: &Guard<'_>) -> Option<EntryInfo> {
        let newest = record.newest_value(guard)?;
        let committed = record.newest_written(guard)?;
        let mut versions = 0_usize;
        record.each_version(|_| versions += 1, guard);
        let heat = newest.heat();
        Some(EntryInfo {
            bytes: self.weigher.record(record.key()) + self.weigher.version(newest),
            retained_versions: versions.saturating_sub(1),
            committed,
            heat,
            is_pinned: self.has_keeper() && heat == PINNED,
            is_resident: !newest.is_cold(),
        })
    }

    /// What a walk over everything finds, to compare with what was counted. Only while nothing
    /// runs.
    #[cfg(feature = "testing")]
    pub(crate) fn walk(&self, guard: &Guard<'_>) -> Bytes {
        let mut sum = Delta::default();
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.index.range::<K>(all, guard).walk(|record| {
            sum += self.weigh_dying(record, guard).0;
            true
        });
        let found = |counted: i64| u64::try_from(-counted).expect("sizes are not negative");
        Bytes {
            records: found(sum.records),
            live: found(sum.live),
            retained: found(sum.retained),
            dead: found(sum.dead),
        }
    }

    /// What goes with a record that dies: itself, its newest version, and older ones, which are
    /// counted.
    pub(super) fn weigh_dying(&self, record: &Record<K, V>, guard: &Guard<'_>) -> (Delta, usize) {
        let own = signed(self.weigher.record(record.key()));
        let has_departed = record.has_departed(guard);
        let mut delta = Delta::default();
        *if has_departed { &mut delta.dead } else { &mut delta.records } -= own;
        let mut versions = 0;
        let see = |version: &Version<V>| {
            let bytes = signed(self.weigher.version(version));
            let of = match (versions, has_departed) {
                (0, true) => &mut delta.dead,
                (0, false) => &mut delta.live,
                _ => &mut delta.retained,
            };
            *of -= bytes;
            versions += 1;
        };
        record.each_version(see, guard);
        (delta, versions.max(1) - 1)
    }
}

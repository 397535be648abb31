//! What a transaction wrote in one bucket and nobody else has seen yet.
//!
//! ```text
//! log   0: put b    1: put a    2: put b    3: remove a      (grows only)
//!          hidden      hidden
//! top   a -> 3 -> 1      b -> 2 -> 0        (sorted by key; made when the log is long, or scanned)
//! ```
//!
//! 1. The log only grows: a value that was handed out by reference stays where it is until the
//!    transaction ends, even when it was overwritten or rolled back.
//! 2. The place in the log is the time of a write. An iterator that was opened at time `t` sees,
//!    for each key, the newest write before `t`.
//! 3. A write's key lives in a record: one of the index that the snapshot sees, or one of this
//!    log. Either outlives the map.
//! 4. Every version and record has one owner: the log until it is linked, the table from then on
//!    (`Stage` and `Home` say which).
//! 5. A write is hidden while a later one of its key stands, and undone for good once it was
//!    rolled back. Those that are neither are what a commit writes.
//! 6. The user's `Ord` runs before a write enters the log, so a panic leaves the log as it was.
//!    Once it has run nothing fails until the write is in: the map names its place already.
//!
//! Called by workspaces.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::ptr::NonNull;
use std::time::Instant;

use smallvec::SmallVec;

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::charge::Charge;
use crate::mvcc::key_ref::{ByKey, KeyRef, is_inverted};
use crate::mvcc::record::{Pruned, Record, TakeError, Taken};
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::write::{Home, Stage, Write, version};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry;
use crate::ssi::{Needed, Status};

/// Writes that need no memory of their own.
const INLINE: usize = 2;

/// Writes up to which the log is searched from its end and no map is made.
const UNSORTED_MAX: usize = 8;

/// Bytes of an overwritten version that are worth a visit when nobody needs it any more. Smaller
/// ones go with the next write of their key: a visit costs more than that many bytes are worth.
const WORTH_A_VISIT: usize = 128;

/// The private writes of one transaction in one bucket.
pub(crate) struct WriteSet<K: Key, V: Value> {
    log: SmallVec<[Write<K, V>; INLINE]>,
    /// Boxed, since most logs are short.
    #[expect(clippy::box_collection, reason = "a transaction makes this anew, mostly for nothing")]
    top: Option<Box<BTreeMap<KeyRef<K>, usize>>>,
    /// Boxed, since most buckets have no limit.
    private: Option<Box<Private>>,
}

/// What the log takes in memory, as far as it was counted for the limits of its table.
#[derive(Debug, Default)]
struct Private {
    /// Writes that were weighed, and their bytes.
    weighed: usize,
    bytes: u64,
    charge: Charge,
}

/// What a rolled-back write leaves to remember: it may have told the caller what was there before.
pub(crate) enum Undone<K: Key, V: Value> {
    Record(NonNull<Record<K, V>>),
    Absent(K),
}

/// What a commit did to the chains it wrote to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Versions that were the newest before, and their bytes.
    pub(crate) superseded: usize,
    pub(crate) superseded_bytes: usize,
    /// Versions that nobody can see any more, and were cut off.
    pub(crate) pruned: usize,
    /// The same in bytes.
    pub(crate) delta: Delta,
    /// Whether some chain has grown long above what the horizon needs.
    pub(crate) is_long: bool,
}

/// Versions above what the horizon needs that make a chain long.
const LONG: usize = 16;

/// What a commit will ask of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) adds: u64,
    /// Whether nothing is written but tombstones.
    pub(crate) removes_only: bool,
}

impl Default for Needs {
    fn default() -> Self {
        Self { adds: 0, removes_only: true }
    }
}

/// What writing over an earlier write of our own came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// There is no earlier write.
    None,
    Written,
    /// Both writes cancel out: the key is absent before and after.
    Vanished,
}

/// A write of our own, as an iterator sees it: `None` is a tombstone.
pub(crate) type OwnEntry<K, V> = (NonNull<K>, Option<NonNull<V>>);

impl<K: Key, V: Value> WriteSet<K, V> {
    pub(crate) fn new() -> Self {
        Self { log: SmallVec::new(), top: None, private: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// The time of the next write; a mark to roll back to.
    pub(crate) fn now(&self) -> usize {
        self.log.len()
    }

    fn top_of<Q>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match &self.top {
            Some(top) => top.get(ByKey::new(key)).copied(),
            None => self.log.iter().rposition(|write| {
                !write.undone && write.key.get().borrow().cmp(key) == Ordering::Equal
            }),
        }
    }

    /// Our newest write of `key`: `Some(None)` is a tombstone.
    #[expect(clippy::option_option, reason = "not written, removed, and set are three answers")]
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<Option<NonNull<V>>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.top_of(key).and_then(|at| self.log.get(at)).map(Write::value)
    }

    /// Writes a key that has no earlier write, and whose record the snapshot sees. The version is
    /// made in a leaked box, which becomes the log's.
    pub(crate) fn put_shared(
        &mut self,
        record: NonNull<Record<K, V>>,
        make: impl FnOnce() -> NonNull<Version<V>>,
    ) {
        // SAFETY: the snapshot sees the record, so it lives as long as the transaction.
        let key = KeyRef::of(unsafe { record.as_ref() });
        self.list(key, None);
        self.log.push(Write::new(key, make(), Home::Shared(record), None));
    }

    /// Writes a key that has no earlier write, and that the snapshot does not see.
    pub(crate) fn put_fresh(&mut self, key: K, value: V, deadline: Option<Instant>) {
        let write = Write::fresh(key, value, deadline, None);
        self.list(write.key, None);
        self.log.push(write);
    }

    /// Overwrites or removes a key that has an earlier write of our own.
    pub(crate) fn put_over<Q>(
        &mut self,
        key: &Q,
        value: Option<V>,
        deadline: Option<Instant>,
    ) -> Over
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Some(at) = self.top_of(key) else { return Over::None };
        let Some(under) = self.log.get(at) else { return Over::None };
        let (write, over) = match (&under.home, value) {
            (&Home::Shared(record), value) => {
                let version = version(value, deadline);
                let write = Write::new(under.key, version, Home::Shared(record), Some(at));
                (write, Over::Written)
            }
            (_, Some(value)) => {
                let key = under.key.get().clone();
                (Write::fresh(key, value, deadline, Some(at)), Over::Written)
            }
            (_, None) => {
                let tombstone = Version::boxed(None);
                (Write::new(under.key, tombstone, Home::Nowhere, Some(at)), Over::Vanished)
            }
        };
        self.list(write.key, Some(at));
        self.log.push(write);
        over
    }

    /// Notes that the next write will be one of this key. Runs the user's `Ord`.
    fn list(&mut self, key: KeyRef<K>, earlier: Option<usize>) {
        let at = self.log.len();
        if let Some(top) = &mut self.top {
            top.insert(key, at);
        } else if at >= UNSORTED_MAX {
            self.sort().insert(key, at);
        }
        if let Some(under) = earlier.and_then(|under| self.log.get_mut(under)) {
            under.hidden = true;
        }
    }

    /// The map of the newest writes, made if there is none.
    fn sort(&mut self) -> &mut BTreeMap<KeyRef<K>, usize> {
        let log = &self.log;
        self.top.get_or_insert_with(|| {
            let standing = log.iter().enumerate().filter(|(_, write)| write.stands());
            Box::new(standing.map(|(at, write)| (write.key, at)).collect())
        })
    }

    /// Forgets the writes at or after `mark`, newest first; tells what they were about.
    pub(crate) fn undo_to(&mut self, mark: usize) -> Vec<Undone<K, V>> {
        let mut undone = Vec::new();
        for at in (mark..self.log.len()).rev() {
            let Some(write) = self.log.get_mut(at) else { continue };
            if std::mem::replace(&mut write.undone, true) {
                continue;
            }
            let (key, earlier) = (write.key, write.earlier());
            if earlier.is_none_or(|earlier| earlier < mark) {
                undone.push(match write.home {
                    Home::Shared(record) => Undone::Record(record),
                    _ => Undone::Absent(key.get().clone()),
                });
            }
            if let Some(under) = earlier.and_then(|under| self.log.get_mut(under)) {
                under.hidden = false;
            }
            match (&mut self.top, earlier) {
                (Some(top), Some(earlier)) => drop(top.insert(key, earlier)),
                (Some(top), None) => drop(top.remove::<ByKey<K>>(ByKey::new(key.get()))),
                (None, _) => {}
            }
        }
        undone
    }

    /// The write before `time` of the key whose newest write is at `at`.
    fn as_of(&self, mut at: usize, time: usize) -> Option<&Write<K, V>> {
        while at >= time {
            at = self.log.get(at)?.earlier()?;
        }
        self.log.get(at)
    }

    /// Passes on up to `limit` of the writes that an iterator opened at `time` sees in the range.
    /// Answers whether the range is exhausted.
    pub(crate) fn scan(
        &mut self,
        bounds: (Bound<&K>, Bound<&K>),
        time: usize,
        backward: bool,
        limit: usize,
        mut pass: impl FnMut(OwnEntry<K, V>),
    ) -> bool {
        if self.log.is_empty() || is_inverted(bounds.0, bounds.1) {
            return true;
        }
        self.sort();
        let bounds = (bounds.0.map(ByKey::new), bounds.1.map(ByKey::new));
        let Some(top) = &self.top else { return true };
        let mut writes = top.range::<ByKey<K>, _>(bounds);
        let mut missing = limit;
        while missing > 0 {
            let next = if backward { writes.next_back() } else { writes.next() };
            let Some((key, &top)) = next else { return true };
            if let Some(write) = self.as_of(top, time) {
                pass((NonNull::from(key.get()), write.value()));
                missing -= 1;
            }
        }
        false
    }

    /// Sees to it that the key of every standing write has a record in the index, and passes on
    /// the place of the write and the record. Runs the user's `Ord`; nothing is held meanwhile.
    pub(crate) fn place_all(
        &mut self,
        table: &Table<K, V>,
        guard: &Guard<'_>,
        mut pass: impl FnMut(usize, NonNull<()>),
    ) {
        for (at, write) in self.log.iter_mut().enumerate().filter(|(_, write)| write.stands()) {
            if let Some(record) = write.place(table, guard) {
                pass(at, record.cast());
            }
        }
    }

    /// Passes on what a commit will write: `None` removes.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        let standing = self.log.iter().filter(|write| write.stands() && !write.is_void());
        standing.map(|write| {
            // SAFETY: the log owns the version, which never changes (1).
            let value = write.value().map(|value| unsafe { value.as_ref() });
            (write.key.get(), value)
        })
    }

    /// Looks for the record of a placed write again, after a sweep removed it.
    pub(crate) fn place_again(
        &mut self,
        at: usize,
        table: &Table<K, V>,
        guard: &Guard<'_>,
    ) -> Option<NonNull<()>> {
        self.log.get_mut(at)?.place(table, guard).map(NonNull::cast)
    }

    /// Counts what was written so far for the limits of the table, which must have some. Answers
    /// how many bytes it is.
    pub(crate) fn count_private(&mut self, table: &Table<K, V>) -> u64 {
        if self.log.is_empty() {
            return 0;
        }
        let weigher = table.weigher();
        let private = self.private.get_or_insert_default();
        for write in self.log.iter().skip(private.weighed) {
            // SAFETY: the log owns the version, which never changes (1).
            private.bytes += weigher.version(unsafe { write.version.as_ref() }) as u64;
            if matches!(write.home, Home::Own(_)) {
                private.bytes += weigher.record(write.key.get()) as u64;
            }
        }
        private.weighed = self.log.len();
        private.charge.cover(private.bytes, table.account().gauges());
        private.bytes
    }

    /// Gives back what was counted, since the commit counts anew.
    pub(crate) fn release_private(&mut self) {
        self.private = None;
    }

    /// Puts this write's version on top of its record, undecided. Answers whether it leaves so much
    /// behind that somebody is to tidy up after it.
    pub(crate) fn take(
        &mut self,
        at: usize,
        owner: *const Status,
        snapshot: Timestamp,
        table: &Table<K, V>,
        guard: &Guard<'_>,
    ) -> Result<bool, TakeError> {
        let Some(write) = self.log.get_mut(at) else { return Ok(false) };
        let Some(record) = write.record() else { return Ok(false) };
        // SAFETY: the log owns the version until it is linked (4).
        let version = unsafe { write.version.as_ref() };
        version.mark_pending(owner);
        let enrol = table.has_keeper() && !version.is_tombstone();
        let weigh = |version: &Version<V>| table.weigher().version(version);
        // SAFETY: a placed record is live: it was found or inserted under the commit's pin, or
        // the snapshot sees it.
        let record = unsafe { record.as_ref() };
        write.taken = record.take(write.version, snapshot, enrol, weigh, guard)?;
        // The chain owns the version now.
        write.stage = Stage::Linked;
        Ok(version.is_tombstone() || write.taken.over.is_some_and(|bytes| bytes >= WORTH_A_VISIT))
    }

    /// The writes whose versions are on heads, with their records.
    fn linked(&self) -> impl Iterator<Item = (&Write<K, V>, NonNull<Record<K, V>>)> {
        let linked = self.log.iter().filter(|write| write.stage == Stage::Linked);
        linked.filter_map(|write| Some((write, write.record()?)))
    }

    /// Takes every version off its head again.
    pub(crate) fn release(&self, table: &Table<K, V>, guard: &Guard<'_>) {
        let weigh = |version: &Version<V>| table.weigher().version(version);
        for (write, record) in self.linked() {
            // SAFETY: a record with an undecided head does not die.
            unsafe { record.as_ref() }.release(write.version, write.taken, weigh, guard);
        }
    }

    /// Gives the versions their commit time and prunes below them.
    pub(crate) fn settle(
        &self,
        commit: Timestamp,
        horizon: Timestamp,
        table: &Table<K, V>,
        guard: &Guard<'_>,
    ) -> Settled {
        let mut settled = Settled::default();
        let weigh = |version: &Version<V>| table.weigher().version(version);
        for write in self.log.iter().filter(|write| write.stage == Stage::Linked) {
            let Some(record) = write.record() else { continue };
            // SAFETY: the version was linked under the commit's pin, so it is alive.
            let version = unsafe { write.version.as_ref() };
            // SAFETY: a record whose newest version is this young does not die.
            let record = unsafe { record.as_ref() };
            settled.delta.live += signed(weigh(version));
            settled.superseded_bytes += write.taken.over.unwrap_or(0);
            match write.taken {
                Taken { over: Some(over), departed: true, .. } => {
                    let record = table.weigher().record(record.key());
                    settled.delta.come_back(record, over);
                    settled.superseded += 1;
                }
                Taken { over: Some(over), .. } => {
                    settled.delta.supersede(over);
                    settled.superseded += 1;
                }
                Taken { over: None, .. } => {}
            }
            // Before the version is settled: nobody else thins the chain meanwhile.
            let pruned = record.prune(horizon, weigh, guard);
            settled.pruned += pruned.versions;
            settled.delta.retained -= signed(pruned.bytes);
            settled.is_long |= pruned.passed > LONG;
            version.settle(commit, table.first_heat(write.taken.heat));
            if write.taken.enrols {
                table.enrol(record);
            }
        }
        settled
    }

    /// Takes versions that no reader needs out of the records that were written.
    pub(crate) fn thin(&self, needed: &Needed, table: &Table<K, V>, guard: &Guard<'_>) -> Pruned {
        let weigh = |version: &Version<V>| table.weigher().version(version);
        let mut all = Pruned::default();
        for (_, record) in self.linked() {
            // SAFETY: written by a transaction that began no later than the guard, and not dead
            // before its newest version is old.
            let pruned = unsafe { record.as_ref() }.thin(needed, weigh, guard);
            all.versions += pruned.versions;
            all.bytes += pruned.bytes;
        }
        all
    }

    /// What the standing writes will add to memory, in bytes, as far as that is known before the
    /// heads are taken. Where entries leave, each may have left by then: its record comes back, on
    /// top of the tombstone.
    pub(crate) fn needs(&self, table: &Table<K, V>) -> Needs {
        let weigher = table.weigher();
        let mut needs = Needs::default();
        for write in self.log.iter().filter(|write| write.stands() && !write.is_void()) {
            // SAFETY: the log owns the version, which never changes (1).
            let version = unsafe { write.version.as_ref() };
            let key = write.key.get();
            let bytes = match write.home {
                _ if table.loses_entries() => {
                    weigher.record(key) + weigher.boxed(version.value()) + weigher.boxed(None)
                }
                Home::Own(_) => weigher.record(key) + weigher.version(version),
                _ => weigher.version(version),
            };
            needs.adds += bytes as u64;
            needs.removes_only &= version.is_tombstone();
        }
        needs
    }
}

// SAFETY: the log's records and versions are its own or shared between threads anyway; keys and
// values may move to another thread with the transaction.
unsafe impl<K: Key, V: Value> Send for WriteSet<K, V> {}

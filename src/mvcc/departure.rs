//! Entries that leave by themselves: evicted, or expired.
//!
//! ```text
//! choose ─► a tombstone on each head, undecided ─► the commit that owns them ─► settle ─► see off
//!              │                                       (see `txn::evict`)
//!              └── it does not commit: take them off, back into the rings
//! ```
//!
//! An entry leaves by a version of its own, a tombstone with a commit timestamp like any other. So
//! a snapshot that saw the entry goes on seeing it, and one that is taken later does not.
//!
//! 1. What leaves is the newest version, and it is decided. A head that changed meanwhile is left
//!    alone.
//! 2. A departure is nobody's write: it stands in no footprint, and whoever writes the key next
//!    looks through it (see `Record::take`). So no transaction is refused because of it.
//! 3. No user code runs while a tombstone is undecided: keys are hashed before, and listeners
//!    called after.
//! 4. What departs without having been settled is taken back, by whoever called.
//!
//! Called through [`AnyTable`](super::tables::AnyTable) by what makes room and what vacuums.

use std::ptr::NonNull;

use crate::epoch::Guard;
use crate::evict::Picked;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::record::{PINNED, Record, Taken};
use crate::mvcc::residents::Tenant;
use crate::mvcc::table::{Search, Table};
use crate::mvcc::terms::Departure;
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::ssi::{Needed, Status};

/// Expired entries that leave in one commit, at most.
pub(crate) const BATCH: usize = 64;

/// Which entries are to leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// Those that the policy names, until so many bytes are freed.
    Room(u64),
    /// Those that expired by now, of so many behind the place where the last search ended.
    Expired(usize),
}

/// Entries that are leaving, with their types forgotten.
pub(crate) trait Departing {
    /// How many there are.
    fn len(&self) -> usize;
    /// How far the search came, if there was one for expired entries.
    fn search(&self) -> Search;
    /// Gives the tombstones their commit time.
    fn settle(&mut self, commit: Timestamp);
    /// Tells the listener, prunes, and counts. Answers how many bytes were freed.
    fn see_off(&mut self, needed: &Needed, guard: &Guard<'_>) -> SeenOff;
    /// Takes the tombstones back.
    fn release(&mut self, guard: &Guard<'_>);
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenOff {
    pub(crate) entries: u64,
    /// Bytes that left memory at once; the rest leaves when no snapshot needs it.
    pub(crate) bytes: u64,
    /// Versions that stay for snapshots.
    pub(crate) retained: u64,
    /// How far the search came, if there was one for expired entries.
    pub(crate) search: Search,
}

impl SeenOff {
    pub(crate) const NOTHING: Self =
        Self { entries: 0, bytes: 0, retained: 0, search: Search::NONE };
}

struct One<K: Key, V: Value> {
    record: NonNull<Record<K, V>>,
    /// What leaves.
    version: NonNull<Version<V>>,
    tombstone: NonNull<Version<V>>,
    /// Came out of a ring, to which it goes back if it stays.
    from_ring: bool,
    cause: Departure,
}

/// The batch of one table.
pub(crate) struct Batch<'t, K: Key, V: Value> {
    table: &'t Table<K, V>,
    ones: Vec<One<K, V>>,
    search: Search,
}

/// Chooses what leaves and puts the tombstones on.
pub(super) fn depart<'t, K: Key, V: Value>(
    table: &'t Table<K, V>,
    wanted: Wanted,
    owner: *const Status,
    guard: &Guard<'_>,
) -> Batch<'t, K, V> {
    let mut batch = Batch { table, ones: Vec::new(), search: Search::NONE };
    match wanted {
        Wanted::Room(bytes) => batch.make_room(bytes, owner, guard),
        Wanted::Expired(budget) => batch.find_expired(budget, owner, guard),
    }
    batch
}

/// Puts a tombstone on one entry, if it is there and has a value.
pub(crate) fn depart_one<'t, K: Key, V: Value>(
    table: &'t Table<K, V>,
    record: Option<&Record<K, V>>,
    owner: *const Status,
    guard: &Guard<'_>,
) -> Batch<'t, K, V> {
    let mut batch = Batch { table, ones: Vec::new(), search: Search::NONE };
    if let Some(record) = record {
        batch.add(record, Departure::Asked, false, owner, guard);
    }
    batch
}

impl<K: Key, V: Value> Batch<'_, K, V> {
    fn make_room(&mut self, bytes: u64, owner: *const Status, guard: &Guard<'_>) {
        let Some(residence) = self.table.residence() else { return };
        let mut picked = Picked::<Tenant<K, V>>::default();
        residence.keeper.pick(bytes, &mut picked);
        residence.strike(picked.gone);
        for victim in picked.victims {
            let record = victim.record(guard);
            if !self.add(record, Departure::Evicted, true, owner, guard) {
                residence.keeper.readmit(victim);
            }
        }
    }

    fn find_expired(&mut self, budget: usize, owner: *const Status, guard: &Guard<'_>) {
        let Some(expired) = self.table.expired() else { return };
        let (found, search) = self.table.next_expired(&expired, (BATCH, budget), guard);
        self.search = search;
        for record in found {
            self.add(record, Departure::Expired, false, owner, guard);
        }
    }

    fn add(
        &mut self,
        record: &Record<K, V>,
        cause: Departure,
        from_ring: bool,
        owner: *const Status,
        guard: &Guard<'_>,
    ) -> bool {
        let Some(version) = record.newest_value(guard) else { return false };
        let is_pinned = self.table.has_keeper() && version.heat() == PINNED;
        if is_pinned && cause == Departure::Evicted {
            return false;
        }
        let Commit::At(over) = version.commit() else { return false };
        let tombstone = Version::departure(over);
        // SAFETY: leaked just now.
        unsafe { tombstone.as_ref() }.mark_pending(owner);
        if !record.depart(version, tombstone, !from_ring, guard) {
            // SAFETY: nobody else has seen it.
            unsafe { Version::free(tombstone.as_ptr()) };
            return false;
        }
        let (record, version) = (NonNull::from(record), NonNull::from(version));
        self.ones.push(One { record, version, tombstone, from_ring, cause });
        true
    }

    /// Tells the listener of all that left. The guard of `see_off` keeps what it is shown.
    fn tell(&mut self) {
        let ones = std::mem::take(&mut self.ones);
        let Some(listener) = self.table.listener() else { return };
        for one in ones {
            // SAFETY: as in `see_off`, which is the only caller.
            let record = unsafe { one.record.as_ref() };
            // SAFETY: as above.
            if let Some(value) = unsafe { one.version.as_ref() }.value() {
                listener(record.key(), value, one.cause);
            }
        }
    }
}

impl<K: Key, V: Value> Departing for Batch<'_, K, V> {
    fn len(&self) -> usize {
        self.ones.len()
    }

    fn search(&self) -> Search {
        self.search
    }

    fn settle(&mut self, commit: Timestamp) {
        for one in &self.ones {
            // SAFETY: the tombstone is linked and undecided, hence alive.
            unsafe { one.tombstone.as_ref() }.settle(commit, 0);
        }
    }

    fn see_off(&mut self, needed: &Needed, guard: &Guard<'_>) -> SeenOff {
        let table = self.table;
        let weigher = table.weigher();
        let mut seen_off =
            SeenOff { entries: self.ones.len() as u64, search: self.search, ..SeenOff::NOTHING };
        let (mut delta, mut pruned) = (Delta::default(), 0);
        for one in &self.ones {
            // SAFETY: a record whose newest version is this young does not die.
            let record = unsafe { one.record.as_ref() };
            let weight = weigher.record(record.key());
            // SAFETY: the guard was made before the version was found, so it is still there.
            let version = weigher.version(unsafe { one.version.as_ref() });
            delta.depart(weight, weigher.boxed(None), version);
            let cut = record.thin(needed, |version| weigher.version(version), guard);
            delta.retained -= signed(cut.bytes);
            if cut.versions > 0 {
                seen_off.bytes += (weight + cut.bytes) as u64;
            }
            pruned += cut.versions as u64;
            table.note_dead(record.key());
        }
        table.account().add(delta);
        seen_off.retained = seen_off.entries.wrapping_sub(pruned);
        self.tell();
        seen_off
    }

    fn release(&mut self, guard: &Guard<'_>) {
        for one in std::mem::take(&mut self.ones) {
            // SAFETY: a record with an undecided head does not die.
            let record = unsafe { one.record.as_ref() };
            record.release(one.tombstone, Taken::default(), guard);
            let residence = self.table.residence().filter(|_| one.from_ring);
            if let Some(residence) = residence.filter(|_| record.mark_enrolled()) {
                residence.keeper.readmit(residence.tenant(record));
            }
        }
    }
}

//! What leaves memory by itself: entries of caches, evicted or expired; and values of durable
//! buckets, whose keys stay.
//!
//! ```text
//! choose ─► a stub on each head, undecided ─► the commit that owns them ─► settle ─► see off
//!              │                                  (see `txn::evict`)
//!              └── it does not commit: take them off, back into the rings
//! ```
//!
//! What leaves gets a version on top, a *stub*, with a commit timestamp like any other: a
//! tombstone, or a cold version that says where the value is in the files. So a snapshot that saw
//! the value goes on seeing it where it was, and one that is taken later meets the stub.
//!
//! 1. What leaves is the newest version, and it is decided. A head that changed meanwhile is left
//!    alone.
//! 2. A departure is nobody's write: it stands in no footprint, and whoever writes the key next
//!    looks through it (see `Record::take`). So no transaction is refused because of it.
//! 3. No user code runs while a stub is undecided but the encoding of keys of durable buckets:
//!    other keys are hashed before, and listeners called after.
//! 4. What departs without having been settled is taken back, by whoever called.
//!
//! Called through [`AnyTable`](super::tables::AnyTable) by what makes room and what vacuums.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::codec::Encoder;
use crate::epoch::Guard;
use crate::evict::Picked;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::record::{PINNED, Record, Taken};
use crate::mvcc::residents::Tenant;
use crate::mvcc::shelf::{Files, Shelf};
use crate::mvcc::table::{Search, Table};
use crate::mvcc::terms::Departure;
use crate::mvcc::version::Version;
use crate::mvcc::weigh::Weigher;
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
    /// How many were asked to leave, whether they can or not.
    fn asked(&self) -> usize;
    /// How far the search came, if there was one for expired entries.
    fn search(&self) -> Search;
    /// Bytes of records that stay in the index for as long as readers may be compared by them.
    fn departed(&self) -> usize;
    /// Gives the stubs their commit time.
    fn settle(&mut self, commit: Timestamp);
    /// Tells the listener, prunes, and counts. Answers how many bytes were freed.
    fn see_off(&mut self, needed: &Needed, guard: &Guard<'_>) -> SeenOff;
    /// Takes the stubs back.
    fn release(&mut self, guard: &Guard<'_>);
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenOff {
    pub(crate) entries: u64,
    /// How many were asked to leave, whether they could or not.
    pub(crate) asked: usize,
    /// Bytes that left memory at once; the rest leaves when no snapshot needs it.
    pub(crate) bytes: u64,
    /// Versions that stay for snapshots.
    pub(crate) retained: u64,
    /// How far the search came, if there was one for expired entries.
    pub(crate) search: Search,
}

impl SeenOff {
    pub(crate) const NOTHING: Self =
        Self { entries: 0, asked: 0, bytes: 0, retained: 0, search: Search::NONE };
}

/// A version to be put on a record, in a leaked box, and what it is for.
struct Stub<V> {
    boxed: NonNull<Version<V>>,
    leaving: NonNull<Version<V>>,
    /// When what leaves was written.
    over: Timestamp,
}

/// The tombstone for an entry, if it has a value.
fn departure<K: Key, V: Value>(record: &Record<K, V>, guard: &Guard<'_>) -> Option<Stub<V>> {
    let leaving = NonNull::from(record.newest_value(guard)?);
    let over = record.newest_written(guard)?;
    Some(Stub { boxed: Version::departure(over), leaving, over })
}

/// The cold version for an entry, if its value is in memory, takes more room there than that
/// version does, and is in the files. Buffers are for the key and for a block.
fn cold<K: Key, V: Value>(
    table: &Table<K, V>,
    files: &Files,
    record: &Record<K, V>,
    (key, block): &mut (Vec<u8>, Vec<u8>),
    guard: &Guard<'_>,
) -> Option<Stub<V>> {
    let version = record.newest_value(guard).filter(|version| !version.is_cold())?;
    if table.weigher().version(version) <= Weigher::<K, V>::cold() {
        return None;
    }
    let over = record.newest_written(guard)?;
    let codec = &table.stored()?.codec;
    let find = || {
        key.clear();
        let encoded = (codec.encode_key)(record.key(), Encoder::new(key));
        if encoded.is_ok() { files.find(codec, key, over, block) } else { Ok(None) }
    };
    // The user's code: a panic in it must not cost the others their places in the rings.
    match catch_unwind(AssertUnwindSafe(find)).unwrap_or(Ok(None)) {
        Ok(place) => {
            let (boxed, leaving) = (Version::cold(over, place?), NonNull::from(version));
            Some(Stub { boxed, leaving, over })
        }
        Err(error) => {
            // What cannot be read back stays in memory.
            tracing::error!(%error, "a value is not let go of, since its file is damaged");
            None
        }
    }
}

/// What is put on an entry that leaves: where there are files, its value leaves, and its key stays.
fn leave<K: Key, V: Value>(
    table: &Table<K, V>,
    files: Option<&Files>,
    record: &Record<K, V>,
    buffers: &mut (Vec<u8>, Vec<u8>),
    guard: &Guard<'_>,
) -> Option<Stub<V>> {
    match files {
        None => departure(record, guard),
        Some(files) => cold(table, files, record, buffers, guard),
    }
}

struct One<K: Key, V: Value> {
    record: NonNull<Record<K, V>>,
    /// What leaves.
    version: NonNull<Version<V>>,
    stub: NonNull<Version<V>>,
    /// Came out of a ring, to which it goes back if it stays.
    from_ring: bool,
    cause: Departure,
}

/// The batch of one table.
pub(crate) struct Batch<'t, K: Key, V: Value> {
    table: &'t Table<K, V>,
    ones: Vec<One<K, V>>,
    asked: usize,
    search: Search,
    departed: usize,
}

/// Chooses what leaves and puts the stubs on.
pub(super) fn depart<'t, K: Key, V: Value>(
    table: &'t Table<K, V>,
    wanted: Wanted,
    owner: *const Status,
    guard: &Guard<'_>,
) -> Batch<'t, K, V> {
    let mut batch = Batch { table, ones: Vec::new(), asked: 0, search: Search::NONE, departed: 0 };
    match wanted {
        Wanted::Room(bytes) => batch.make_room(bytes, owner, guard),
        Wanted::Expired(budget) => batch.find_expired(budget, owner, guard),
    }
    batch
}

/// Puts a stub on one entry, if it is there and has a value; a durable one if that is in the files.
pub(crate) fn depart_one<'t, K: Key, V: Value>(
    table: &'t Table<K, V>,
    record: Option<&Record<K, V>>,
    owner: *const Status,
    guard: &Guard<'_>,
) -> Batch<'t, K, V> {
    let mut batch = Batch { table, ones: Vec::new(), asked: 0, search: Search::NONE, departed: 0 };
    let Some(record) = record else { return batch };
    // Held until the stub is in its chain (shelf invariant 3).
    let files = table.shelf().map(Shelf::files);
    if let Some(stub) = leave(table, files.as_deref(), record, &mut Default::default(), guard) {
        batch.add(record, &stub, Departure::Asked, false, owner, guard);
    }
    batch
}

impl<K: Key, V: Value> Batch<'_, K, V> {
    fn make_room(&mut self, bytes: u64, owner: *const Status, guard: &Guard<'_>) {
        let Some(residence) = self.table.residence() else { return };
        let mut picked = Picked::<Tenant<K, V>>::default();
        residence.keeper.pick(bytes, &mut picked);
        residence.strike(picked.gone);
        // Held until every stub is in its chain (shelf invariant 3).
        let files = self.table.shelf().map(Shelf::files);
        let mut buffers = (Vec::new(), Vec::new());
        self.asked = picked.victims.len();
        for victim in picked.victims {
            let record = victim.record(guard);
            let stub = leave(self.table, files.as_deref(), record, &mut buffers, guard);
            let left = stub.is_some_and(|stub| {
                self.add(record, &stub, Departure::Evicted, true, owner, guard)
            });
            if !left {
                residence.keeper.readmit(victim);
            }
        }
    }

    fn find_expired(&mut self, budget: usize, owner: *const Status, guard: &Guard<'_>) {
        let Some(expired) = self.table.expired() else { return };
        let (found, search) = self.table.next_expired(&expired, (BATCH, budget), guard);
        self.search = search;
        for record in found {
            if let Some(stub) = departure(record, guard) {
                self.add(record, &stub, Departure::Expired, false, owner, guard);
            }
        }
    }

    /// Puts a stub on a record, if what the stub is for is still on top; frees it if not.
    fn add(
        &mut self,
        record: &Record<K, V>,
        stub: &Stub<V>,
        cause: Departure,
        from_ring: bool,
        owner: *const Status,
        guard: &Guard<'_>,
    ) -> bool {
        let &Stub { boxed: stub, leaving: version, over } = stub;
        // SAFETY: found under the guard.
        let leaving = unsafe { version.as_ref() };
        // SAFETY: leaked just now.
        unsafe { stub.as_ref() }.mark_pending(owner);
        let is_pinned = self.table.has_keeper() && leaving.heat() == PINNED;
        let stays = is_pinned && cause == Departure::Evicted;
        let is_same = record.newest_written(guard) == Some(over);
        if stays || !is_same || !record.depart(leaving, stub, !from_ring, guard) {
            // SAFETY: nobody else has seen it.
            unsafe { Version::free(stub.as_ptr()) };
            return false;
        }
        if self.table.shelf().is_none() {
            let weigher = self.table.weigher();
            self.departed += weigher.record(record.key()) + weigher.boxed(None);
        }
        let record = NonNull::from(record);
        self.ones.push(One { record, version, stub, from_ring, cause });
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

    fn asked(&self) -> usize {
        self.asked
    }

    fn search(&self) -> Search {
        self.search
    }

    fn departed(&self) -> usize {
        self.departed
    }

    fn settle(&mut self, commit: Timestamp) {
        for one in &self.ones {
            // SAFETY: the tombstone is linked and undecided, hence alive.
            unsafe { one.stub.as_ref() }.settle(commit, 0);
        }
    }

    fn see_off(&mut self, needed: &Needed, guard: &Guard<'_>) -> SeenOff {
        let table = self.table;
        let weigher = table.weigher();
        let mut seen_off =
            SeenOff { entries: self.ones.len() as u64, asked: self.asked, ..SeenOff::NOTHING };
        seen_off.search = self.search;
        let (mut delta, mut pruned) = (Delta::default(), 0);
        for one in &self.ones {
            // SAFETY: a record whose newest version is this young does not die.
            let record = unsafe { one.record.as_ref() };
            let weight = weigher.record(record.key());
            // SAFETY: the guard was made before the version was found, so it is still there.
            let version = weigher.version(unsafe { one.version.as_ref() });
            let cut = record.thin(needed, |version| weigher.version(version), guard);
            delta.retained -= signed(cut.bytes);
            pruned += cut.versions as u64;
            if table.shelf().is_some() {
                delta.supersede(version);
                delta.live += signed(Weigher::<K, V>::cold());
                seen_off.bytes += cut.bytes.saturating_sub(Weigher::<K, V>::cold()) as u64;
                if cut.versions == 0 {
                    table.note_parted(record.key());
                }
                continue;
            }
            delta.depart(weight, weigher.boxed(None), version);
            if cut.versions > 0 {
                seen_off.bytes += (weight + cut.bytes) as u64;
            }
            table.note_dead(record);
        }
        table.account().add(delta);
        seen_off.retained = seen_off.entries.wrapping_sub(pruned);
        self.tell();
        seen_off
    }

    fn release(&mut self, guard: &Guard<'_>) {
        let weigh = |version: &Version<V>| self.table.weigher().version(version);
        for one in std::mem::take(&mut self.ones) {
            // SAFETY: a record with an undecided head does not die.
            let record = unsafe { one.record.as_ref() };
            record.release(one.stub, Taken::default(), weigh, guard);
            let residence = self.table.residence().filter(|_| one.from_ring);
            if let Some(residence) = residence.filter(|_| record.mark_enrolled()) {
                residence.keeper.readmit(residence.tenant(record));
            }
        }
    }
}

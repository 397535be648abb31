//! One version of one value, and the stamp that says when it was committed.
//!
//! ```text
//! head -> [9 put c] -> [5 tombstone] -> [2 put a] -> null
//!           ^ snapshot 10  ^ snapshot 7     ^ snapshot 4
//! ```
//!
//! A stamp is either a commit timestamp or, while its transaction is committing, a pointer to that
//! transaction's [`Status`]; the kind of the version, three bits, rides along in both forms:
//!
//! ```text
//! settled   | heat (8 bits) | timestamp (52) | kind | 0 |
//! pending   | address of a Status            | kind | 1 |
//! vacant    | all ones                       | kind | 0 |    the kind is EMBEDDED
//! ```
//!
//! Heat is what eviction knows of an entry's use; a reader who finds an entry has the stamp at
//! hand. Behind versions of four kinds stands more: see [`extension`](super::extension).
//!
//! 1. Commit timestamps fall along a chain; only its newest version may be uncommitted.
//! 2. The value of a linked version never changes. It is dropped when the version is, and an
//!    embedded version (one that lives inside its record) becomes vacant instead.
//! 3. A pending stamp points at a status that outlives every pin taken while the stamp was
//!    readable: its node is retired only after the stamp was settled or the version unlinked.
//! 4. `prev` is changed by whoever links the version, before it is linked; later by swapping null
//!    into it, and then whoever swaps a pointer out owns what it leads to; and by `pass_over` and
//!    `replace_older`, while nobody else cuts this chain, and then the caller owns the version that
//!    was taken out.
//! 5. Once settled, a stamp changes by its heat alone, until its version is vacant.
//!
//! Called by [`Record`](crate::mvcc::record::Record), by write sets, and by what makes room.

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::epoch::prefetch::prefetch;
use crate::id::Timestamp;
use crate::slab::Boxed;
use crate::ssi::Status;
use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

const PENDING: usize = 0b0001;
const KIND: usize = 0b1110;
const TAGS: usize = KIND | PENDING;
const SHIFT: u32 = 4;

/// What a version is, as it stands in its stamp.
pub(super) mod kind {
    /// A value in a box of its own.
    pub(in crate::mvcc) const BOXED: usize = 0b0000;
    /// The key is not there.
    pub(in crate::mvcc) const TOMBSTONE: usize = 0b0010;
    /// A value inside its record.
    pub(in crate::mvcc) const EMBEDDED: usize = 0b0100;
    /// A value with a deadline of its own.
    pub(in crate::mvcc) const TIMED: usize = 0b1000;
    /// The tombstone of an entry that left by itself.
    pub(in crate::mvcc) const DEPARTED: usize = 0b1010;
    /// A value that is in the files, and not in memory.
    pub(in crate::mvcc) const COLD: usize = 0b1100;
    /// A value that was read back from the files.
    pub(in crate::mvcc) const FETCHED: usize = 0b1110;
}
use kind::{BOXED, COLD, DEPARTED, EMBEDDED, FETCHED, TIMED, TOMBSTONE};

const HEAT_SHIFT: u32 = 56;
/// The bits of a settled stamp that hold the timestamp.
const TIME: usize = ((1 << HEAT_SHIFT) - 1) & !TAGS;
/// The settled stamp of no timestamp: nothing is here that is still to be dropped.
const VACANT: usize = !TAGS | EMBEDDED;
/// Later than every snapshot: the stamp of a version before its transaction commits.
const UNSTAMPED: usize = TIME;

const _: () = assert!(usize::BITS == 64, "stamps pack 52-bit timestamps into pointers");
const _: () = assert!(
    Timestamp::BITS + SHIFT == HEAT_SHIFT && HEAT_SHIFT + u8::BITS == 64,
    "heat, a timestamp and the tags fill a stamp"
);

/// A value or a tombstone, the moment it was committed, and the version before it.
///
/// What a reader of the newest version looks at comes first, next to the record's head if the
/// version is embedded.
#[repr(C)]
pub(crate) struct Version<V> {
    stamp: AtomicPtr<Status>,
    value: UnsafeCell<MaybeUninit<V>>,
    prev: AtomicPtr<Version<V>>,
}

/// What a stamp says about its version's commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    At(Timestamp),
    /// Its transaction is still committing, or gave up and has not yet unlinked it.
    Undecided,
}

impl<V> Version<V> {
    /// A version that no reader can see yet: `None` is a tombstone.
    pub(crate) fn unstamped(value: Option<V>) -> Self {
        let kind = if value.is_none() { TOMBSTONE } else { BOXED };
        Self::of_kind(value, kind)
    }

    /// Like [`unstamped`](Self::unstamped), in a box of its own.
    pub(crate) fn boxed(value: Option<V>) -> NonNull<Self> {
        Boxed::leak(Boxed::new(Self::unstamped(value)))
    }

    /// Like [`unstamped`](Self::unstamped), for the slot inside a record.
    pub(crate) fn embedded(value: V) -> Self {
        Self::of_kind(Some(value), EMBEDDED)
    }

    /// The slot of a record whose first version lives elsewhere.
    pub(crate) fn vacant() -> Self {
        Self {
            stamp: AtomicPtr::new(ptr::without_provenance_mut(VACANT)),
            prev: AtomicPtr::new(ptr::null_mut()),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// A version of a kind that has a value if there is one.
    pub(super) fn of_kind(value: Option<V>, kind: usize) -> Self {
        Self {
            stamp: AtomicPtr::new(ptr::without_provenance_mut(UNSTAMPED | kind)),
            prev: AtomicPtr::new(ptr::null_mut()),
            value: UnsafeCell::new(value.map_or_else(MaybeUninit::uninit, MaybeUninit::new)),
        }
    }

    fn stamp(&self) -> *mut Status {
        // Acquire: pairs with the Release in `settle`; whoever reads a timestamp sees the status
        // decided, and pairs with the CAS that linked the version for everything before it.
        self.stamp.load(Ordering::Acquire)
    }

    /// Says who is committing this version. Called before it is linked.
    pub(crate) fn mark_pending(&self, owner: *const Status) {
        let tags = self.stamp().addr() & KIND;
        assert!(owner.addr() & TAGS == 0, "a status is aligned to 16 bytes");
        // Relaxed: the version is private until the CAS that links it.
        self.stamp.store(owner.cast_mut().map_addr(|a| a | tags | PENDING), Ordering::Relaxed);
    }

    /// Replaces the pointer to the owner by its commit timestamp, so that the owner may go.
    pub(crate) fn settle(&self, commit: Timestamp, heat: u8) {
        let tags = self.stamp().addr() & KIND;
        let raw = usize::try_from(commit.get()).expect("a usize has 64 bits") << SHIFT;
        let heat = usize::from(heat) << HEAT_SHIFT;
        // Release: pairs with the Acquire in `stamp`.
        self.stamp.store(ptr::without_provenance_mut(heat | raw | tags), Ordering::Release);
    }

    /// The heat of a settled version.
    pub(crate) fn heat(&self) -> u8 {
        u8::try_from(self.stamp().addr() >> HEAT_SHIFT).expect("eight bits are left")
    }

    /// Changes the heat to what `warm` answers, if it does; not if the stamp changes meanwhile:
    /// a hit may get lost. The caller holds a pin and has found the version settled.
    #[inline]
    pub(crate) fn warm(&self, warm: impl FnOnce(u8) -> Option<u8>) {
        // Relaxed: heat is an estimate and orders nothing.
        let stamp = self.stamp.load(Ordering::Relaxed);
        if stamp.addr() & PENDING != 0 || stamp.addr() == VACANT {
            return;
        }
        let heat = u8::try_from(stamp.addr() >> HEAT_SHIFT).expect("eight bits are left");
        if let Some(heat) = warm(heat) {
            let heat = usize::from(heat) << HEAT_SHIFT;
            let warmer = stamp.map_addr(|raw| raw & !(usize::MAX << HEAT_SHIFT) | heat);
            // Relaxed: as above. An exchange continues the release sequence of `settle`, so who
            // finds the new stamp still sees what the old one published; it fails on a stamp that
            // has become vacant or another version's (keeps 5).
            let _ =
                self.stamp.compare_exchange(stamp, warmer, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// When this version was committed. The caller holds a pin taken before it found the version.
    pub(crate) fn commit(&self) -> Commit {
        let stamp = self.stamp();
        if stamp.addr() & PENDING == 0 {
            return Commit::At(Timestamp::from_raw(((stamp.addr() & TIME) >> SHIFT) as u64));
        }
        let status = stamp.map_addr(|a| a & !TAGS).cast_const();
        // SAFETY: a pending stamp holds the address of a live status, and the caller's pin keeps
        // it alive (3, kept by the commit pipeline, which retires nodes after settling stamps).
        let status = unsafe { &*status };
        status.committed().map_or(Commit::Undecided, Commit::At)
    }

    pub(crate) fn is_visible_at(&self, snapshot: Timestamp) -> bool {
        matches!(self.commit(), Commit::At(commit) if commit <= snapshot)
    }

    pub(super) fn kind(&self) -> usize {
        self.stamp().addr() & KIND
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        matches!(self.kind(), TOMBSTONE | DEPARTED)
    }

    /// Whether this is the tombstone of an entry that left by itself.
    pub(crate) fn is_departure(&self) -> bool {
        self.kind() == DEPARTED
    }

    /// Whether there is a value, and it is in the files only.
    pub(crate) fn is_cold(&self) -> bool {
        self.kind() == COLD
    }

    /// Whether there is no value in memory.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.kind(), TOMBSTONE | DEPARTED | COLD)
    }

    /// Whether its owner has not settled it yet, even if it has committed.
    pub(crate) fn is_pending(&self) -> bool {
        self.stamp().addr() & PENDING != 0
    }

    /// Whether something stands behind the version, so that its box is a larger one.
    pub(crate) fn is_extended(&self) -> bool {
        matches!(self.kind(), TIMED | DEPARTED | COLD | FETCHED)
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.kind() == EMBEDDED
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.stamp().addr() == VACANT
    }

    /// The value; `None` for a tombstone, and for a value that is in the files only. The caller
    /// found this version in a chain.
    ///
    /// A version may turn vacant while its finder still reads it, so the vacant mark is not
    /// looked at: the bytes of the value stay until every pin of that time has ended.
    pub(crate) fn value(&self) -> Option<&V> {
        if self.is_gone() {
            return None;
        }
        // SAFETY: a version in a chain of another kind was built with a value, which no one
        // changes or drops while the version can be reached (2).
        Some(self.value.with(|value| unsafe { &*value.cast::<V>() }))
    }

    /// Moves the value out and leaves the version vacant. `None` if there is none.
    pub(crate) fn take_value(&mut self) -> Option<V> {
        if self.is_gone() || self.is_vacant() {
            return None;
        }
        self.vacate();
        // SAFETY: the version held a value, is vacant from here on, and `&mut self` says that no
        // reader is left (2).
        Some(self.value.with_mut(|value| unsafe { value.cast::<V>().read() }))
    }

    fn vacate(&self) {
        // Release: pairs with the Acquire in `stamp`; whoever sees the slot vacant may free it.
        self.stamp.store(ptr::without_provenance_mut(VACANT), Ordering::Release);
    }

    /// Drops the value of an embedded version in place, once no reader can hold it.
    ///
    /// # Safety
    ///
    /// The version is embedded and unlinked, every pin that could have found it has ended, and
    /// nobody else drops its value.
    pub(crate) unsafe fn drop_embedded(this: *const Self) {
        // SAFETY: the record that contains the version outlives the borrow: it does not die while
        // its embedded version is out of the chain and not vacant (record invariant 4).
        let this = unsafe { &*this };
        debug_assert!(this.is_embedded() && !this.is_vacant(), "dropped once, and embedded");
        // SAFETY: an embedded version is built with a value, and the caller says it is the only
        // one to drop it.
        let value = this.value.with_mut(|value| unsafe { value.cast::<V>().read() });
        // Vacant before the drop: from here on the record may go, and a `Drop` that panics does
        // not run twice.
        this.vacate();
        drop(value);
    }

    /// Makes an embedded version vacant at once, where its value needs no drop.
    pub(crate) fn forget_embedded(&self) {
        debug_assert!(!std::mem::needs_drop::<V>(), "a value that needs its drop waits for it");
        self.vacate();
    }

    pub(crate) fn prev(&self) -> *mut Version<V> {
        // Acquire: pairs with the CAS on the head that once published the older version.
        self.prev.load(Ordering::Acquire)
    }

    /// Asks for the memory of the older version, which a commit on top of this one will prune.
    pub(crate) fn prefetch_older(&self) {
        // Relaxed: the address is not followed.
        prefetch(self.prev.load(Ordering::Relaxed));
    }

    /// Becomes what `other` is to readers: committed at the same moment, on top of the same older
    /// version. Called before this one is linked in the place of the other, which is settled, while
    /// nobody cuts the chain.
    pub(super) fn stand_for(&self, other: &Self) {
        // Relaxed: the caller found the other settled; this one is published when it is linked.
        let stamp = other.stamp.load(Ordering::Relaxed).addr() & TIME | self.kind();
        self.stamp.store(ptr::without_provenance_mut(stamp), Ordering::Relaxed);
        self.stand_on(other.prev());
    }

    /// Puts `new` in the place of the version below this one, while nobody else cuts the chain. The
    /// caller owns what was below.
    pub(super) fn replace_older(&self, new: *mut Self) {
        // Release: pairs with the Acquire in `prev`.
        self.prev.store(new, Ordering::Release);
    }

    /// Sets what this version will stand on. Called before it is linked.
    pub(crate) fn stand_on(&self, older: *mut Version<V>) {
        // Relaxed: published by the CAS that links this version.
        self.prev.store(older, Ordering::Relaxed);
    }

    /// Takes the next older version out of the chain, and answers the one behind it, which is the
    /// next older now. Nobody else cuts the chain meanwhile, and the caller owns what was passed
    /// over (4). Readers who are there already go on from it.
    pub(crate) fn pass_over(&self, older: &Self) -> *mut Version<V> {
        let behind = older.prev();
        // Release: pairs with the Acquire in `prev`; what is behind was published long ago.
        self.prev.store(behind, Ordering::Release);
        behind
    }

    /// Cuts everything older off and hands it to the caller (4).
    pub(crate) fn cut(&self) -> *mut Version<V> {
        if self.prev().is_null() {
            return ptr::null_mut();
        }
        // AcqRel: the one who takes the tail sees all of it, and readers who find null here see
        // that a newer version is in place.
        self.prev.swap(ptr::null_mut(), Ordering::AcqRel)
    }
}

impl<V> Drop for Version<V> {
    fn drop(&mut self) {
        drop(self.take_value());
    }
}

// SAFETY: a version is reached from several threads at once; they share the value only by
// reference (V: Sync), and the last owner may drop it on any thread (V: Send).
unsafe impl<V: Send + Sync> Sync for Version<V> {}
// SAFETY: as above; the raw pointers lead to other versions and a status, which are shared the
// same way.
unsafe impl<V: Send + Sync> Send for Version<V> {}

impl<V> std::fmt::Debug for Version<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("tombstone", &self.is_tombstone())
            .field("embedded", &self.is_embedded())
            .finish_non_exhaustive()
    }
}

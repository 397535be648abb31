//! One version of one value, and the stamp that says when it was committed.
//!
//! ```text
//! head -> [9 put c] -> [5 tombstone] -> [2 put a] -> null
//!           ^ snapshot 10  ^ snapshot 7     ^ snapshot 4
//! ```
//!
//! A stamp is either a commit timestamp or, while its transaction is committing, a pointer to that
//! transaction's [`Status`]; three tag bits ride along in both forms:
//!
//! ```text
//! settled   | heat (8 bits) | timestamp (52) | EXTENDED | EMBEDDED | TOMBSTONE | 0 |
//! pending   | address of a Status            | EXTENDED | EMBEDDED | TOMBSTONE | 1 |
//! vacant    | all ones                       |    0     |    1     |     0     | 0 |
//! ```
//!
//! Heat is what the eviction of a cache knows of an entry's use; a reader who finds an entry has
//! the stamp at hand. Behind an extended version stands more: behind a tombstone, when what left
//! by itself was written; behind a value, until when it may be read.
//!
//! 1. Commit timestamps fall along a chain; only its newest version may be uncommitted.
//! 2. The value of a linked version never changes. It is dropped when the version is, and an
//!    embedded version (one that lives inside its record) becomes vacant instead.
//! 3. A pending stamp points at a status that outlives every pin taken while the stamp was
//!    readable: its node is retired only after the stamp was settled or the version unlinked.
//! 4. `prev` is changed by whoever links the version, before it is linked; later by swapping null
//!    into it, and then whoever swaps a pointer out owns what it leads to; and by `pass_over`,
//!    while nobody else cuts this chain, and then the caller owns the version passed over.
//! 5. Once settled, a stamp changes by its heat alone, until its version is vacant.
//!
//! Called by [`Record`](crate::mvcc::record::Record), by write sets, and by what makes room.

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::time::Instant;

use crate::epoch::prefetch::prefetch;
use crate::id::Timestamp;
use crate::ssi::Status;
use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

const PENDING: usize = 0b001;
const TOMBSTONE: usize = 0b010;
const EMBEDDED: usize = 0b100;
const EXTENDED: usize = 0b1000;
const TAGS: usize = 0b1111;
const KEPT_TAGS: usize = TOMBSTONE | EMBEDDED | EXTENDED;
const SHIFT: u32 = 4;
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

/// The tombstone of an entry that left by itself.
#[repr(C)]
struct Departed<V> {
    version: Version<V>,
    over: Timestamp,
}

/// A value with a deadline of its own.
#[repr(C)]
struct Timed<V> {
    version: Version<V>,
    deadline: Instant,
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
        Self::with_tags(value, 0)
    }

    /// Like [`unstamped`](Self::unstamped), in a box of its own.
    pub(crate) fn boxed(value: Option<V>) -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(Self::unstamped(value))))
    }

    /// A tombstone of an entry that leaves by itself, in a box of its own. It remembers when what
    /// leaves was committed.
    pub(crate) fn departure(over: Timestamp) -> NonNull<Self> {
        let version = Self::with_tags(None, EXTENDED);
        NonNull::from(Box::leak(Box::new(Departed { version, over }))).cast()
    }

    /// When what left was committed, if this is the tombstone of an entry that left by itself.
    ///
    /// # Safety
    ///
    /// `this` was found in a chain, and stays during the call.
    pub(crate) unsafe fn departed_over(this: *const Self) -> Option<Timestamp> {
        // SAFETY: the caller's promise.
        let is_departure = unsafe { &*this }.is_departure();
        // SAFETY: versions with the mark come from `departure`; the pointer in a chain is the
        // one of the whole box.
        is_departure.then(|| unsafe { (*this.cast::<Departed<V>>()).over })
    }

    /// A value that may be read until `deadline`, in a box of its own.
    pub(crate) fn timed(value: V, deadline: Instant) -> NonNull<Self> {
        let version = Self::with_tags(Some(value), EXTENDED);
        NonNull::from(Box::leak(Box::new(Timed { version, deadline }))).cast()
    }

    /// Until when the value may be read, if it has a deadline of its own.
    ///
    /// # Safety
    ///
    /// `this` was found in a chain, or came from [`timed`](Self::timed), and stays during the call.
    pub(crate) unsafe fn deadline(this: *const Self) -> Option<Instant> {
        // SAFETY: the caller's promise.
        let version = unsafe { &*this };
        let is_timed = version.is_extended() && !version.is_tombstone();
        // SAFETY: values with the mark come from `timed`; the pointer in a chain is the one of the
        // whole box.
        is_timed.then(|| unsafe { (*this.cast::<Timed<V>>()).deadline })
    }

    /// Frees a version that lives in a box of its own, and drops its value.
    ///
    /// # Safety
    ///
    /// `this` came from [`boxed`](Self::boxed), [`departure`](Self::departure) or
    /// [`timed`](Self::timed), and nobody uses it any more.
    pub(crate) unsafe fn free(this: *mut Self) {
        // SAFETY: the caller's promise.
        let version = unsafe { &*this };
        if version.is_departure() {
            // SAFETY: as in `departed_over`.
            drop(unsafe { Box::from_raw(this.cast::<Departed<V>>()) });
        } else if version.is_extended() {
            // SAFETY: as in `deadline`.
            drop(unsafe { Box::from_raw(this.cast::<Timed<V>>()) });
        } else {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(this) });
        }
    }

    /// The same, with the type forgotten.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free).
    pub(crate) unsafe fn free_erased(this: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { Self::free(this.cast()) };
    }

    /// Like [`unstamped`](Self::unstamped), for the slot inside a record.
    pub(crate) fn embedded(value: V) -> Self {
        Self::with_tags(Some(value), EMBEDDED)
    }

    /// The slot of a record whose first version lives elsewhere.
    pub(crate) fn vacant() -> Self {
        Self {
            stamp: AtomicPtr::new(ptr::without_provenance_mut(VACANT)),
            prev: AtomicPtr::new(ptr::null_mut()),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    fn with_tags(value: Option<V>, tags: usize) -> Self {
        let tombstone = if value.is_none() { TOMBSTONE } else { 0 };
        Self {
            stamp: AtomicPtr::new(ptr::without_provenance_mut(UNSTAMPED | tags | tombstone)),
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
        let tags = self.stamp().addr() & KEPT_TAGS;
        assert!(owner.addr() & TAGS == 0, "a status is aligned to 16 bytes");
        // Relaxed: the version is private until the CAS that links it.
        self.stamp.store(owner.cast_mut().map_addr(|a| a | tags | PENDING), Ordering::Relaxed);
    }

    /// Replaces the pointer to the owner by its commit timestamp, so that the owner may go.
    pub(crate) fn settle(&self, commit: Timestamp, heat: u8) {
        let tags = self.stamp().addr() & KEPT_TAGS;
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

    pub(crate) fn is_tombstone(&self) -> bool {
        self.stamp().addr() & TOMBSTONE != 0
    }

    /// Whether this is the tombstone of an entry that left by itself.
    pub(crate) fn is_departure(&self) -> bool {
        self.stamp().addr() & (EXTENDED | TOMBSTONE) == EXTENDED | TOMBSTONE
    }

    /// Whether its owner has not settled it yet, even if it has committed.
    pub(crate) fn is_pending(&self) -> bool {
        self.stamp().addr() & PENDING != 0
    }

    /// Whether something stands behind the version, so that its box is a larger one.
    pub(crate) fn is_extended(&self) -> bool {
        self.stamp().addr() & EXTENDED != 0
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.stamp().addr() & EMBEDDED != 0
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.stamp().addr() == VACANT
    }

    /// The value, or `None` for a tombstone. The caller found this version in a chain.
    ///
    /// A version may turn vacant while its finder still reads it, so the vacant mark is not
    /// looked at: the bytes of the value stay until every pin of that time has ended.
    pub(crate) fn value(&self) -> Option<&V> {
        if self.is_tombstone() {
            return None;
        }
        // SAFETY: a version in a chain that is no tombstone was built with a value, which no one
        // changes or drops while the version can be reached (2).
        Some(self.value.with(|value| unsafe { &*value.cast::<V>() }))
    }

    /// Moves the value out and leaves the version vacant. `None` for a tombstone.
    pub(crate) fn take_value(&mut self) -> Option<V> {
        if self.is_tombstone() || self.is_vacant() {
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
        // SAFETY: the record that contains the version outlives the borrow: a record is not
        // removed from the index before its embedded version is vacant (record invariant 4).
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

//! A record: one key of a table, and the chain of its versions.
//!
//! ```text
//! Record { key | head --> newest version -> ... -> oldest | first: a version in place }
//! ```
//!
//! The first version of a key lives inside its record, next to the key, so that a read of a value
//! that was never overwritten touches one place in memory.
//!
//! 1. A committing transaction puts its version on top of `head` by compare-and-swap and owns the
//!    head until it is decided: it may take the version off again. A sweep sets the DEAD bit by
//!    compare-and-swap on a head nobody owns. Nothing follows DEAD.
//! 2. A record with an undecided head belongs to that transaction: nobody else changes its head.
//! 3. Every record but a dead one shows the newest version at or below each registered snapshot:
//!    `prune` cuts only what no snapshot at or after the horizon can see.
//! 4. A record dies only when nobody can tell: its chain is empty, or a settled tombstone that
//!    whoever may write sees, above versions that no snapshot needs. Its first version is in the
//!    chain or vacant, so that nothing deferred still points into it.
//! 5. The ENROLLED bit of the head says that a ring of the bucket's keeper (see `evict`) holds the
//!    record's address; such a record does not die. Whoever takes the head for a value sets it;
//!    it goes when the ring lets go, which it may while a tombstone is on top.
//! 6. The THINNING bit of the head is set by whoever takes versions out of the middle of the chain
//!    or puts others in their place, for as long as that takes; nobody takes the head meanwhile.
//!    The chain is changed only while all its versions are settled, so that no committer cuts it,
//!    too. Whoever kills a record sets it likewise, where the chain must not change under him.
//!
//! Called by tables, write sets, and what makes room (`departure`); [`tenancy`](super::tenancy),
//! [`thinning`](super::thinning), [`exchange`](super::exchange) and [`death`](super::death) are
//! further parts of a record.

use std::ptr::{self, NonNull};

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry;
use crate::slab::Boxed;
use crate::sync::{AtomicPtr, Ordering};

pub(super) const DEAD: usize = 0b001;
pub(super) const ENROLLED: usize = 0b010;
pub(super) const THINNING: usize = 0b100;
pub(super) const TAGS: usize = DEAD | ENROLLED | THINNING;

/// The heat of an entry that is not evicted until it is unpinned.
pub(crate) const PINNED: u8 = u8::MAX;

/// A key and its versions. The head and what the newest version begins with lie side by side.
#[repr(C)]
pub(crate) struct Record<K, V> {
    key: K,
    pub(super) head: AtomicPtr<Version<V>>,
    first: Version<V>,
}

/// Why a transaction cannot put its version on top of a record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// Someone committed after the snapshot: the first committer wins.
    Newer(Timestamp),
    /// Another transaction is deciding about this record, or somebody is taking old versions out
    /// of it; it takes no user code to finish.
    Busy,
    /// The record left the index; the key must be looked up again.
    Dead,
}

/// What was on the head that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The bytes of the version that was the newest, if there was one.
    pub(crate) over: Option<usize>,
    /// Its heat, if it was a value.
    pub(crate) heat: Option<u8>,
    /// Whether it was the tombstone of an entry that left by itself.
    pub(crate) departed: bool,
    /// Whether the record is to be put into a ring, if the transaction commits (5).
    pub(crate) enrols: bool,
}

/// What a prune cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) versions: usize,
    pub(crate) bytes: usize,
    /// Versions that stay although they are newer than what the horizon needs.
    pub(crate) passed: usize,
    /// When the oldest version that stays below another was superseded; zero if somebody else was
    /// at work on the record.
    pub(crate) kept: Option<Timestamp>,
}

impl<K: Key, V: Value> Record<K, V> {
    /// A record with its first value in place. Nobody sees the value before the head is taken.
    pub(crate) fn with_value(key: K, value: V) -> Boxed<Self> {
        Self::boxed(key, Version::embedded(value))
    }

    /// A record whose first version will live elsewhere.
    pub(crate) fn placeholder(key: K) -> Boxed<Self> {
        Self::boxed(key, Version::vacant())
    }

    fn boxed(key: K, first: Version<V>) -> Boxed<Self> {
        Boxed::new(Self { key, head: AtomicPtr::new(ptr::null_mut()), first })
    }

    /// The version in place. Only whoever made the record may link or empty it.
    pub(crate) fn first(&self) -> &Version<V> {
        &self.first
    }

    /// Takes the value of a first version that was never linked.
    pub(crate) fn take_first(&mut self) -> Option<V> {
        self.first.take_value()
    }

    pub(super) fn head(&self) -> *mut Version<V> {
        // Acquire: pairs with the CAS in `take`; whoever finds a version sees it whole.
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn newest(&self) -> *mut Version<V> {
        untagged(self.head())
    }

    /// The version a snapshot sees: a value, a tombstone, or nothing at all.
    #[inline]
    pub(crate) fn visible_at<'g>(
        &'g self,
        snapshot: Timestamp,
        _pinned: &'g Guard<'_>,
    ) -> Option<&'g Version<V>> {
        let mut at = self.newest();
        // SAFETY: versions are retired through the collector that `_pinned` pins, after they were
        // unlinked (1, 3), so what the chain leads to under the pin stays until it ends.
        while let Some(version) = unsafe { at.as_ref() } {
            if version.is_visible_at(snapshot) {
                return Some(version);
            }
            at = version.prev();
        }
        None
    }

    /// Like [`visible_at`](Self::visible_at) for a reader that is not registered: `Err` says that
    /// the version it needs may have been pruned, and that it must take a newer snapshot.
    #[inline]
    pub(crate) fn visible_unregistered<'g>(
        &'g self,
        snapshot: Timestamp,
        _pinned: &'g Guard<'_>,
    ) -> Result<Option<&'g Version<V>>, Stale> {
        // SAFETY: as in `visible_at`.
        match unsafe { self.newest().as_ref() } {
            None => Ok(None),
            Some(newest) if newest.is_visible_at(snapshot) => Ok(Some(newest)),
            // What is below may have been cut off, or taken out so that something older shows:
            // even below an undecided version, which may have been decided by then.
            Some(_) => Err(Stale::Overtaken),
        }
    }

    /// Puts `version` on top as an undecided version of the transaction that it is marked with;
    /// `enrol` if it is a value that a ring is to know. An entry that left by itself is no rival:
    /// what it was written by counts. `weigh` measures what was on top.
    pub(crate) fn take(
        &self,
        version: NonNull<Version<V>>,
        snapshot: Timestamp,
        enrol: bool,
        weigh: impl Fn(&Version<V>) -> usize,
        pinned: &Guard<'_>,
    ) -> Result<Taken, TakeError> {
        loop {
            let head = self.head();
            if head.addr() & DEAD != 0 {
                return Err(TakeError::Dead);
            }
            if head.addr() & THINNING != 0 {
                return Err(TakeError::Busy);
            }
            Self::check_rivals(untagged(head), snapshot, pinned)?;
            // SAFETY: the caller's version is alive and not yet linked.
            unsafe { version.as_ref() }.stand_on(untagged(head));
            let tag = head.addr() & ENROLLED | if enrol { ENROLLED } else { 0 };
            // AcqRel: publishes the version; pairs with the Acquire in `head`. Success also
            // acquires what the older version's owner published.
            let linked = self.head.compare_exchange(
                head,
                version.as_ptr().map_addr(|a| a | tag),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if linked.is_ok() {
                // SAFETY: as in `visible_at`.
                let below = unsafe { untagged(head).as_ref() };
                return Ok(Taken {
                    over: below.map(&weigh),
                    heat: below.filter(|it| !it.is_tombstone()).map(Version::heat),
                    departed: below.is_some_and(Version::is_departure),
                    enrols: enrol && head.addr() & ENROLLED == 0,
                });
            }
        }
    }

    /// Refuses if somebody is deciding about the chain, or wrote to it after the snapshot.
    fn check_rivals(
        newest: *mut Version<V>,
        snapshot: Timestamp,
        _pinned: &Guard<'_>,
    ) -> Result<(), TakeError> {
        // SAFETY: as in `visible_at`.
        let Some(version) = (unsafe { newest.as_ref() }) else { return Ok(()) };
        let Commit::At(commit) = version.commit() else { return Err(TakeError::Busy) };
        // SAFETY: as in `visible_at`.
        let written = unsafe { Version::over(newest) }.unwrap_or(commit);
        if written > snapshot { Err(TakeError::Newer(written)) } else { Ok(()) }
    }

    /// Takes the version off again, with the mark that it brought. Called by its owner, who gave
    /// up; nobody else changes the head until then, since the status never says committed.
    pub(crate) fn release(
        &self,
        version: NonNull<Version<V>>,
        taken: Taken,
        weigh: impl Fn(&Version<V>) -> usize,
        guard: &Guard<'_>,
    ) {
        // SAFETY: the owner's version is linked, hence alive.
        let below = unsafe { version.as_ref() }.prev();
        let stays = if taken.enrols { THINNING } else { THINNING | ENROLLED };
        loop {
            let mine = self.head();
            let owns = untagged(mine) == version.as_ptr();
            assert!(owns, "an undecided head belongs to its transaction");
            let after = below.map_addr(|a| a | mine.addr() & stays);
            // AcqRel: whoever finds the older version on top sees it as it was. Fails when somebody
            // marks the head, who waits for us.
            let off = self.head.compare_exchange(mine, after, Ordering::AcqRel, Ordering::Acquire);
            if off.is_ok() {
                break;
            }
        }
        // SAFETY: as above.
        Self::retire(version, weigh(unsafe { version.as_ref() }), guard);
    }

    /// Cuts what no snapshot at or after `horizon` can see, and measures it. Only for whoever has
    /// put a version on top and not settled it yet, and for whoever is alone with the table: others
    /// [`thin`](Self::thin).
    pub(crate) fn prune(
        &self,
        horizon: Timestamp,
        weigh: impl Fn(&Version<V>) -> usize,
        guard: &Guard<'_>,
    ) -> Pruned {
        let mut pruned = Pruned::default();
        let mut keep = self.newest();
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { keep.as_ref() }.filter(|it| !it.is_visible_at(horizon)) {
            keep = version.prev();
            pruned.passed += 1;
        }
        // SAFETY: as in `visible_at`.
        let Some(keep) = (unsafe { keep.as_ref() }) else { return pruned };
        let mut at = NonNull::new(keep.cut());
        while let Some(version) = at {
            // Several pruners may meet here; each takes the rest of the tail out of the version
            // before it retires it, so that every version is retired by exactly one.
            // SAFETY: whoever cut the tail owns it, and has not retired this part yet.
            at = NonNull::new(unsafe { version.as_ref() }.cut());
            // SAFETY: as above.
            let bytes = weigh(unsafe { version.as_ref() });
            Self::retire(version, bytes, guard);
            pruned.bytes += bytes;
            pruned.versions += 1;
        }
        pruned
    }

    /// Hands an unlinked version to the collector, and tells how many bytes wait with it.
    pub(super) fn retire(version: NonNull<Version<V>>, bytes: usize, guard: &Guard<'_>) {
        // SAFETY: the caller owns the unlinked version.
        let embedded = unsafe { version.as_ref() }.is_embedded();
        if !embedded {
            Self::retire_box(version, bytes, guard);
        } else if std::mem::needs_drop::<V>() {
            let first = version.as_ptr().cast::<u8>();
            // SAFETY: the version is unlinked and embedded, and the caller is the only one to
            // retire it; `drop_first` runs when every pin of today has ended. The record outlives
            // that, since it cannot die until its first version is vacant (4).
            unsafe { guard.defer(first, drop_first::<V>, bytes) };
        } else {
            // SAFETY: as above.
            unsafe { version.as_ref() }.forget_embedded();
        }
    }

    /// The same for a version outside of its record.
    fn retire_box(version: NonNull<Version<V>>, bytes: usize, guard: &Guard<'_>) {
        // SAFETY: the caller owns the unlinked version.
        if unsafe { version.as_ref() }.is_extended() {
            let free = Version::<V>::free_erased;
            // SAFETY: versions outside records come from a box; this one is unlinked, and the
            // caller is the only one to retire it.
            unsafe { guard.defer(version.as_ptr().cast(), free, bytes) };
        } else {
            // SAFETY: as above.
            unsafe { guard.retire_spare(version.as_ptr(), bytes) };
        }
    }

    /// Measures the versions of a record that is dead or about to die, newest first.
    pub(super) fn each_version(&self, mut see: impl FnMut(&Version<V>), _pinned: &Guard<'_>) {
        let mut at = self.newest();
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { at.as_ref() } {
            see(version);
            at = version.prev();
        }
    }

    /// The newest version, if it is a committed value.
    pub(crate) fn newest_value<'g>(&'g self, _pinned: &'g Guard<'_>) -> Option<&'g Version<V>> {
        // SAFETY: as in `visible_at`.
        let newest = unsafe { self.newest().as_ref() }?;
        let is_value = matches!(newest.commit(), Commit::At(_)) && !newest.is_tombstone();
        is_value.then_some(newest)
    }

    /// When somebody wrote the newest version: not when it left memory, or came back.
    pub(crate) fn newest_written(&self, _pinned: &Guard<'_>) -> Option<Timestamp> {
        let newest = self.newest();
        // SAFETY: as in `visible_at`.
        let Commit::At(commit) = (unsafe { newest.as_ref() })?.commit() else { return None };
        // SAFETY: as in `visible_at`; the pointer is the one of the chain.
        Some(unsafe { Version::over(newest) }.unwrap_or(commit))
    }

    /// Whether there is a version below the newest.
    pub(crate) fn has_older(&self, _pinned: &Guard<'_>) -> bool {
        // SAFETY: as in `visible_at`.
        unsafe { self.newest().as_ref() }.is_some_and(|newest| !newest.prev().is_null())
    }

    /// Whether whoever looks from `horizon` sees the newest version, or there is none.
    pub(super) fn is_newest_at(&self, horizon: Timestamp, _pinned: &Guard<'_>) -> bool {
        // SAFETY: as in `visible_at`.
        unsafe { self.newest().as_ref() }.is_none_or(|newest| newest.is_visible_at(horizon))
    }

    /// Whether no value is on top: the record may be one to kill.
    pub(crate) fn is_empty(&self, _pinned: &Guard<'_>) -> bool {
        // SAFETY: as in `visible_at`.
        unsafe { self.newest().as_ref() }.is_none_or(Version::is_tombstone)
    }
}

pub(super) fn untagged<V>(head: *mut Version<V>) -> *mut Version<V> {
    head.map_addr(|address| address & !TAGS)
}

/// Why a snapshot that is not registered cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It has been overtaken: a newer one may do.
    Overtaken,
    /// The value is in the files only.
    Cold,
}

/// # Safety
///
/// As [`Version::drop_embedded`], with the version's address.
unsafe fn drop_first<V>(version: *mut u8) {
    // SAFETY: passed on to the caller.
    unsafe { Version::<V>::drop_embedded(version.cast()) };
}

impl<K: Key, V: Value> Entry for Record<K, V> {
    type Key = K;

    fn key(&self) -> &K {
        &self.key
    }

    fn is_dead(&self) -> bool {
        self.head().addr() & DEAD != 0
    }
}

impl<K, V> Drop for Record<K, V> {
    fn drop(&mut self) {
        // Relaxed: whoever drops a record is alone with it.
        let at = untagged(self.head.load(Ordering::Relaxed));
        Chain { at, end: &raw const self.first }.free();
    }
}

/// The versions of a dying record that live outside of it.
struct Chain<V> {
    at: *mut Version<V>,
    /// The version in place. It is dropped with the record's fields, and always the oldest.
    end: *const Version<V>,
}

impl<V> Chain<V> {
    fn free(&mut self) {
        while !self.at.is_null() && !ptr::eq(self.at, self.end) {
            let version = self.at;
            // SAFETY: the chain of a record that is being dropped belongs to it alone.
            self.at = unsafe { (*version).prev() };
            // SAFETY: as above, and versions outside a record come from a box.
            unsafe { Version::free(version) };
        }
    }
}

impl<V> Drop for Chain<V> {
    /// Goes on behind a version whose value panicked.
    fn drop(&mut self) {
        self.free();
    }
}

impl<K, V> std::fmt::Debug for Record<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

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
//! 4. A record dies only without a readable version: its chain is empty or one tombstone that
//!    every running transaction sees, and its first version is vacant, so that nothing deferred
//!    still points into it.
//!
//! Called by tables and write sets.

use std::ptr::{self, NonNull};

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry;
use crate::sync::{AtomicPtr, Ordering};

const DEAD: usize = 1;

/// A key and its versions. The head and what the newest version begins with lie side by side.
#[repr(C)]
pub(crate) struct Record<K, V> {
    key: K,
    head: AtomicPtr<Version<V>>,
    first: Version<V>,
}

/// Why a transaction cannot put its version on top of a record now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// Someone committed after the snapshot: the first committer wins.
    Newer(Timestamp),
    /// Another transaction is deciding about this record; it takes no user code to finish.
    Busy,
    /// The record left the index; the key must be looked up again.
    Dead,
}

/// What a prune cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) versions: usize,
}

#[expect(clippy::unnecessary_box_returns, reason = "a record's address must not change")]
impl<K: Key, V: Value> Record<K, V> {
    /// A record with its first value in place. Nobody sees the value before the head is taken.
    pub(crate) fn with_value(key: K, value: V) -> Box<Self> {
        Self::boxed(key, Version::embedded(value))
    }

    /// A record whose first version will live elsewhere.
    pub(crate) fn placeholder(key: K) -> Box<Self> {
        Self::boxed(key, Version::vacant())
    }

    fn boxed(key: K, first: Version<V>) -> Box<Self> {
        Box::new(Self { key, head: AtomicPtr::new(ptr::null_mut()), first })
    }

    /// The version in place. Only whoever made the record may link or empty it.
    pub(crate) fn first(&self) -> &Version<V> {
        &self.first
    }

    /// Takes the value of a first version that was never linked.
    pub(crate) fn take_first(&mut self) -> Option<V> {
        self.first.take_value()
    }

    fn head(&self) -> *mut Version<V> {
        // Acquire: pairs with the CAS in `take`; whoever finds a version sees it whole.
        self.head.load(Ordering::Acquire)
    }

    fn newest(&self) -> *mut Version<V> {
        self.head().map_addr(|a| a & !DEAD)
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
        let mut at = self.newest();
        let mut passed_over = false;
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { at.as_ref() } {
            if version.is_visible_at(snapshot) {
                return Ok(Some(version));
            }
            // Even if it was undecided when it was passed: it may have been decided, and the rest
            // of the chain cut off, before the next step.
            passed_over = true;
            at = version.prev();
        }
        if passed_over { Err(Stale) } else { Ok(None) }
    }

    /// Puts `version` on top as an undecided version of the transaction that it is marked with.
    /// Answers whether it stands on an older one.
    pub(crate) fn take(
        &self,
        version: NonNull<Version<V>>,
        snapshot: Timestamp,
        _pinned: &Guard<'_>,
    ) -> Result<bool, TakeError> {
        loop {
            let head = self.head();
            if head.addr() & DEAD != 0 {
                return Err(TakeError::Dead);
            }
            // SAFETY: as in `visible_at`.
            if let Some(newest) = unsafe { head.as_ref() } {
                match newest.commit() {
                    Commit::At(commit) if commit > snapshot => {
                        return Err(TakeError::Newer(commit));
                    }
                    Commit::At(_) => {}
                    Commit::Undecided => return Err(TakeError::Busy),
                }
            }
            // SAFETY: the caller's version is alive and not yet linked.
            unsafe { version.as_ref() }.stand_on(head);
            // AcqRel: publishes the version; pairs with the Acquire in `head`. Success also
            // acquires what the older version's owner published.
            let linked = self.head.compare_exchange(
                head,
                version.as_ptr(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if linked.is_ok() {
                return Ok(!head.is_null());
            }
        }
    }

    /// Takes the version off again. Called by its owner, who gave up; nobody else changes the
    /// head until then, since the status never says committed.
    pub(crate) fn release(&self, version: NonNull<Version<V>>, guard: &Guard<'_>) {
        // SAFETY: the owner's version is linked, hence alive.
        let below = unsafe { version.as_ref() }.prev();
        // AcqRel: whoever finds the older version on top sees it as it was.
        let mine = self.head.swap(below, Ordering::AcqRel);
        assert!(mine == version.as_ptr(), "an undecided head belongs to its transaction");
        Self::retire(version, guard);
    }

    /// Cuts what no snapshot at or after `horizon` can see.
    pub(crate) fn prune(&self, horizon: Timestamp, guard: &Guard<'_>) -> Pruned {
        let Some(keep) = self.visible_at(horizon, guard) else { return Pruned::default() };
        let mut pruned = Pruned::default();
        let mut at = NonNull::new(keep.cut());
        while let Some(version) = at {
            // Several pruners may meet here; each takes the rest of the tail out of the version
            // before it retires it, so that every version is retired by exactly one.
            // SAFETY: whoever cut the tail owns it, and has not retired this part yet.
            at = NonNull::new(unsafe { version.as_ref() }.cut());
            Self::retire(version, guard);
            pruned.versions += 1;
        }
        pruned
    }

    /// Hands an unlinked version to the collector.
    fn retire(version: NonNull<Version<V>>, guard: &Guard<'_>) {
        // SAFETY: the caller owns the unlinked version.
        let embedded = unsafe { version.as_ref() }.is_embedded();
        if !embedded {
            // SAFETY: versions outside records come from a box; this one is unlinked, and the
            // caller is the only one to retire it.
            unsafe { guard.retire_spare(version.as_ptr(), size_of::<Version<V>>()) };
        } else if std::mem::needs_drop::<V>() {
            let first = version.as_ptr().cast::<u8>();
            // SAFETY: the version is unlinked and embedded, and the caller is the only one to
            // retire it; `drop_first` runs when every pin of today has ended. The record outlives
            // that, since it cannot die before its first version is vacant (4).
            unsafe { guard.defer(first, drop_first::<V>, size_of::<Version<V>>()) };
        } else {
            // SAFETY: as above.
            unsafe { version.as_ref() }.forget_embedded();
        }
    }

    /// Kills the record when nobody at or after `horizon` can read anything from it (4).
    pub(crate) fn kill(&self, horizon: Timestamp, _pinned: &Guard<'_>) -> bool {
        let head = self.head();
        if head.addr() & DEAD != 0 || !self.first.is_vacant() {
            return false;
        }
        // SAFETY: as in `visible_at`.
        if let Some(only) = unsafe { head.as_ref() } {
            let gone = only.is_tombstone() && only.is_visible_at(horizon) && only.prev().is_null();
            if !gone {
                return false;
            }
        }
        self.bury(head)
    }

    /// Kills the record whatever it holds, for a table that nobody uses any more. False if a
    /// deferred drop still points into it.
    pub(crate) fn condemn(&self, _pinned: &Guard<'_>) -> bool {
        let head = self.head();
        if head.addr() & DEAD != 0 {
            return false;
        }
        let mut oldest = head;
        // SAFETY: as in `visible_at`.
        while let Some(below) = unsafe { oldest.as_ref() }.map(Version::prev)
            && !below.is_null()
        {
            oldest = below;
        }
        if !self.first.is_vacant() && !ptr::eq(oldest, &raw const self.first) {
            return false;
        }
        self.bury(head)
    }

    /// Sets the DEAD bit, unless the head has changed (1).
    fn bury(&self, head: *mut Version<V>) -> bool {
        let dead = head.map_addr(|a| a | DEAD);
        // AcqRel: from here on `take` answers Dead, and the record's own drop frees the chain.
        self.head.compare_exchange(head, dead, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether no value is on top: the record may be one to kill.
    pub(crate) fn is_empty(&self, _pinned: &Guard<'_>) -> bool {
        // SAFETY: as in `visible_at`.
        unsafe { self.newest().as_ref() }.is_none_or(Version::is_tombstone)
    }
}

/// A snapshot that is not registered has been overtaken.
#[derive(Debug)]
pub(crate) struct Stale;

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
        let at = self.head.load(Ordering::Relaxed).map_addr(|a| a & !DEAD);
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
            // SAFETY: versions outside a record come from a box, and the chain of a record that
            // is being dropped belongs to it alone.
            let version = unsafe { Box::from_raw(self.at) };
            self.at = version.prev();
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

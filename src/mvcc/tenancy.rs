//! A record as an entry of a cache: whether a ring holds it, how warm it is, and how it leaves.
//!
//! 1. The mark ENROLLED follows record invariant 5.
//! 2. Heat is that of the newest version; a version brings it along when it is written over.
//!
//! Called by `residents`, `departure` and tables.

use std::ptr::{self, NonNull};

use crate::epoch::Guard;
use crate::mvcc::expiry::Expired;
use crate::mvcc::record::{DEAD, ENROLLED, PINNED, Record, THINNING, untagged};
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::{Key, Value};
use crate::sync::Ordering;

impl<K: Key, V: Value> Record<K, V> {
    /// Says again that a ring is to hold the record; not if that is so already.
    pub(crate) fn mark_enrolled(&self) -> bool {
        loop {
            let head = self.head();
            if head.addr() & ENROLLED != 0 {
                return false;
            }
            let after = head.map_addr(|a| a | ENROLLED);
            // AcqRel: as in `take`.
            let marked =
                self.head.compare_exchange(head, after, Ordering::AcqRel, Ordering::Acquire);
            if marked.is_ok() {
                return true;
            }
        }
    }

    /// Takes the mark ENROLLED off if what is on top is decided and no value in memory: the ring
    /// that asks lets go of the record (5). The caller holds a pin.
    pub(crate) fn strike_enrolled(&self) -> bool {
        let head = self.head();
        // SAFETY: the caller's pin, as in `visible_at`.
        let is_gone = unsafe { untagged(head).as_ref() }
            .is_none_or(|newest| newest.is_gone() && matches!(newest.commit(), Commit::At(_)));
        let after = head.map_addr(|a| a & !ENROLLED);
        let strike = || {
            // AcqRel: as in `take`.
            self.head.compare_exchange(head, after, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        is_gone && strike()
    }

    /// Puts a version without a value on top of the newest one, if that is `expected`, and takes
    /// the mark ENROLLED off unless it is to stay.
    pub(crate) fn depart(
        &self,
        expected: &Version<V>,
        tombstone: NonNull<Version<V>>,
        stays_enrolled: bool,
        _pinned: &Guard<'_>,
    ) -> bool {
        let head = self.head();
        if head.addr() & (DEAD | THINNING) != 0 || !ptr::eq(untagged(head), expected) {
            return false;
        }
        // SAFETY: the caller's version is alive and not yet linked.
        unsafe { tombstone.as_ref() }.stand_on(untagged(head));
        let tag = if stays_enrolled { head.addr() & ENROLLED } else { 0 };
        let after = tombstone.as_ptr().map_addr(|a| a | tag);
        // AcqRel: as in `take`.
        self.head.compare_exchange(head, after, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the entry left by itself, and nobody has written it since.
    pub(super) fn has_departed(&self, _pinned: &Guard<'_>) -> bool {
        // SAFETY: as in `visible_at`.
        unsafe { self.newest().as_ref() }.is_some_and(Version::is_departure)
    }

    /// The heat of the newest version; `None` if that has no value in memory, and is decided. The
    /// caller holds a pin.
    pub(super) fn newest_heat(&self) -> Option<u8> {
        // SAFETY: the caller's pin, as in `visible_at`.
        let newest = unsafe { self.newest().as_ref() }?;
        match newest.commit() {
            Commit::Undecided => Some(0),
            Commit::At(_) if newest.is_gone() => None,
            Commit::At(_) => Some(newest.heat()),
        }
    }

    /// Changes the heat of the newest version, if it is decided. The caller holds a pin.
    pub(super) fn warm_newest(&self, warm: impl FnOnce(u8) -> Option<u8>) {
        // SAFETY: the caller's pin, as in `visible_at`.
        if let Some(newest) = unsafe { self.newest().as_ref() } {
            newest.warm(warm);
        }
    }

    /// Sets or takes back the heat of an entry that stays. Answers whether there is one.
    pub(crate) fn set_pinned(&self, pinned: bool, guard: &Guard<'_>) -> bool {
        loop {
            let newest = self.newest_value(guard).filter(|newest| !newest.is_cold());
            let Some(newest) = newest else { return false };
            let is_pinned = newest.heat() == PINNED;
            if is_pinned == pinned {
                return true;
            }
            // A hit at the same time may get in between: then once more.
            newest.warm(|_| Some(if pinned { PINNED } else { 0 }));
        }
    }

    /// Measures the newest version. The caller holds a pin.
    pub(super) fn newest_weight(&self, weigh: impl Fn(&Version<V>) -> usize) -> usize {
        // SAFETY: the caller's pin, as in `visible_at`.
        unsafe { self.newest().as_ref() }.map_or(0, weigh)
    }

    /// Whether a version of this record may not be read any more. A deadline of its own counts
    /// before what holds for the bucket.
    pub(crate) fn is_over(
        &self,
        version: &Version<V>,
        expired: &Expired,
        _pinned: &Guard<'_>,
    ) -> bool {
        let mut at = self.newest();
        // SAFETY: as in `visible_at`: the pointer of the chain, and not the reference, leads to
        // what stands behind the version.
        while let Some(other) = unsafe { at.as_ref() }.filter(|other| !ptr::eq(*other, version)) {
            at = other.prev();
        }
        // SAFETY: as in `visible_at`.
        let deadline = if at.is_null() { None } else { unsafe { Version::deadline(at) } };
        match deadline {
            Some(deadline) => deadline <= expired.now,
            None => expired.up_to.is_some_and(|up_to| version.is_visible_at(up_to)),
        }
    }
}

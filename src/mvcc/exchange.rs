//! Putting a version in the place of another one that is the same to readers: a value comes back
//! into memory, or has moved in the files.
//!
//! ```text
//! head ─► 9 ─► 7 cold ─► 3          a reader at 8 fetches what is cold
//! head ─► 9 ─► 7 value ─► 3
//! ```
//!
//! 1. What comes in has the stamp of what goes, and stands on the same older version. So no
//!    snapshot sees anything else, and what a reader was shown of older versions stays as long as
//!    it did.
//! 2. Only versions without a value in memory go, so no reader keeps a reference to one but under a
//!    pin.
//! 3. Nobody else changes the chain meanwhile: see record invariant 6. The wait for that is short:
//!    those who have put a version on top decide and settle it without running user code.
//!
//! Called by views that fetch, and by checkpoints.

use std::ptr::NonNull;

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::place::Place;
use crate::mvcc::record::{DEAD, ENROLLED, Record, TAGS, THINNING, untagged};
use crate::mvcc::thinning::Thinning;
use crate::mvcc::version::{Commit, Version};
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::sync::{Ordering, thread};

/// A value is back in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Landed {
    pub(crate) delta: Delta,
    /// Whether the record is to be put into a ring.
    pub(crate) enrols: bool,
}

impl<K: Key, V: Value> Record<K, V> {
    /// Where the value is that a snapshot sees, if it is in the files only.
    pub(crate) fn place_at(&self, snapshot: Timestamp, guard: &Guard<'_>) -> Option<Place> {
        let version = self.find_visible(snapshot, guard);
        // SAFETY: the pointer is one of the chain, or null; see `visible_at`.
        if version.is_null() { None } else { unsafe { Version::place(version) } }
    }

    /// The version that a snapshot sees, or null, by the pointer in the chain.
    fn find_visible(&self, snapshot: Timestamp, _pinned: &Guard<'_>) -> *mut Version<V> {
        let mut at = self.newest();
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { at.as_ref() }.filter(|it| !it.is_visible_at(snapshot)) {
            at = version.prev();
        }
        at
    }

    /// Puts a value that was read back in the place of the cold version that a snapshot sees.
    /// Gives it back if there is none any more. The caller's snapshot is registered.
    pub(crate) fn land(
        &self,
        snapshot: Timestamp,
        value: V,
        enrol: bool,
        weigh: impl Fn(&Version<V>) -> usize,
        guard: &Guard<'_>,
    ) -> Result<Landed, V> {
        let Some(held) = self.hold(guard) else { return Err(value) };
        let at = self.find_visible(snapshot, guard);
        // SAFETY: as in `visible_at`.
        let Some(cold) = unsafe { at.as_ref() }.filter(|version| version.is_cold()) else {
            drop(held);
            return Err(value);
        };
        // SAFETY: the pointer is one of the chain, and the guard keeps what it leads to.
        let over = unsafe { Version::over(at) }.expect("a cold version knows when it was written");
        let new = Version::fetched(value, over);
        // SAFETY: leaked just now.
        let bytes = signed(weigh(unsafe { new.as_ref() })) - signed(weigh(cold));
        let mut landed = Landed::default();
        if self.newest() == at {
            landed.delta.live = bytes;
            landed.enrols = self.exchange_newest(cold, new, enrol);
        } else {
            landed.delta.retained = bytes;
            self.exchange_older(cold, new, guard);
        }
        drop(held);
        // By the pointer of the chain, which is the one of the whole box.
        if let Some(gone) = NonNull::new(at) {
            // SAFETY: as in `visible_at`.
            let bytes = weigh(unsafe { gone.as_ref() });
            Self::retire(gone, bytes, guard);
        }
        Ok(landed)
    }

    /// Points cold versions of the value that a table has for this key to their place in that
    /// table, if where they are now `is_old`. Those of older values stay where they are, and keep
    /// their file.
    pub(crate) fn repoint(
        &self,
        place: &Place,
        is_old: impl Fn(&Place) -> bool,
        guard: &Guard<'_>,
    ) {
        let written = place.file.timestamp();
        if self.find_stale(written, &is_old, guard).is_null() {
            return;
        }
        let mut gone = Vec::new();
        let Some(held) = self.hold(guard) else { return };
        loop {
            let at = self.find_stale(written, &is_old, guard);
            // SAFETY: as in `visible_at`.
            let Some(cold) = (unsafe { at.as_ref() }) else { break };
            // SAFETY: as in `land`.
            let over = unsafe { Version::over(at) }.expect("a cold version knows its time");
            let new = Version::cold(over, place.clone());
            if self.newest() == at {
                self.exchange_newest(cold, new, false);
            } else {
                self.exchange_older(cold, new, guard);
            }
            gone.extend(NonNull::new(at));
        }
        drop(held);
        for cold in gone {
            Self::retire(cold, Weigher::<K, V>::cold(), guard);
        }
    }

    /// A cold version of the newest value, if that was written at or before `written`, in a place
    /// that `is_old`; or null.
    ///
    /// Of older values nobody knows whether a table has them: what stood between one of them and
    /// the newest, and was written by then, may have been taken out of the chain.
    fn find_stale(
        &self,
        written: Timestamp,
        is_old: &impl Fn(&Place) -> bool,
        _pinned: &Guard<'_>,
    ) -> *mut Version<V> {
        let (mut at, mut wanted) = (self.newest(), None);
        // SAFETY: as in `visible_at`.
        while let Some(version) = unsafe { at.as_ref() } {
            // SAFETY: as in `land`.
            let over = unsafe { Version::over(at) };
            let own = match (over, version.commit()) {
                (Some(over), _) => Some(over),
                (None, Commit::At(commit)) => Some(commit),
                // Not there any more when the chain is held.
                (None, Commit::Undecided) => None,
            };
            if let Some(own) = own {
                if own > written || *wanted.get_or_insert(own) != own {
                    break;
                }
                // SAFETY: as in `land`.
                let place = unsafe { Version::place(at) };
                if place.is_some_and(|place| is_old(&place)) {
                    return at;
                }
            }
            at = version.prev();
        }
        std::ptr::null_mut()
    }

    /// Keeps all others from changing the chain, until dropped. `None` if the record is dead.
    fn hold(&self, guard: &Guard<'_>) -> Option<Thinning<'_, V>> {
        loop {
            let head = self.head();
            if head.addr() & DEAD != 0 {
                return None;
            }
            let marked = head.map_addr(|a| a | THINNING);
            if head.addr() & THINNING == 0 {
                let marks =
                    // AcqRel: as in `take`.
                    self.head.compare_exchange(head, marked, Ordering::AcqRel, Ordering::Acquire);
                if marks.is_ok() {
                    break;
                }
            }
            thread::yield_now();
        }
        let held = Thinning(&self.head);
        let is_settled = || {
            let mut is_settled = true;
            self.each_version(|version| is_settled &= !version.is_pending(), guard);
            is_settled
        };
        while !is_settled() {
            thread::yield_now();
        }
        Some(held)
    }

    /// Puts `new` on top in the place of `old`. Answers whether this set the mark ENROLLED.
    fn exchange_newest(&self, old: &Version<V>, new: NonNull<Version<V>>, enrol: bool) -> bool {
        // SAFETY: the caller's new version is alive, and not linked yet.
        unsafe { new.as_ref() }.stand_for(old);
        loop {
            let head = self.head();
            assert!(std::ptr::eq(untagged(head), old), "nobody takes a head that is held");
            let tags = head.addr() & TAGS | if enrol { ENROLLED } else { 0 };
            let after = new.as_ptr().map_addr(|a| a | tags);
            // AcqRel: as in `take`. A ring may change its mark meanwhile.
            let put = self.head.compare_exchange(head, after, Ordering::AcqRel, Ordering::Acquire);
            if put.is_ok() {
                return enrol && head.addr() & ENROLLED == 0;
            }
        }
    }

    /// Puts `new` in the place of `old`, which is not the newest.
    fn exchange_older(&self, old: &Version<V>, new: NonNull<Version<V>>, guard: &Guard<'_>) {
        // SAFETY: as in `exchange_newest`.
        unsafe { new.as_ref() }.stand_for(old);
        let mut is_done = false;
        let see = |newer: &Version<V>| {
            if std::ptr::eq(newer.prev(), old) {
                newer.replace_older(new.as_ptr());
                is_done = true;
            }
        };
        self.each_version(see, guard);
        assert!(is_done, "a version that is held stays in its chain");
    }
}

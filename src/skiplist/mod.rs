//! The index: an ordered map from keys to entries that readers share.
//!
//! 1. An entry stays readable while a guard lives that was made before the entry was removed.
//!
//! `mvcc` uses it.

use crate::epoch::Guard;
use crate::sync::RwLock;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::ptr::NonNull;

/// What the index holds: something with a key that never changes.
pub(crate) trait Entry: Send + Sync + 'static {
    /// The key's type.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// The key; the same one at each call.
    fn key(&self) -> &Self::Key;
    /// Whether the entry is being removed. Once true it stays true, and readers pass over it.
    fn is_dead(&self) -> bool;
}

/// An insertion found its key taken.
pub(crate) struct Occupied<'g, E> {
    /// The entry that was to be inserted.
    pub(crate) entry: Box<E>,
    /// The one that is there.
    pub(crate) found: &'g E,
}

impl<E> fmt::Debug for Occupied<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupied").finish_non_exhaustive()
    }
}

/// What a sweep did.
#[derive(Debug)]
pub(crate) struct Sweep<K> {
    /// Entries looked at.
    pub(crate) visited: usize,
    /// Entries removed.
    pub(crate) removed: usize,
    /// Where to go on, unless the end was reached.
    pub(crate) resume: Option<K>,
}

/// An ordered map from `E::Key` to `E`.
pub(crate) struct SkipList<E: Entry> {
    map: RwLock<BTreeMap<E::Key, NonNull<E>>>,
}

// SAFETY: entries are `Send + Sync`, and the map is behind a lock.
unsafe impl<E: Entry> Send for SkipList<E> {}
// SAFETY: as for `Send`.
unsafe impl<E: Entry> Sync for SkipList<E> {}

impl<E: Entry> SkipList<E> {
    pub(crate) fn new() -> Self {
        Self { map: RwLock::new(BTreeMap::new()) }
    }

    /// Entries in the index, dead ones that wait for a sweep among them.
    pub(crate) fn len(&self) -> usize {
        self.map.read().len()
    }

    /// The living entry of `key`.
    pub(crate) fn get<'g, Q>(&self, key: &Q, _guard: &'g Guard<'_>) -> Option<&'g E>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let found = self.map.read().get(key).copied()?;
        // SAFETY: removal retires entries through the epoch, and the guard is older than that.
        Some(unsafe { found.as_ref() }).filter(|entry: &&E| !entry.is_dead())
    }

    /// Adds an entry, unless a living one has its key.
    pub(crate) fn insert<'g>(
        &self,
        entry: Box<E>,
        guard: &'g Guard<'_>,
    ) -> Result<&'g E, Occupied<'g, E>> {
        let mut map = self.map.write();
        if let Some(&old) = map.get(entry.key()) {
            // SAFETY: as in `get`.
            let found: &'g E = unsafe { old.as_ref() };
            if !found.is_dead() {
                return Err(Occupied { entry, found });
            }
        }
        let key = entry.key().clone();
        let new = NonNull::from(Box::leak(entry));
        if let Some(old) = map.insert(key, new) {
            // SAFETY: just unlinked, and it came from a box in this function.
            unsafe { guard.retire_box(old.as_ptr()) }
        }
        // SAFETY: as in `get`.
        Ok(unsafe { new.as_ref() })
    }

    /// The living entries between two bounds, as they were when it was called or later.
    pub(crate) fn range<'g, Q>(
        &'g self,
        bounds: (Bound<&Q>, Bound<&Q>),
        _guard: &'g Guard<'_>,
    ) -> Cursor<'g, E>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let empty = match bounds {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (
                Bound::Included(low) | Bound::Excluded(low),
                Bound::Included(high) | Bound::Excluded(high),
            ) => low >= high,
            _ => false,
        };
        if empty {
            return Cursor { entries: Vec::new().into_iter() };
        }
        // SAFETY: as in `get`.
        let found =
            self.map.read().range(bounds).map(|(_, entry)| unsafe { entry.as_ref() }).collect();
        Cursor { entries: Vec::into_iter(found) }
    }

    /// Calls `kill` on up to `budget` entries from `resume` on. A true answer means that the
    /// caller has made the entry dead; it is then removed and retired.
    pub(crate) fn sweep(
        &self,
        resume: Option<E::Key>,
        budget: usize,
        mut kill: impl FnMut(&E) -> bool,
        guard: &Guard<'_>,
    ) -> Sweep<E::Key> {
        let start = resume.map_or(Bound::Unbounded, Bound::Included);
        let mut sweep = Sweep { visited: 0, removed: 0, resume: None };
        for entry in self.range::<E::Key>((start.as_ref(), Bound::Unbounded), guard) {
            if sweep.visited == budget {
                sweep.resume = Some(entry.key().clone());
                break;
            }
            sweep.visited += 1;
            if kill(entry) {
                let mut map = self.map.write();
                let is_it =
                    map.get(entry.key()).is_some_and(|at| at.as_ptr().cast_const() == entry);
                if is_it && let Some(old) = map.remove(entry.key()) {
                    sweep.removed += 1;
                    // SAFETY: just unlinked, and it came from a box in `insert`.
                    unsafe { guard.retire_box(old.as_ptr()) }
                }
            }
        }
        sweep
    }

    /// Panics with what is wrong if the structure breaks one of its invariants.
    pub(crate) fn check(&self) {
        for (key, entry) in self.map.read().iter() {
            // SAFETY: as in `get`; removal needs the lock that is held here.
            assert!(unsafe { entry.as_ref() }.key() == key, "entry under another key");
        }
    }
}

impl<E: Entry> Drop for SkipList<E> {
    fn drop(&mut self) {
        for entry in std::mem::take(&mut *self.map.write()).into_values() {
            // SAFETY: it came from a box in `insert`, and nobody else can reach the index.
            drop(unsafe { Box::from_raw(entry.as_ptr()) });
        }
    }
}

impl<E: Entry> fmt::Debug for SkipList<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkipList").field("len", &self.len()).finish()
    }
}

/// Entries of a range, from both ends.
pub(crate) struct Cursor<'g, E> {
    entries: std::vec::IntoIter<&'g E>,
}

impl<E> fmt::Debug for Cursor<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

impl<'g, E: Entry> Iterator for Cursor<'g, E> {
    type Item = &'g E;

    fn next(&mut self) -> Option<&'g E> {
        self.entries.find(|entry| !entry.is_dead())
    }
}

impl<E: Entry> DoubleEndedIterator for Cursor<'_, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.rfind(|entry| !entry.is_dead())
    }
}

//! One write of a transaction: its version, and the record that the version belongs to.
//!
//! ```text
//! Own ──place──► Placed      the index had no record for the key
//!          │        └─────┐  a sweep took the record away again
//!          └───► Found ◄──┘  it had one by then: the version moves into a box of its own
//! Shared                     the snapshot sees the record
//! Nowhere                    nothing to write after all
//! ```
//!
//! 1. The invariants are those of the write set, which names them by number.
//!
//! Used by `write_set` alone.

use std::ptr::NonNull;
use std::time::Instant;

use crate::epoch::Guard;
use crate::mvcc::key_ref::KeyRef;
use crate::mvcc::record::{Record, Taken};
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::slab::Boxed;

/// Where a write's record is.
pub(super) enum Home<K: Key, V: Value> {
    /// In the index, and seen by the snapshot.
    Shared(NonNull<Record<K, V>>),
    /// Still ours; its first version is the write's, unless that has a deadline.
    Own(NonNull<Record<K, V>>),
    /// Ours once, in the index now; its first version is the write's, unless that has a deadline.
    Placed(NonNull<Record<K, V>>),
    /// Someone else's record for the key, found while placing. Boxed, since it is rare.
    Found(Box<Foreign<K, V>>),
    /// A tombstone over an earlier write of our own: nothing to write.
    Nowhere,
}

/// A record that was found in the place of an own one, which keeps the key.
pub(super) struct Foreign<K, V> {
    record: NonNull<Record<K, V>>,
    spare: Boxed<Record<K, V>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The version is reachable from here only.
    Private,
    /// The version is in a chain, or was handed to the collector.
    Linked,
}

pub(super) struct Write<K: Key, V: Value> {
    pub(super) key: KeyRef<K>,
    pub(super) version: NonNull<Version<V>>,
    pub(super) home: Home<K, V>,
    pub(super) stage: Stage,
    /// What the version stands on, once it is linked.
    pub(super) taken: Taken,
    pub(super) hidden: bool,
    pub(super) undone: bool,
    /// The write of the same key before this one.
    earlier: Option<u32>,
}

/// A version in a box of its own.
pub(super) fn version<V>(value: Option<V>, deadline: Option<Instant>) -> NonNull<Version<V>> {
    match (value, deadline) {
        (Some(value), Some(deadline)) => Version::timed(value, deadline),
        (value, _) => Version::boxed(value),
    }
}

impl<K: Key, V: Value> Write<K, V> {
    #[inline]
    pub(super) fn new(
        key: KeyRef<K>,
        version: NonNull<Version<V>>,
        home: Home<K, V>,
        earlier: Option<usize>,
    ) -> Self {
        let (stage, taken) = (Stage::Private, Taken::default());
        let earlier = earlier.map(|at| u32::try_from(at).expect("more writes do not commit"));
        Self { key, version, home, stage, taken, hidden: false, undone: false, earlier }
    }

    /// The place of the write of the same key before this one.
    pub(super) fn earlier(&self) -> Option<usize> {
        self.earlier.map(|at| at as usize)
    }

    /// A write with a record of its own, and its version in it unless that has a deadline.
    pub(super) fn fresh(
        key: K,
        value: V,
        deadline: Option<Instant>,
        earlier: Option<usize>,
    ) -> Self {
        let (record, boxed) = match deadline {
            None => (Record::with_value(key, value), None),
            deadline => (Record::placeholder(key), Some(version(Some(value), deadline))),
        };
        let record = Boxed::leak(record);
        // SAFETY: the record was leaked just now and is freed by this write only.
        let shared = unsafe { record.as_ref() };
        let version = boxed.unwrap_or_else(|| NonNull::from(shared.first()));
        Self::new(KeyRef::of(shared), version, Home::Own(record), earlier)
    }

    fn is_embedded(&self) -> bool {
        // SAFETY: the log owns the version (1).
        unsafe { self.version.as_ref() }.is_embedded()
    }

    /// Whether a commit has to make this write (5).
    pub(super) fn stands(&self) -> bool {
        !self.hidden && !self.undone
    }

    /// Whether there is nothing to write after all.
    pub(super) fn is_void(&self) -> bool {
        matches!(self.home, Home::Nowhere)
    }

    pub(super) fn value(&self) -> Option<NonNull<V>> {
        // SAFETY: the log owns the version, which never changes (1).
        unsafe { self.version.as_ref() }.value().map(NonNull::from)
    }

    pub(super) fn record(&self) -> Option<NonNull<Record<K, V>>> {
        match &self.home {
            Home::Shared(record) | Home::Own(record) | Home::Placed(record) => Some(*record),
            Home::Found(found) => Some(found.record),
            Home::Nowhere => None,
        }
    }

    pub(super) fn place(
        &mut self,
        table: &Table<K, V>,
        guard: &Guard<'_>,
    ) -> Option<NonNull<Record<K, V>>> {
        match &mut self.home {
            Home::Own(own) => {
                let own = *own;
                // The version moves into a box of its own when the record cannot be used.
                self.place_own(own, table, guard);
            }
            Home::Found(found) => {
                let Foreign { record, spare } = &mut **found;
                // SAFETY: the record was found under the commit's pin.
                if unsafe { record.as_ref() }.is_dead() {
                    let placeholder = Record::placeholder(spare.key().clone());
                    *record = match table.index().insert(placeholder, guard) {
                        Ok(placed) => {
                            table.note_record(placed.key());
                            NonNull::from(placed)
                        }
                        Err(occupied) => NonNull::from(occupied.found),
                    };
                }
            }
            Home::Placed(record) => {
                let record = *record;
                // SAFETY: the record was placed under the commit's pin.
                let placed = unsafe { record.as_ref() };
                // A version with a deadline is in a box, so until it is linked the record holds
                // nothing and a sweep may take it away.
                if placed.is_dead() {
                    let spare = Record::placeholder(placed.key().clone());
                    self.key = KeyRef::of(&spare);
                    self.home = Home::Found(Box::new(Foreign { record, spare }));
                    return self.place(table, guard);
                }
            }
            Home::Shared(_) | Home::Nowhere => {}
        }
        self.record()
    }

    fn place_own(&mut self, own: NonNull<Record<K, V>>, table: &Table<K, V>, guard: &Guard<'_>) {
        // Nowhere while user code runs: if it panics, the insert has dropped the record and with
        // it the version, if that was in it.
        let embedded = self.is_embedded();
        self.home = Home::Nowhere;
        self.stage = if embedded { Stage::Linked } else { Stage::Private };
        // SAFETY: the record came from a box and is this log's own (4).
        let boxed = unsafe { Boxed::from_raw(own) };
        match table.index().insert(boxed, guard) {
            Ok(placed) => {
                table.note_record(placed.key());
                if embedded {
                    // Found anew: moving the box has ended what older pointers may be used for.
                    self.version = NonNull::from(placed.first());
                }
                self.home = Home::Placed(NonNull::from(placed));
            }
            Err(occupied) => {
                let record = NonNull::from(occupied.found);
                let mut spare = occupied.entry;
                if embedded {
                    self.version = Version::boxed(spare.take_first());
                }
                self.home = Home::Found(Box::new(Foreign { record, spare }));
            }
        }
        self.stage = Stage::Private;
    }
}

impl<K: Key, V: Value> Drop for Write<K, V> {
    fn drop(&mut self) {
        let embedded = self.stage == Stage::Private && self.is_embedded();
        if let Home::Own(record) = self.home {
            if !embedded {
                // SAFETY: as below.
                unsafe { Version::free(self.version.as_ptr()) };
            }
            // SAFETY: the record came from a box and is this log's own (4).
            drop(unsafe { Boxed::from_raw(record) });
            return;
        }
        match (&self.home, self.stage) {
            (Home::Placed(_), Stage::Private) if embedded => {
                // SAFETY: the version in place was never linked, so nobody can have found it; the
                // record stays while it is not vacant.
                unsafe { Version::drop_embedded(self.version.as_ptr()) };
            }
            (_, Stage::Private) => {
                // SAFETY: the version came from a box and was never linked (4).
                unsafe { Version::free(self.version.as_ptr()) };
            }
            (_, Stage::Linked) => {}
        }
    }
}

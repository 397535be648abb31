//! What a transaction remembers of its reads: all of them for the conflict graph, and the last
//! few to write over without a second search.
//!
//! 1. Addresses are kept, not keys: a record that a registered transaction reads stays where it is.
//!
//! Used by workspaces.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::ptr::NonNull;

use crate::mvcc::footprint::Addresses;
use crate::mvcc::record::Record;
use crate::mvcc::version::Version;
use crate::mvcc::view::{Found, Met, ReadView};
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;

/// The addresses of the records a transaction read, over all buckets.
#[derive(Debug, Default)]
pub(crate) struct ReadLog {
    pub(super) reads: RefCell<Addresses>,
    pub(super) locks: RefCell<Addresses>,
    /// Bytes of both that some bucket has counted for its limits.
    counted: Cell<usize>,
}

/// What an operation of a transaction works with.
#[derive(Clone, Copy)]
pub(crate) struct Access<'t> {
    pub(crate) view: ReadView<'t>,
    pub(crate) log: &'t ReadLog,
    /// Whether reads are remembered: only a serializable transaction needs them.
    pub(crate) tracked: bool,
}

impl ReadLog {
    /// Reads up to which a log is not tidied.
    pub(super) const TIDY_MIN: usize = 1024;

    pub(super) fn push<K: Key, V: Value>(log: &RefCell<Addresses>, record: &Record<K, V>) {
        let address = std::ptr::from_ref(record).addr();
        let mut log = log.borrow_mut();
        if log.last() == Some(&address) {
            return;
        }
        if log.len() == log.capacity() && log.len() >= Self::TIDY_MIN {
            // A loop that reads the same keys again must not grow the log without bound.
            log.sort_unstable();
            log.dedup();
        }
        log.push(address);
    }

    fn bytes(&self) -> usize {
        let addresses = self.reads.borrow().capacity() + self.locks.borrow().capacity();
        addresses * size_of::<usize>()
    }

    /// Whether so many bytes wait to be counted.
    pub(super) fn has_grown_by(&self, bytes: usize) -> bool {
        self.bytes() > self.counted.get() + bytes
    }

    /// Bytes by which the log has grown since this was asked last: the caller's to count.
    pub(super) fn take_growth(&self) -> usize {
        let bytes = self.bytes();
        bytes.saturating_sub(self.counted.replace(bytes))
    }

    /// Empties the log: the reads and the locks.
    pub(crate) fn take(&self) -> (Addresses, Addresses) {
        (self.reads.take(), self.locks.take())
    }
}

/// The records read last, so that a write of what was just read need not search for it again.
pub(super) struct Recent<K: Key, V: Value> {
    found: [Cell<Option<Pointers<K, V>>>; RECENT],
    next: Cell<usize>,
}

const RECENT: usize = 4;

/// A record and the version in it that the snapshot sees.
type Pointers<K, V> = (NonNull<Record<K, V>>, NonNull<Version<V>>);

// SAFETY: a workspace belongs to one thread at a time; the records are shared between threads.
unsafe impl<K: Key, V: Value> Send for Recent<K, V> {}

impl<K: Key, V: Value> Recent<K, V> {
    pub(super) fn new() -> Self {
        Self { found: [const { Cell::new(None) }; RECENT], next: Cell::new(0) }
    }

    pub(super) fn note(&self, record: &Record<K, V>, found: &Found<'_, V>) {
        let at = self.next.get();
        if let Some(cell) = self.found.get(at % RECENT) {
            cell.set(Some((NonNull::from(record), NonNull::from(found.version))));
        }
        self.next.set(at.wrapping_add(1));
    }

    pub(super) fn find<'t, Q>(&'t self, _registered: &Access<'t>, key: &Q) -> Option<Met<'t, K, V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.found.iter().filter_map(Cell::get).find_map(|(record, version)| {
            // SAFETY: the record was found through the view of this registration, so it lives
            // as long as the registration, and so does the version (2).
            let record = unsafe { record.as_ref() };
            if record.key().borrow().cmp(key) != Ordering::Equal {
                return None;
            }
            // SAFETY: as above.
            let version = unsafe { version.as_ref() };
            let found = Found { version, value: version.value()? };
            Some(Met { record, found: Some(found) })
        })
    }
}

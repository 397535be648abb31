//! The store under trial, seen through as small a window as the proofs need.
//!
//! Keys are numbers below `KEYS` in key order; a store maps them to whatever keys it holds. A
//! value names the write that made it, so it is never used twice; `ABSENT` stands for no value.

use std::fmt;

use super::leaving::Leaving;

/// How many keys a store under trial has.
pub(crate) const KEYS: usize = 8;

/// A key by its rank.
pub(crate) type Key = u8;

/// The observation that a key has no value.
pub(crate) const ABSENT: u64 = 0;

/// One value per key.
pub(crate) type State = [u64; KEYS];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    Serializable,
    Snapshot,
}

pub(crate) const LEVELS: [Level; 2] = [Level::Serializable, Level::Snapshot];

/// Why the store refused to go on with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Abort {
    WriteWrite,
    Cycle,
    ReadOnlyPivot,
    WindowLost,
    SearchBudget,
    /// A limit leaves no room for what was written.
    NoRoom,
}

/// A scan of the keys `lo..hi` that takes `front` entries from the front, then `back` from the
/// back, and stops. `Scan::ALL` entries mean "until it ends".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scan {
    pub(crate) lo: Key,
    pub(crate) hi: Key,
    pub(crate) front: u8,
    pub(crate) back: u8,
    /// Ask for it as a prefix, where the store has a prefix for exactly these keys.
    pub(crate) prefix: bool,
}

impl Scan {
    pub(crate) const ALL: u8 = u8::MAX;

    pub(crate) const fn over(lo: Key, hi: Key) -> Self {
        Self { lo, hi, front: Self::ALL, back: 0, prefix: false }
    }
}

/// What a scan yielded, in the order it was yielded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Yield {
    pub(crate) front: Vec<(Key, u64)>,
    pub(crate) back: Vec<(Key, u64)>,
    /// The iterator itself said that there is no more.
    pub(crate) ended: bool,
}

impl Yield {
    /// Drives a double-ended iterator as `scan` says.
    pub(crate) fn collect(
        scan: Scan,
        mut entries: impl DoubleEndedIterator<Item = (Key, u64)>,
    ) -> Self {
        let mut found = Self::default();
        while found.front.len() < usize::from(scan.front) && !found.ended {
            match entries.next() {
                Some(entry) => found.front.push(entry),
                None => found.ended = true,
            }
        }
        while found.back.len() < usize::from(scan.back) && !found.ended {
            match entries.next_back() {
                Some(entry) => found.back.push(entry),
                None => found.ended = true,
            }
        }
        found
    }
}

/// Reads of a transaction or of a read-only snapshot.
pub(crate) trait Reader {
    /// The timestamp of the newest commit that this reader sees, as the store claims it.
    fn snapshot_timestamp(&self) -> u64;
    fn get(&self, key: Key) -> Result<u64, Abort>;
    fn contains(&self, key: Key) -> Result<bool, Abort>;
    fn scan(&self, scan: Scan) -> Result<Yield, Abort>;
    fn end(&self, last: bool) -> Result<Option<(Key, u64)>, Abort>;
    fn len(&self) -> Result<usize, Abort>;
}

/// A transaction that may write. Dropping it rolls it back.
pub(crate) trait Transaction: Reader {
    fn peek(&self, key: Key) -> Result<u64, Abort>;
    fn get_for_update(&self, key: Key) -> Result<u64, Abort>;
    /// Each of these returns the value before it.
    fn insert(&self, key: Key, value: u64) -> Result<u64, Abort>;
    fn update(&self, key: Key, value: u64) -> Result<u64, Abort>;
    fn remove(&self, key: Key) -> Result<u64, Abort>;
    fn insert_if_absent(&self, key: Key, value: u64) -> Result<bool, Abort>;
    fn remove_range(&self, lo: Key, hi: Key) -> Result<usize, Abort>;
    fn pop(&self, last: bool) -> Result<Option<(Key, u64)>, Abort>;
    fn savepoint(&self, name: u8);
    fn roll_back_to(&self, name: u8);
    /// The commit timestamp, as the store claims it.
    fn commit(self) -> Result<u64, Abort>;
    fn roll_back(self);
}

pub(crate) trait Store: Sync {
    type Txn<'s>: Transaction
    where
        Self: 's;
    type Snap<'s>: Reader
    where
        Self: 's;
    fn begin(&self, level: Level) -> Self::Txn<'_>;
    fn snapshot(&self) -> Self::Snap<'_>;
    /// Reads one key in a read-only transaction of its own.
    fn look(&self, key: Key) -> u64;
    fn vacuum(&self);
    /// How entries leave by themselves.
    fn leaving(&self) -> Leaving {
        Leaving::default()
    }
    /// The values of entries that left by themselves since this was asked last.
    fn departed(&self) -> Vec<u64> {
        Vec::new()
    }
    /// Makes an entry leave.
    fn evict(&self, _key: Key) {}
    /// Takes up room, so that entries leave where that is limited.
    fn press(&self) {}
}

/// What a store did that it may not do.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

pub(crate) fn violation<T>(rule: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { rule, detail })
}

/// The set of keys `lo..hi` as a mask.
pub(crate) fn mask(lo: Key, hi: Key) -> u8 {
    (lo..hi).fold(0, |set, key| set | bit(key))
}

pub(crate) fn bit(key: Key) -> u8 {
    1 << key
}

pub(crate) fn keys(set: u8) -> impl Iterator<Item = Key> {
    (0..8).filter(move |key| set & bit(*key) != 0)
}

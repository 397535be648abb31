//! What a table of a durable bucket has to do with files: its entries as bytes, and back.
//!
//! ```text
//! commit      write set ──Codec──► Ops ──► the log
//! checkpoint  a range at a snapshot ──Codec──► sorted bytes ──► a table file
//! recovery    bytes ──Codec──► a record with one version, stamped
//! ```
//!
//! 1. A table is stored or not from its making on.
//! 2. Entries are loaded before anyone else knows the table, older ones of a key before newer
//!    ones. What a later load replaces is cut at once.
//!
//! Called by workspaces, and through [`AnyTable`](super::table::AnyTable) by the floors above.

use std::cmp::Ordering;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::codec::{Decode, DecodeError, Encode, EncodeError, Encoder};
use crate::epoch::Guard;
use crate::id::{StoredId, Timestamp};
use crate::mvcc::ops::Ops;
use crate::mvcc::range::Range;
use crate::mvcc::record::Record;
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::view::ReadView;
use crate::mvcc::{Key, Value};

/// The encodings of a bucket's types, as functions, so that a table needs no further bounds.
pub(crate) struct Codec<K, V> {
    encode_key: fn(&K, Encoder<'_>) -> Result<(), EncodeError>,
    encode_value: fn(&V, Encoder<'_>) -> Result<(), EncodeError>,
    decode_key: fn(&[u8]) -> Result<K, DecodeError>,
    decode_value: fn(&[u8]) -> Result<V, DecodeError>,
    ordered: bool,
}

impl<K: Encode + Decode, V: Encode + Decode> Codec<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            encode_key: K::encode,
            encode_value: V::encode,
            decode_key: K::from_bytes,
            decode_value: V::from_bytes,
            ordered: K::ORDERED,
        }
    }
}

/// Where a table's bucket is in the files, and how its entries are written.
pub(crate) struct Stored<K, V> {
    pub(crate) bucket: StoredId,
    pub(crate) codec: Codec<K, V>,
}

/// Why a range could not be written.
#[derive(Debug)]
pub(crate) enum DumpError {
    /// A bound is not the encoding of a key.
    Decode(DecodeError),
    Encode(EncodeError),
    /// The receiver wants no more.
    Stopped,
}

/// A part of the key space, by encoded keys: the first included, the last not; `None` is no bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedRange<'a> {
    pub(crate) low: Option<&'a [u8]>,
    pub(crate) high: Option<&'a [u8]>,
}

impl<K: Key, V: Value> Stored<K, V> {
    /// Adds a write to the operations of a commit: `None` removes.
    pub(crate) fn encode(
        &self,
        key: &K,
        value: Option<&V>,
        ops: &mut Ops,
    ) -> Result<(), EncodeError> {
        let codec = &self.codec;
        let key = |to: Encoder<'_>| (codec.encode_key)(key, to);
        match value {
            Some(value) => ops.put(self.bucket, key, |to| (codec.encode_value)(value, to)),
            None => ops.remove(self.bucket, key),
        }
    }

    /// How two encoded keys compare.
    pub(crate) fn compare(&self, one: &[u8], other: &[u8]) -> Result<Ordering, DecodeError> {
        if self.codec.ordered {
            return Ok(one.cmp(other));
        }
        let key = self.codec.decode_key;
        Ok(key(one)?.cmp(&key(other)?))
    }

    /// Puts one entry into the table: `None` removes (keeps 2).
    pub(crate) fn load(
        &self,
        table: &Table<K, V>,
        key: &[u8],
        value: Option<&[u8]>,
        at: Timestamp,
        guard: &Guard<'_>,
    ) -> Result<(), DecodeError> {
        let key = (self.codec.decode_key)(key)?;
        match value {
            Some(value) => put(table, key, (self.codec.decode_value)(value)?, at, guard),
            None => remove(table, &key, at, guard),
        }
        Ok(())
    }

    /// Passes on the entries of a range at a snapshot, in order, until `each` answers false.
    pub(crate) fn dump(
        &self,
        table: &Table<K, V>,
        view: ReadView<'_>,
        range: EncodedRange<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DumpError> {
        let decode = |key| (self.codec.decode_key)(key).map_err(DumpError::Decode);
        let low = range.low.map(decode).transpose()?.map_or(Bound::Unbounded, Bound::Included);
        let high = range.high.map(decode).transpose()?.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for (key, value) in Range::over_snapshot(view, table, low, high) {
            key_bytes.clear();
            value_bytes.clear();
            let encoded = (self.codec.encode_key)(key, Encoder::new(&mut key_bytes))
                .and_then(|()| (self.codec.encode_value)(value, Encoder::new(&mut value_bytes)));
            encoded.map_err(DumpError::Encode)?;
            if !each(&key_bytes, &value_bytes) {
                return Err(DumpError::Stopped);
            }
        }
        Ok(())
    }
}

/// Makes `value` the only version of `key`.
fn put<K: Key, V: Value>(table: &Table<K, V>, key: K, value: V, at: Timestamp, guard: &Guard<'_>) {
    match table.index().insert(Record::with_value(key, value), guard) {
        Ok(placed) => {
            placed.first().settle(at);
            stack(placed, NonNull::from(placed.first()), guard);
        }
        Err(occupied) => {
            let mut spare = occupied.entry;
            let version = Version::boxed(spare.take_first());
            // SAFETY: the version was leaked just now, and nobody else has it.
            unsafe { version.as_ref() }.settle(at);
            stack(occupied.found, version, guard);
            occupied.found.prune(at, guard);
        }
    }
}

/// Leaves a tombstone on `key`, for the next vacuum to remove, if it is there at all.
fn remove<K: Key, V: Value>(table: &Table<K, V>, key: &K, at: Timestamp, guard: &Guard<'_>) {
    let Some(record) = table.index().get(key, guard) else { return };
    let version = Version::boxed(None);
    // SAFETY: the version was leaked just now, and nobody else has it.
    unsafe { version.as_ref() }.settle(at);
    stack(record, version, guard);
    record.prune(at, guard);
}

/// Puts a stamped version on top of a record that only this thread writes to.
fn stack<K: Key, V: Value>(record: &Record<K, V>, version: NonNull<Version<V>>, guard: &Guard<'_>) {
    let taken = record.take(version, Timestamp::MAX, guard);
    assert!(taken.is_ok(), "a table that is being loaded has no other writer and no sweep");
}

impl<K, V> std::fmt::Debug for Stored<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

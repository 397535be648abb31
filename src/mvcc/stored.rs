//! What a table of a durable bucket has to do with files: its entries as bytes, and back.
//!
//! ```text
//! commit      write set ──Codec──► Ops ──► the log
//! checkpoint  a range at a snapshot ──Codec──► sorted bytes ──► a table file
//! recovery    bytes ──Codec──► a record with one version, stamped; its value, or where that is
//! ```
//!
//! 1. Entries are loaded before anyone else knows the table, older ones of a key before newer
//!    ones. What a later load replaces is cut at once.
//!
//! Called through [`AnyTable`](super::tables::AnyTable) by the floors above.

use std::cmp::Ordering;
use std::ops::Bound;
use std::ptr::NonNull;

use crate::checkpoint::CheckpointError;
use crate::codec::{DecodeError, EncodeError, Encoder};
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::mvcc::account::{Delta, signed};
use crate::mvcc::codec::Codec;
use crate::mvcc::place::Place;
use crate::mvcc::record::Record;
use crate::mvcc::table::Table;
use crate::mvcc::version::Version;
use crate::mvcc::view::{Item, ReadView};
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;

/// Entries that are read under one pin.
const BATCH: usize = 256;

/// Why a range could not be written.
#[derive(Debug)]
pub(crate) enum DumpError {
    /// A bound is not the encoding of a key.
    Decode(DecodeError),
    Encode(EncodeError),
    /// A value that is in older files only could not be read.
    File(CheckpointError),
    /// The receiver wants no more.
    Stopped,
}

/// Takes a key and what is there, and says whether to go on.
pub(crate) type EachKey<'e> = dyn FnMut(&[u8], Option<&[u8]>) -> bool + 'e;

/// A part of the key space, by encoded keys: the first included, the last not; `None` is no bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedRange<'a> {
    pub(crate) low: Option<&'a [u8]>,
    pub(crate) high: Option<&'a [u8]>,
}

fn codec<K: Key, V: Value>(table: &Table<K, V>) -> &Codec<K, V> {
    let stored = table.stored();
    &stored.expect("only the tables of durable buckets are asked for bytes").codec
}

/// How two encoded keys compare.
pub(super) fn compare<K: Key, V: Value>(
    table: &Table<K, V>,
    one: &[u8],
    other: &[u8],
) -> Result<Ordering, DecodeError> {
    codec(table).compare(one, other)
}

/// Puts one entry into the table: `None` removes (keeps 1). With a place the value stays there,
/// unless it is small.
pub(super) fn load<K: Key, V: Value>(
    table: &Table<K, V>,
    key: &[u8],
    value: Option<&[u8]>,
    at: Timestamp,
    place: Option<Place>,
    guard: &Guard<'_>,
) -> Result<(), DecodeError> {
    let codec = codec(table);
    let key = (codec.decode_key)(key)?;
    let Some(value) = value else {
        remove(table, &key, at, guard);
        return Ok(());
    };
    match place.filter(|_| value.len() > Weigher::<K, V>::cold()) {
        Some(place) => put_cold(table, key, place, at, guard),
        None => put(table, key, (codec.decode_value)(value)?, at, guard),
    }
    Ok(())
}

/// Points what is cold and has moved to where it is now.
pub(super) fn repoint<K: Key, V: Value>(
    table: &Table<K, V>,
    key: &[u8],
    place: &Place,
    guard: &Guard<'_>,
) -> Result<(), DecodeError> {
    let Some(shelf) = table.shelf() else { return Ok(()) };
    let key = (codec(table).decode_key)(key)?;
    if let Some(record) = table.index().get::<K>(&key, guard) {
        let files = shelf.files();
        record.repoint(place, |old| !files.has(&old.file), guard);
    }
    Ok(())
}

/// Passes on the entries of a range at a snapshot, in order, until `each` answers false.
pub(super) fn dump<K: Key, V: Value>(
    table: &Table<K, V>,
    view: ReadView<'_>,
    range: EncodedRange<'_>,
    each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), DumpError> {
    let codec = codec(table);
    let decode = |key| (codec.decode_key)(key).map_err(DumpError::Decode);
    let low = range.low.map(decode).transpose()?.map_or(Bound::Unbounded, Bound::Included);
    let high = range.high.map(decode).transpose()?.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
    let mut batch = Vec::new();
    let mut low = low;
    loop {
        batch.clear();
        let is_last = view.scan(table, (low.as_ref(), high.as_ref()), false, BATCH, &mut batch);
        for &(key, item) in &batch {
            key_bytes.clear();
            let encoded = (codec.encode_key)(key, Encoder::new(&mut key_bytes));
            encoded.map_err(DumpError::Encode)?;
            let held = match item {
                Item::Value(value) => Some(Ok(value)),
                Item::Cold | Item::Removed => view.locate(table, key),
            };
            let Some(held) = held else { continue };
            let value = encoded_value(codec, held, &mut value_bytes)?;
            if !each(&key_bytes, value) {
                return Err(DumpError::Stopped);
            }
        }
        match batch.last() {
            Some(&(last, _)) if !is_last => low = Bound::Excluded(last.clone()),
            _ => return Ok(()),
        }
    }
}

/// Passes on what a snapshot has at each of some keys, until `each` answers false.
pub(super) fn dump_keys<K: Key, V: Value>(
    table: &Table<K, V>,
    view: ReadView<'_>,
    keys: &mut dyn Iterator<Item = &[u8]>,
    each: &mut EachKey<'_>,
) -> Result<(), DumpError> {
    let codec = codec(table);
    let mut bytes = Vec::new();
    for encoded in keys {
        let key = (codec.decode_key)(encoded).map_err(DumpError::Decode)?;
        let held = view.locate(table, &key);
        let value = held.map(|held| encoded_value(codec, held, &mut bytes)).transpose()?;
        if !each(encoded, value) {
            return Err(DumpError::Stopped);
        }
    }
    Ok(())
}

/// The bytes of a value: encoded, or, if it is in a file, as they are there.
fn encoded_value<'b, K: Key, V: Value>(
    codec: &Codec<K, V>,
    held: Result<&V, Place>,
    bytes: &'b mut Vec<u8>,
) -> Result<&'b [u8], DumpError> {
    match held {
        Ok(value) => {
            bytes.clear();
            (codec.encode_value)(value, Encoder::new(bytes)).map_err(DumpError::Encode)?;
            Ok(bytes)
        }
        Err(place) => place.read(bytes).map_err(DumpError::File),
    }
}

/// Makes `value` the only version of `key`.
fn put<K: Key, V: Value>(table: &Table<K, V>, key: K, value: V, at: Timestamp, guard: &Guard<'_>) {
    let enrols = match table.index().insert(Record::with_value(key, value), guard) {
        Ok(placed) => {
            table.note_record(placed.key());
            placed.first().settle(at, 0);
            stack(table, placed, NonNull::from(placed.first()), at, guard)
        }
        Err(occupied) => {
            let mut spare = occupied.entry;
            let version = Version::boxed(spare.take_first());
            // SAFETY: the version was leaked just now, and nobody else has it.
            unsafe { version.as_ref() }.settle(at, 0);
            stack(table, occupied.found, version, at, guard)
        }
    };
    if let Some(record) = enrols {
        table.enrol(record);
    }
}

/// Makes a value that stays in its file the only version of `key`.
fn put_cold<K: Key, V: Value>(
    table: &Table<K, V>,
    key: K,
    place: Place,
    at: Timestamp,
    guard: &Guard<'_>,
) {
    let version = Version::cold(at, place);
    // SAFETY: the version was leaked just now, and nobody else has it.
    unsafe { version.as_ref() }.settle(at, 0);
    match table.index().insert(Record::placeholder(key), guard) {
        Ok(placed) => {
            table.note_record(placed.key());
            stack(table, placed, version, at, guard);
        }
        Err(occupied) => drop(stack(table, occupied.found, version, at, guard)),
    }
}

/// Leaves a tombstone on `key`, for the next vacuum to remove, if it is there at all.
fn remove<K: Key, V: Value>(table: &Table<K, V>, key: &K, at: Timestamp, guard: &Guard<'_>) {
    let Some(record) = table.index().get(key, guard) else { return };
    let version = Version::boxed(None);
    // SAFETY: the version was leaked just now, and nobody else has it.
    unsafe { version.as_ref() }.settle(at, 0);
    stack(table, record, version, at, guard);
}

/// Puts a stamped version on top of a record that only this thread writes to, and cuts what it
/// replaces. Answers with the record if it is to be put into a ring.
fn stack<'r, K: Key, V: Value>(
    table: &Table<K, V>,
    record: &'r Record<K, V>,
    version: NonNull<Version<V>>,
    at: Timestamp,
    guard: &Guard<'_>,
) -> Option<&'r Record<K, V>> {
    let weigh = |version: &Version<V>| table.weigher().version(version);
    // SAFETY: the caller's version is alive until it is linked, and then under the guard.
    let mut delta = Delta { live: signed(weigh(unsafe { version.as_ref() })), ..Delta::default() };
    // SAFETY: as above.
    let enrol = table.has_keeper() && !unsafe { version.as_ref() }.is_gone();
    let taken = record.take(version, Timestamp::MAX, enrol, weigh, guard);
    let taken = taken.expect("a table that is being loaded has no other writer and no sweep");
    if let Some(over) = taken.over {
        delta.supersede(over);
        delta.retained -= signed(record.prune(at, weigh, guard).bytes);
    }
    table.account().add(delta);
    taken.enrols.then_some(record)
}

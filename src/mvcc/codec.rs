//! How the entries of a durable bucket become bytes.
//!
//! 1. A table is stored or not from its making on.
//!
//! Called by workspaces when they commit, and by `stored`.

use std::cmp::Ordering;

use crate::codec::{Decode, DecodeError, Encode, EncodeError, Encoder};
use crate::id::StoredId;
use crate::mvcc::ops::Ops;
use crate::mvcc::{Key, Value};

/// The encodings of a bucket's types, as functions, so that a table needs no further bounds.
pub(crate) struct Codec<K, V> {
    pub(super) encode_key: fn(&K, Encoder<'_>) -> Result<(), EncodeError>,
    pub(super) encode_value: fn(&V, Encoder<'_>) -> Result<(), EncodeError>,
    pub(super) decode_key: fn(&[u8]) -> Result<K, DecodeError>,
    pub(super) decode_value: fn(&[u8]) -> Result<V, DecodeError>,
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

impl<K: Key, V: Value> Codec<K, V> {
    /// How two encoded keys compare.
    pub(super) fn compare(&self, one: &[u8], other: &[u8]) -> Result<Ordering, DecodeError> {
        if self.ordered {
            return Ok(one.cmp(other));
        }
        let key = self.decode_key;
        Ok(key(one)?.cmp(&key(other)?))
    }
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
}

impl<K, V> std::fmt::Debug for Stored<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

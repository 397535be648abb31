//! What a commit does to durable buckets, as bytes: the payload of one log record.
//!
//! ```text
//! operation*    no count, no padding; the record around it has both, and a checksum
//!
//! put     1 | bucket u32 | key length u32 | value length u32 | key | value
//! remove  2 | bucket u32 | key length u32 | key
//! create  3 | bucket u32 | flags u8 | name, key type, value type: length u32 and UTF-8 each
//! drop    4 | bucket u32
//! rename  5 | bucket u32 | name: length u32 and UTF-8
//! ```
//!
//! 1. Integers are little-endian.
//! 2. What was written reads back the same; any other bytes end the reading with an error that
//!    names the place, and never with a panic.
//!
//! Written by workspaces and the catalog; read by the recovery, by checkpoints and by `verify`.

use crate::codec::{EncodeError, Encoder};
use crate::id::StoredId;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const CREATE: u8 = 3;
const DROP: u8 = 4;
const RENAME: u8 = 5;

/// The flag of a created bucket whose keys sort as their bytes do.
const ORDERED: u8 = 1;

/// One operation, borrowed from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Put { bucket: StoredId, key: &'a [u8], value: &'a [u8] },
    Remove { bucket: StoredId, key: &'a [u8] },
    Create { bucket: StoredId, name: &'a str, types: Types<'a> },
    Drop { bucket: StoredId },
    Rename { bucket: StoredId, name: &'a str },
}

/// What a bucket holds, in the words of its codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: &'a str,
    /// Whether keys sort as their bytes do.
    pub(crate) ordered: bool,
}

/// Operations as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    bytes: Vec<u8>,
    count: usize,
    /// A key or value did not fit its length field.
    oversized: bool,
}

impl Ops {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Operations that are appended to `bytes`.
    pub(crate) fn behind(bytes: Vec<u8>) -> Self {
        Self { bytes, count: 0, oversized: false }
    }

    /// The bytes and the number of operations; `None` if a key or value has 4 GiB or more.
    pub(crate) fn finish(self) -> Option<(Vec<u8>, usize)> {
        (!self.oversized).then_some((self.bytes, self.count))
    }

    /// What was collected so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an operation that was read.
    pub(crate) fn copy(&mut self, op: &Op<'_>) {
        match *op {
            Op::Put { bucket, key, value } => {
                self.begin(PUT, bucket);
                self.length(key.len());
                self.length(value.len());
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(value);
            }
            Op::Remove { bucket, key } => {
                self.begin(REMOVE, bucket);
                self.length(key.len());
                self.bytes.extend_from_slice(key);
            }
            Op::Create { bucket, name, types } => self.create(bucket, name, types),
            Op::Drop { bucket } => self.drop_bucket(bucket),
            Op::Rename { bucket, name } => self.rename(bucket, name),
        }
    }

    fn length(&mut self, length: usize) {
        let gap = self.gap();
        self.fill_with(gap, length);
    }

    fn begin(&mut self, tag: u8, bucket: StoredId) {
        self.count += 1;
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&bucket.get().to_le_bytes());
    }

    /// Leaves room for a length. Answers where.
    fn gap(&mut self) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        at
    }

    /// Fills a gap with the number of bytes since `start`.
    fn fill(&mut self, gap: usize, start: usize) {
        self.fill_with(gap, self.bytes.len() - start);
    }

    fn fill_with(&mut self, gap: usize, length: usize) {
        let Ok(length) = u32::try_from(length) else {
            self.oversized = true;
            return;
        };
        if let Some(room) = self.bytes.get_mut(gap..gap + 4) {
            room.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Adds a put; the closures write the key and the value. If one fails or panics, what was
    /// collected must not be used.
    pub(crate) fn put(
        &mut self,
        bucket: StoredId,
        key: impl FnOnce(Encoder<'_>) -> Result<(), EncodeError>,
        value: impl FnOnce(Encoder<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.begin(PUT, bucket);
        let (key_gap, value_gap) = (self.gap(), self.gap());
        let start = self.bytes.len();
        key(Encoder::new(&mut self.bytes))?;
        self.fill(key_gap, start);
        let start = self.bytes.len();
        value(Encoder::new(&mut self.bytes))?;
        self.fill(value_gap, start);
        Ok(())
    }

    /// Adds a removal; the closure writes the key.
    pub(crate) fn remove(
        &mut self,
        bucket: StoredId,
        key: impl FnOnce(Encoder<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.begin(REMOVE, bucket);
        let gap = self.gap();
        let start = self.bytes.len();
        key(Encoder::new(&mut self.bytes))?;
        self.fill(gap, start);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let gap = self.gap();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        self.fill(gap, start);
    }

    /// Adds the creation of a bucket.
    pub(crate) fn create(&mut self, bucket: StoredId, name: &str, types: Types<'_>) {
        self.begin(CREATE, bucket);
        self.bytes.push(if types.ordered { ORDERED } else { 0 });
        for text in [name, types.key, types.value] {
            self.text(text);
        }
    }

    /// Adds the end of a bucket.
    pub(crate) fn drop_bucket(&mut self, bucket: StoredId) {
        self.begin(DROP, bucket);
    }

    /// Adds a new name of a bucket.
    pub(crate) fn rename(&mut self, bucket: StoredId, name: &str) {
        self.begin(RENAME, bucket);
        self.text(name);
    }
}

/// A payload is not what [`Ops`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where in the payload the operation begins that cannot be read.
    pub(crate) at: usize,
}

/// The operations of a payload. Ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, length: payload.len() }
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn integer(&mut self) -> Option<u32> {
        let bytes = self.bytes(4)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.integer()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn read(&mut self) -> Option<Op<'a>> {
        let tag = self.byte()?;
        let bucket = StoredId::from_raw(self.integer()?);
        match tag {
            PUT => {
                let (key, value) = (self.length()?, self.length()?);
                Some(Op::Put { bucket, key: self.bytes(key)?, value: self.bytes(value)? })
            }
            REMOVE => {
                let key = self.length()?;
                Some(Op::Remove { bucket, key: self.bytes(key)? })
            }
            CREATE => {
                let flags = self.byte().filter(|flags| flags & !ORDERED == 0)?;
                let (name, key, value) = (self.text()?, self.text()?, self.text()?);
                let types = Types { key, value, ordered: flags & ORDERED != 0 };
                Some(Op::Create { bucket, name, types })
            }
            DROP => Some(Op::Drop { bucket }),
            RENAME => Some(Op::Rename { bucket, name: self.text()? }),
            _ => None,
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Op<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.length - self.rest.len();
        let op = self.read();
        if op.is_none() {
            self.rest = &[];
        }
        Some(op.ok_or(Malformed { at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Owned {
        Put(u32, Vec<u8>, Vec<u8>),
        Remove(u32, Vec<u8>),
        Create(u32, String, String, String, bool),
        Drop(u32),
        Rename(u32, String),
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..6);
        prop_oneof![
            (any::<u32>(), bytes(), bytes())
                .prop_map(|(id, key, value)| Owned::Put(id, key, value)),
            (any::<u32>(), bytes()).prop_map(|(id, key)| Owned::Remove(id, key)),
            (any::<u32>(), ".{0,3}", ".{0,3}", ".{0,3}", any::<bool>())
                .prop_map(|(id, name, key, value, flag)| Owned::Create(id, name, key, value, flag)),
            any::<u32>().prop_map(Owned::Drop),
            (any::<u32>(), ".{0,3}").prop_map(|(id, name)| Owned::Rename(id, name)),
        ]
    }

    fn write(ops: &mut Ops, op: &Owned) {
        let id = StoredId::from_raw;
        match op {
            Owned::Put(bucket, key, value) => {
                ops.put(id(*bucket), |to| to.last(key), |to| to.last(value)).unwrap();
            }
            Owned::Remove(bucket, key) => ops.remove(id(*bucket), |to| to.last(key)).unwrap(),
            Owned::Create(bucket, name, key, value, ordered) => {
                ops.create(id(*bucket), name, Types { key, value, ordered: *ordered });
            }
            Owned::Drop(bucket) => ops.drop_bucket(id(*bucket)),
            Owned::Rename(bucket, name) => ops.rename(id(*bucket), name),
        }
    }

    fn borrow(op: &Owned) -> Op<'_> {
        let id = StoredId::from_raw;
        match op {
            Owned::Put(bucket, key, value) => Op::Put { bucket: id(*bucket), key, value },
            Owned::Remove(bucket, key) => Op::Remove { bucket: id(*bucket), key },
            Owned::Create(bucket, name, key, value, ordered) => {
                let types = Types { key, value, ordered: *ordered };
                Op::Create { bucket: id(*bucket), name, types }
            }
            Owned::Drop(bucket) => Op::Drop { bucket: id(*bucket) },
            Owned::Rename(bucket, name) => Op::Rename { bucket: id(*bucket), name },
        }
    }

    proptest! {
        /// What was written reads back the same, and a cut is noticed unless it falls between two
        /// operations.
        #[test]
        fn operations_read_back(list in prop::collection::vec(owned(), 0..6), cut in any::<u8>()) {
            let mut ops = Ops::default();
            let mut ends = vec![0];
            for op in &list {
                write(&mut ops, op);
                ends.push(ops.bytes.len());
            }
            let (bytes, count) = ops.finish().unwrap();
            prop_assert_eq!(count, list.len());
            let read: Vec<_> = Reader::new(&bytes).map(Result::unwrap).collect();
            let mut again = Ops::default();
            read.iter().for_each(|op| again.copy(op));
            prop_assert_eq!(again.bytes(), &bytes);
            prop_assert_eq!(read, list.iter().map(borrow).collect::<Vec<_>>());
            let cut = usize::from(cut) % (bytes.len() + 1);
            let outcome: Result<Vec<_>, _> = Reader::new(&bytes[..cut]).collect();
            prop_assert_eq!(outcome.is_ok(), ends.contains(&cut));
        }

        /// Other bytes never do harm.
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(0_u8..8, 0..40)) {
            let read = Reader::new(&bytes).count();
            prop_assert!(read <= bytes.len());
        }
    }
}

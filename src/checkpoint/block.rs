//! Blocks: a share of a table's entries under one checksum.
//!
//! ```text
//!   block   crc u32 │ length u32 │ entries u32 │ flags u32 = 0 │ entry │ entry │ ...
//!   entry   [operation u8] │ klen u32 │ vlen u32 │ key │ crc of the value u32 │ value
//!                                                      ▲
//!                                       ValuePosition ─┘
//! ```
//!
//! 1. The checksum covers all that follows it; the length is that of the entries.
//! 2. Only delta tables have operations. What is not a put has no value, and a clear no key.
//! 3. The value's own checksum lets one value be read by its position alone, without its block.

use std::path::Path;

use super::error::{CheckpointError, Result};
use super::fields::length_u32;
use super::format::{IndexEntry, TableKind};
use crate::crc::crc32;

/// Entries fill a block up to this length; a larger one has a block of its own.
pub(super) const BLOCK_LENGTH: usize = 64 << 10;
pub(super) const BLOCK_HEADER_LENGTH: usize = 16;
/// The greatest length of a key, and of a value. Two of them fit a block's length of 32 bits.
pub(super) const LENGTH_MAX: usize = 1 << 30;
pub(super) const VALUE_CRC_LENGTH: usize = 4;

/// What an entry does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    /// The key has the value.
    Put = 1,
    /// The key is not there.
    Delete = 2,
    /// No key of the bucket is there.
    Clear = 3,
}

/// Where a table keeps one value, for [`Table::read_value`](super::table::Table::read_value).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ValuePosition {
    /// Where the value's checksum begins, in bytes from the beginning of the file.
    pub(crate) offset: u64,
    /// The length of the value in bytes.
    pub(crate) length: u32,
}

/// One entry of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) operation: Operation,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The value's own checksum, as it stands before the value.
    pub(super) value_crc: u32,
    pub(crate) position: ValuePosition,
}

/// What an entry adds to its key and value.
pub(super) fn overhead(kind: TableKind) -> usize {
    let operation = usize::from(kind == TableKind::Delta);
    operation + 4 + 4 + VALUE_CRC_LENGTH
}

/// Appends an entry up to its value.
pub(super) fn put_entry_head(
    to: &mut Vec<u8>,
    kind: TableKind,
    operation: Operation,
    key: &[u8],
    value: &[u8],
    seed: u32,
) {
    if kind == TableKind::Delta {
        to.push(operation as u8);
    }
    to.extend(length_u32(key.len()).to_le_bytes());
    to.extend(length_u32(value.len()).to_le_bytes());
    to.extend_from_slice(key);
    to.extend(crc32(seed, value).to_le_bytes());
}

/// Appends the header of a block whose entries are `head` and then `tail`; answers the checksum.
pub(super) fn put_block_header(
    to: &mut Vec<u8>,
    entries: u32,
    head: &[u8],
    tail: &[u8],
    seed: u32,
) -> u32 {
    let length = length_u32(head.len() + tail.len());
    let fields = [length, entries, 0].map(u32::to_le_bytes);
    let fields = fields.as_flattened();
    let crc = crc32(crc32(crc32(seed, fields), head), tail);
    to.extend(crc.to_le_bytes());
    to.extend_from_slice(fields);
    crc
}

/// A block whose checksum and structure are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    kind: TableKind,
    /// Where in the file the entries begin.
    offset: u64,
    entries: &'a [u8],
    last_key: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block that `bytes` are the whole of, as the index describes it.
    pub(super) fn check(
        path: &Path,
        bytes: &'a [u8],
        described: &IndexEntry<'_>,
        kind: TableKind,
        is_sorted: bool,
        seed: u32,
    ) -> Result<Self> {
        let wrong = |offset, what| Err(CheckpointError::corruption(path, offset, what));
        let at = described.offset;
        let (header, entries) = bytes.split_at_checked(BLOCK_HEADER_LENGTH).unwrap_or_default();
        let &[crc, length, count, flags] = header.as_chunks().0 else {
            return wrong(at, "the block is too short");
        };
        let [crc, length, count, flags] = [crc, length, count, flags].map(u32::from_le_bytes);
        let (_, checked) = bytes.split_at_checked(4).unwrap_or_default();
        if crc != described.crc || crc32(seed, checked) != crc {
            return wrong(at, "the checksum of the block does not match");
        }
        if length as usize != entries.len() || count != described.entries || flags != 0 {
            return wrong(at, "the block contradicts itself or the index");
        }
        let offset = at + BLOCK_HEADER_LENGTH as u64;
        let mut walk = Entries { kind, offset, rest: entries };
        let (mut walked, mut previous) = (0, None);
        for entry in walk.by_ref() {
            if previous.is_none() && entry.key != described.first_key {
                return wrong(at, "the first key is not the one in the index");
            }
            if is_sorted && previous.is_some_and(|previous| previous >= entry.key) {
                return wrong(entry.position.offset, "the keys are not in order");
            }
            previous = Some(entry.key);
            walked += 1;
        }
        if !walk.rest.is_empty() || walked != count || walked == 0 {
            return wrong(walk.offset, "this is no entry");
        }
        Ok(Self { kind, offset, entries, last_key: previous.unwrap_or_default() })
    }

    /// The block that begins `bytes`, by what it says about itself, and how long it is. What the
    /// index of its table would say of it is not checked.
    pub(super) fn read_alone(
        path: &Path,
        bytes: &'a [u8],
        offset: u64,
        kind: TableKind,
        seed: u32,
    ) -> Result<(Self, usize)> {
        let wrong = |what| Err(CheckpointError::corruption(path, offset, what));
        let Some(length) = length_of(bytes) else { return wrong("no block begins here") };
        let Some(bytes) = bytes.get(..length) else { return wrong("no block begins here") };
        let &[crc, _, count, _] = bytes.as_chunks().0.first_chunk().unwrap_or(&[[0; 4]; 4]);
        let (_, entries) = bytes.split_at_checked(BLOCK_HEADER_LENGTH).unwrap_or_default();
        let first = Entries { kind, offset, rest: entries }.next();
        let described = IndexEntry {
            offset,
            length: length_u32(length),
            crc: u32::from_le_bytes(crc),
            entries: u32::from_le_bytes(count),
            first_key: first.map_or(&[], |entry| entry.key),
        };
        Ok((Self::check(path, bytes, &described, kind, false, seed)?, length))
    }

    pub(super) fn last_key(&self) -> &'a [u8] {
        self.last_key
    }

    /// The entries, at least one, in the order in which they were written.
    pub(crate) fn entries(&self) -> Entries<'a> {
        Entries { kind: self.kind, offset: self.offset, rest: self.entries }
    }
}

/// How long the block is that begins these bytes, by its own word.
pub(super) fn length_of(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(4..).and_then(<[u8]>::first_chunk)?;
    usize::try_from(u32::from_le_bytes(*length)).ok()?.checked_add(BLOCK_HEADER_LENGTH)
}

/// Walks the entries of a block.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    kind: TableKind,
    offset: u64,
    rest: &'a [u8],
}

/// An entry up to its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) operation: Operation,
    pub(super) key: &'a [u8],
    pub(super) position: ValuePosition,
    /// Where in the file the entry ends.
    pub(super) end: u64,
    /// How many bytes the head has.
    length: usize,
}

impl<'a> Head<'a> {
    /// The head of the entry that begins `bytes`, at `offset` in the file. An error says how many
    /// bytes it takes to go on, if that is it.
    pub(super) fn parse(
        kind: TableKind,
        offset: u64,
        bytes: &'a [u8],
    ) -> std::result::Result<Self, Option<usize>> {
        let tag = usize::from(kind == TableKind::Delta);
        let lengths = tag + 8;
        let operation = match kind {
            TableKind::Range => Operation::Put,
            TableKind::Delta => {
                let &tag = bytes.first().ok_or(Some(lengths))?;
                let known = [Operation::Put, Operation::Delete, Operation::Clear];
                known.into_iter().find(|&operation| operation as u8 == tag).ok_or(None)?
            }
        };
        let field = |at: usize| {
            let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Some(lengths))?;
            Ok::<u32, Option<usize>>(u32::from_le_bytes(*bytes))
        };
        let (key_length, length) = (field(tag)? as usize, field(tag + 4)?);
        match operation {
            Operation::Put => {}
            Operation::Delete if length == 0 => {}
            Operation::Clear if length == 0 && key_length == 0 => {}
            Operation::Delete | Operation::Clear => return Err(None),
        }
        let key_end = lengths.checked_add(key_length).ok_or(None)?;
        let key = bytes.get(lengths..key_end).ok_or(Some(key_end))?;
        let position = ValuePosition { offset: offset + key_end as u64, length };
        let end = position.offset + VALUE_CRC_LENGTH as u64 + u64::from(length);
        Ok(Self { operation, key, position, end, length: key_end })
    }
}

impl<'a> Entries<'a> {
    fn parse(&self) -> Option<(Entry<'a>, &'a [u8])> {
        let Head { operation, key, position, length, .. } =
            Head::parse(self.kind, self.offset, self.rest).ok()?;
        let (_, rest) = self.rest.split_at_checked(length)?;
        let (&value_crc, rest) = rest.split_first_chunk::<VALUE_CRC_LENGTH>()?;
        let (value, rest) = rest.split_at_checked(position.length as usize)?;
        let value_crc = u32::from_le_bytes(value_crc);
        Some((Entry { operation, key, value, value_crc, position }, rest))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let (entry, rest) = self.parse()?;
        self.offset += (self.rest.len() - rest.len()) as u64;
        self.rest = rest;
        Some(entry)
    }
}

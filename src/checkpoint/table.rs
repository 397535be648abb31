//! Reads one table.
//!
//! Opening reads header, footer and index, and checks them against each other and against the
//! manifest; blocks are checked as they are read, in any order and by any number of threads.
//!
//! 1. After [`Table::open`] the blocks are known to tile the file between header and index, and
//!    their entries to add up to the number in the footer.
//! 2. No length from the file leads to a buffer larger than the file.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use super::block::{
    BLOCK_HEADER_LENGTH, Block, Entry, Head, LENGTH_MAX, Operation, VALUE_CRC_LENGTH, ValuePosition,
};
use super::directory::{TableId, read_exact};
use super::error::{CheckpointError, Result};
use super::fields::Fields;
use super::format::{Footer, HEADER_LENGTH, IndexEntry, TAIL_LENGTH, TableKind, decode_header};
use super::manifest::TableRecord;
use crate::crc::crc32;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::storage::{Access, File, Storage};

/// Entries that take so many bytes on average are found by their heads, without the others' values.
const LARGE: u32 = 1024;
/// So much of an entry is read at first, which holds the head of most.
const HEAD_LENGTH: usize = 64;

/// A part of a table's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) entries: u64,
}

/// An open table. Threads share it.
#[derive(Debug)]
pub(crate) struct Table {
    file: Box<dyn File>,
    path: PathBuf,
    seed: u32,
    footer: Footer,
    footer_crc: u32,
    length: u64,
    index: Vec<u8>,
    blocks: Vec<BlockPlace>,
}

/// What the index says about a block, its first key left where it stands.
#[derive(Debug)]
struct BlockPlace {
    offset: u64,
    length: u32,
    crc: u32,
    entries: u32,
    /// The first key in the bytes of the index.
    key: std::ops::Range<usize>,
}

impl Table {
    /// Opens a table that a manifest names.
    pub(crate) fn open(
        storage: &dyn Storage,
        directory: &Path,
        database: DatabaseId,
        bucket: StoredId,
        record: &TableRecord,
    ) -> Result<Self> {
        let table = Self::open_unlisted(storage, directory, record.table)?;
        let wrong = |what| Err(CheckpointError::corruption(&table.path, 0, what));
        if table.footer.origin.database != database {
            return wrong("the table is of another database");
        }
        if table.footer.origin.bucket != bucket {
            return wrong("the table is of another bucket than the manifest says");
        }
        if (table.length, table.footer_crc) != (record.length, record.footer_crc) {
            return wrong("this is not the table that the manifest names");
        }
        if table.footer.kind != record.kind
            || table.footer.entries != record.entries
            // A table without changes since gets a later snapshot in the manifest.
            || table.footer.timestamp > record.timestamp
            || table.footer.lsn > record.lsn
        {
            return wrong("the manifest contradicts the table");
        }
        Ok(table)
    }

    /// Opens a table for what it says about itself, for tools that have no manifest.
    pub(crate) fn open_unlisted(
        storage: &dyn Storage,
        directory: &Path,
        id: TableId,
    ) -> Result<Self> {
        let path = id.path(directory);
        let file = storage.open(&path, Access::Read).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                CheckpointError::corruption(&path, 0, "the table is missing")
            }
            _ => CheckpointError::io("open", &path)(error),
        })?;
        let length = file.len().map_err(CheckpointError::io("measure", &path))?;
        if length < (HEADER_LENGTH + TAIL_LENGTH) as u64 {
            return Err(CheckpointError::corruption(&path, length, "the table is cut short"));
        }
        let mut header = [0; HEADER_LENGTH];
        read_exact(&*file, &path, &mut header, 0)?;
        let (origin, kind) = decode_header(&path, &header)?;
        let mut tail = [0; TAIL_LENGTH];
        read_exact(&*file, &path, &mut tail, length - TAIL_LENGTH as u64)?;
        let mut bytes = vec![0; Footer::length(&path, tail, length)?];
        let footer_offset = length - bytes.len() as u64;
        read_exact(&*file, &path, &mut bytes, footer_offset)?;
        let (footer, footer_crc) = Footer::decode(&path, &bytes, length)?;
        if (footer.origin, footer.kind) != (origin, kind) {
            let what = "header and footer are of two tables";
            return Err(CheckpointError::corruption(&path, footer_offset, what));
        }
        if origin.table != id {
            return Err(CheckpointError::corruption(&path, 0, "the file has another table's name"));
        }
        let seed = origin.seed();
        let index = Vec::new();
        let mut table =
            Self { file, path, seed, footer, footer_crc, length, index, blocks: Vec::new() };
        table.read_index()?;
        Ok(table)
    }

    fn read_index(&mut self) -> Result<()> {
        let (start, length) = (self.footer.index_offset, self.footer.index_length);
        let wrong = |what| Err(CheckpointError::corruption(&self.path, start, what));
        // Keeps 2: the footer's length and the index fit the file, which `Footer::decode` checked.
        let Ok(length) = usize::try_from(length) else {
            return wrong("the index is larger than this machine's memory");
        };
        let mut index = vec![0; length];
        read_exact(&*self.file, &self.path, &mut index, start)?;
        if crc32(self.seed, &index) != self.footer.index_crc {
            return wrong("the checksum of the index does not match");
        }
        let mut fields = Fields::new(&self.path, &index, start);
        let mut blocks = Vec::new();
        let (mut end, mut entries) = (HEADER_LENGTH as u64, 0_u64);
        while !fields.is_at_end() {
            let entry = IndexEntry::read(&mut fields)?;
            if entry.offset != end {
                return Err(fields.wrong("the blocks leave a gap, or overlap"));
            }
            end = end.saturating_add(u64::from(entry.length));
            entries = entries.saturating_add(u64::from(entry.entries));
            let key_end = usize::try_from(fields.offset() - start).unwrap_or(usize::MAX);
            blocks.push(BlockPlace {
                offset: entry.offset,
                length: entry.length,
                crc: entry.crc,
                entries: entry.entries,
                key: key_end.saturating_sub(entry.first_key.len())..key_end,
            });
        }
        let counted = blocks.len() == self.footer.blocks as usize;
        if end != start || entries != self.footer.entries || !counted {
            return Err(fields.wrong("index and footer contradict each other"));
        }
        (self.index, self.blocks) = (index, blocks);
        Ok(())
    }

    /// Whether each key is greater than the one before, compared as bytes.
    pub(crate) fn is_sorted(&self) -> bool {
        self.footer.is_sorted
    }

    pub(crate) fn id(&self) -> TableId {
        self.footer.origin.table
    }

    /// Whether it has each key of a range once.
    pub(crate) fn is_range(&self) -> bool {
        self.footer.kind == TableKind::Range
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The snapshot that the table was written from.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.footer.timestamp
    }

    /// Where the log ended at that snapshot.
    pub(crate) fn lsn(&self) -> Lsn {
        self.footer.lsn
    }

    /// The length of the file in bytes.
    pub(crate) fn file_length(&self) -> u64 {
        self.length
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> u64 {
        self.footer.entries
    }

    /// The first and the last key in the order of writing, unless the table is empty.
    pub(crate) fn bounds(&self) -> Option<(&[u8], &[u8])> {
        let Footer { entries, first_key, last_key, .. } = &self.footer;
        (*entries > 0).then_some((first_key, last_key))
    }

    /// Checks that a sorted table's keys lie in a range of bytes; for buckets whose keys' encodings
    /// sort as the keys do.
    pub(crate) fn check_range(&self, lower: &[u8], upper: Option<&[u8]>) -> Result<()> {
        let Some((first, last)) = self.bounds().filter(|_| self.is_sorted()) else {
            return Ok(());
        };
        if lower <= first && upper.is_none_or(|upper| last < upper) {
            return Ok(());
        }
        let what = "the table has keys outside the range that the manifest says";
        Err(CheckpointError::corruption(&self.path, self.footer.index_offset, what))
    }

    /// The number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Where a block lies, how long it is, and how many entries the index gives it.
    ///
    /// # Panics
    ///
    /// If there is no such block.
    pub(crate) fn place(&self, at: usize) -> Place {
        let block = self.blocks.get(at).expect("the caller asks for one of the blocks");
        let (offset, length, entries) = (block.offset, block.length.into(), block.entries.into());
        Place { offset, length, entries }
    }

    fn first_key(&self, block: &BlockPlace) -> &[u8] {
        self.index.get(block.key.clone()).unwrap_or_default()
    }

    /// Reads a block, and checks it. The buffer's content does not matter; its memory is used
    /// again.
    ///
    /// # Panics
    ///
    /// If there is no such block.
    pub(crate) fn read_block<'b>(&self, at: usize, buffer: &'b mut Vec<u8>) -> Result<Block<'b>> {
        let place = self.blocks.get(at).expect("the caller asks for one of the blocks");
        let described = IndexEntry {
            offset: place.offset,
            length: place.length,
            crc: place.crc,
            entries: place.entries,
            first_key: self.first_key(place),
        };
        let bytes = self.read(buffer, place.offset, place.length as usize)?;
        let (kind, is_sorted) = (self.footer.kind, self.footer.is_sorted);
        let block = Block::check(&self.path, bytes, &described, kind, is_sorted, self.seed)?;
        self.check_bounds(at, &block)?;
        Ok(block)
    }

    /// The last key of a block lies before the next block, and that of the last one is the table's.
    fn check_bounds(&self, at: usize, block: &Block<'_>) -> Result<()> {
        let last = block.last_key();
        let is_right = match self.blocks.get(at + 1) {
            Some(next) => !self.footer.is_sorted || last < self.first_key(next),
            None => last == self.footer.last_key,
        };
        let first = self.blocks.first().filter(|_| at == 0);
        if is_right && first.is_none_or(|first| self.first_key(first) == self.footer.first_key) {
            return Ok(());
        }
        let offset = self.blocks.get(at).map_or(0, |place| place.offset);
        Err(CheckpointError::corruption(
            &self.path,
            offset,
            "the keys do not end where they should",
        ))
    }

    /// Reads so many bytes into the beginning of the buffer.
    fn read<'b>(&self, buffer: &'b mut Vec<u8>, offset: u64, length: usize) -> Result<&'b [u8]> {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let (bytes, _) = buffer.split_at_mut(length);
        read_exact(&*self.file, &self.path, bytes, offset)?;
        Ok(bytes)
    }

    /// The one block that can hold a key, where keys are in the order of `compare`, which says how
    /// a key is to the one that is looked for.
    fn find_block(&self, compare: &impl Fn(&[u8]) -> Ordering) -> Option<usize> {
        let is_before = |block: &BlockPlace| compare(self.first_key(block)) != Ordering::Greater;
        self.blocks.partition_point(is_before).checked_sub(1)
    }

    /// Looks up where the value of a key is, in a table whose keys are in the order of `compare`,
    /// which says how a key is to the one that is looked for. `None` if the key is not here, or
    /// has no value. What is found has been read, and checked.
    pub(crate) fn find_value(
        &self,
        compare: &impl Fn(&[u8]) -> Ordering,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<ValuePosition>> {
        let Some(at) = self.find_block(compare) else { return Ok(None) };
        let place = self.blocks.get(at).expect("the block was found just now");
        if place.length / place.entries.max(1) >= LARGE {
            return self.find_by_heads(place, compare, buffer);
        }
        let block = self.read_block(at, buffer)?;
        let found = block.entries().find(|entry| compare(entry.key) == Ordering::Equal);
        let put = found.filter(|entry| entry.operation == Operation::Put);
        Ok(put.map(|entry| entry.position))
    }

    /// The same in a block of large values, of which only the right one is read: the heads of the
    /// entries lead from one to the next.
    fn find_by_heads(
        &self,
        block: &BlockPlace,
        compare: &impl Fn(&[u8]) -> Ordering,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<ValuePosition>> {
        let wrong =
            |offset| Err(CheckpointError::corruption(&self.path, offset, "this is no entry"));
        let end = block.offset + u64::from(block.length);
        let mut at = block.offset + BLOCK_HEADER_LENGTH as u64;
        let mut wanted = HEAD_LENGTH;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(wanted);
            let bytes = self.read(buffer, at, length)?;
            let head = match Head::parse(self.footer.kind, at, bytes) {
                Ok(head) => head,
                Err(Some(needed)) if needed > length && at + needed as u64 <= end => {
                    wanted = needed;
                    continue;
                }
                Err(_) => return wrong(at),
            };
            wanted = HEAD_LENGTH;
            if compare(head.key) == Ordering::Equal {
                let position = head.position;
                let is_put = head.operation == Operation::Put;
                return if is_put {
                    self.read_value(position, buffer).map(|_| Some(position))
                } else {
                    Ok(None)
                };
            }
            at = head.end;
        }
        if at == end { Ok(None) } else { wrong(at) }
    }

    /// Looks up a key in a table of a range that is sorted by bytes. Reads one block.
    #[cfg(test)]
    pub(crate) fn find<'b>(
        &self,
        key: &[u8],
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<Entry<'b>>> {
        let Some(block) = self.find_block(&|other| other.cmp(key)) else { return Ok(None) };
        Ok(self.read_block(block, buffer)?.entries().find(|entry| entry.key == key))
    }

    /// Reads one value by the position that its entry had, and checks it.
    pub(crate) fn read_value<'b>(
        &self,
        position: ValuePosition,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        let ValuePosition { offset, length } = position;
        let length = VALUE_CRC_LENGTH + length as usize;
        let wrong = |what| Err(CheckpointError::corruption(&self.path, offset, what));
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= self.length);
        if !fits || length > VALUE_CRC_LENGTH + LENGTH_MAX {
            return wrong("no value lies here");
        }
        let bytes = self.read(buffer, offset, length)?;
        let (&crc, value) = bytes.split_first_chunk().unwrap_or((&[0; VALUE_CRC_LENGTH], &[]));
        if crc32(self.seed, value) != u32::from_le_bytes(crc) {
            return wrong("the checksum of the value does not match");
        }
        Ok(value)
    }

    /// Reads everything, and checks it, each value by its own checksum too. Tells of each block in
    /// which something is wrong, passes on the entries of the others, and goes on.
    pub(crate) fn verify(
        &self,
        each: &mut dyn FnMut(Entry<'_>),
        wrong: &mut dyn FnMut(CheckpointError),
    ) {
        let mut buffer = Vec::new();
        for at in 0..self.blocks() {
            match self.read_block(at, &mut buffer) {
                Ok(block) => block.entries().for_each(|entry| {
                    if crc32(self.seed, entry.value) != entry.value_crc {
                        let what = "the checksum of the value does not match";
                        let offset = entry.position.offset;
                        wrong(CheckpointError::corruption(&self.path, offset, what));
                    }
                    each(entry);
                }),
                Err(error) => wrong(error),
            }
        }
    }
}

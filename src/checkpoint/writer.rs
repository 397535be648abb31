//! Writes one table, entry by entry.
//!
//! ```text
//!   push ─► block, 64 KiB ─► buffer, 1 MiB ─► file tab-….tmp ─► finish: sync, rename to tab-….tab
//!                                    │
//!                                    └─► write-back each 8 MiB; `pace` hears of every write
//! ```
//!
//! 1. The table has its own name only when all of it is durable. A writer that is dropped before
//!    that removes its file.
//! 2. A value that does not fit the buffer goes to the file as it is, without being copied.
//! 3. Whether the keys are sorted is seen, not believed: a type that only claims to be encoded in
//!    order gives a table that says that it is not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::block::{
    BLOCK_HEADER_LENGTH, BLOCK_LENGTH, LENGTH_MAX, Operation, overhead, put_block_header,
    put_entry_head,
};
use super::directory::write_all;
use super::error::{CheckpointError, Result};
use super::fields::length_u32;
use super::format::{Footer, IndexEntry, Origin, TableKind, encode_header};
use super::manifest::TableRecord;
use crate::crc::crc32;
use crate::id::{Lsn, Timestamp};
use crate::storage::{Access, File, Sabotage, Sabotages, Storage};

const BUFFER_LENGTH: usize = 1 << 20;
const WRITE_BACK_LENGTH: u64 = 8 << 20;

/// A table in the making.
pub(crate) struct TableWriter<'a> {
    storage: &'a dyn Storage,
    temporary: Temporary<'a>,
    path: PathBuf,
    file: Box<dyn File>,
    pace: Box<dyn FnMut(u64) + 'a>,
    sabotages: Sabotages,
    origin: Origin,
    kind: TableKind,
    seed: u32,
    /// The entries of the block in the making.
    block: Vec<u8>,
    block_entries: u32,
    block_first_key: Vec<u8>,
    /// What is to be written next, at `written`.
    buffer: Vec<u8>,
    written: u64,
    written_back: u64,
    index: Vec<u8>,
    blocks: u32,
    entries: u64,
    is_sorted: bool,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl<'a> TableWriter<'a> {
    /// Begins a table, whose number was never used for another one. It will have `at_least` so
    /// many bytes, for which room is made at once.
    ///
    /// `pace` is told after each write how many bytes it had, and may take its time.
    pub(crate) fn create(
        storage: &'a dyn Storage,
        directory: &Path,
        origin: Origin,
        kind: TableKind,
        at_least: u64,
        pace: impl FnMut(u64) + 'a,
    ) -> Result<Self> {
        let path = origin.table.temporary_path(directory);
        let file = storage.open(&path, Access::Create);
        let file = file.map_err(CheckpointError::io("create", &path))?;
        let temporary = Temporary { storage, path };
        if at_least > 0 {
            let allocated = file.allocate(at_least);
            allocated.map_err(CheckpointError::io("make room for", &temporary.path))?;
        }
        Ok(Self {
            storage,
            temporary,
            path: origin.table.path(directory),
            file,
            pace: Box::new(pace),
            sabotages: Sabotages::default(),
            origin,
            kind,
            seed: origin.seed(),
            block: Vec::new(),
            block_entries: 0,
            block_first_key: Vec::new(),
            buffer: encode_header(origin, kind),
            written: 0,
            written_back: 0,
            index: Vec::new(),
            blocks: 0,
            entries: 0,
            is_sorted: true,
            first_key: Vec::new(),
            last_key: Vec::new(),
        })
    }

    /// Breaks rules, for tests.
    pub(crate) fn sabotage(mut self, sabotages: Sabotages) -> Self {
        self.sabotages = sabotages;
        self
    }

    /// How many bytes the table has so far.
    pub(crate) fn len(&self) -> u64 {
        self.written + (self.buffer.len() + self.block.len()) as u64
    }

    /// Whether nothing was added yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds a key and its value.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.push_operation(Operation::Put, key, value)
    }

    /// Adds an operation; other than [`Operation::Put`] in a delta table only.
    pub(crate) fn push_operation(
        &mut self,
        operation: Operation,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        assert!(
            operation == Operation::Put || self.kind == TableKind::Delta && value.is_empty(),
            "{operation:?} does not belong in a table of kind {:?}",
            self.kind
        );
        if let Some(length) = [key.len(), value.len()].into_iter().find(|&it| it > LENGTH_MAX) {
            return Err(CheckpointError::TooLarge { length, max: LENGTH_MAX });
        }
        let length = overhead(self.kind) + key.len() + value.len();
        if self.block_entries > 0 && self.block.len() + length > BLOCK_LENGTH {
            self.end_block(&[])?;
        }
        self.note_key(key);
        if self.block_entries == 0 {
            self.block_first_key.clear();
            self.block_first_key.extend_from_slice(key);
        }
        self.block_entries += 1;
        self.entries += 1;
        put_entry_head(&mut self.block, self.kind, operation, key, value, self.seed);
        if length > BUFFER_LENGTH {
            return self.end_block(value);
        }
        self.block.extend_from_slice(value);
        Ok(())
    }

    fn note_key(&mut self, key: &[u8]) {
        if self.entries == 0 {
            self.first_key.extend_from_slice(key);
        } else if self.is_sorted {
            self.is_sorted = self.last_key.as_slice() < key;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// Ends the block with bytes that are not in it yet, and begins the next one.
    fn end_block(&mut self, tail: &[u8]) -> Result<()> {
        let mut head = std::mem::take(&mut self.block);
        let described = IndexEntry {
            offset: self.written + self.buffer.len() as u64,
            length: length_u32(BLOCK_HEADER_LENGTH + head.len() + tail.len()),
            entries: self.block_entries,
            crc: put_block_header(&mut self.buffer, self.block_entries, &head, tail, self.seed),
            first_key: &self.block_first_key,
        };
        described.put(&mut self.index);
        self.blocks += 1;
        self.block_entries = 0;
        self.buffer.extend_from_slice(&head);
        head.clear();
        self.block = head;
        if !tail.is_empty() || self.buffer.len() >= BUFFER_LENGTH {
            self.write_buffer()?;
        }
        tail.chunks(BUFFER_LENGTH).try_for_each(|chunk| self.write(chunk))
    }

    fn write_buffer(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        write_all(&*self.file, &self.temporary.path, bytes, self.written)?;
        self.written += bytes.len() as u64;
        let since = self.written - self.written_back;
        if since >= WRITE_BACK_LENGTH {
            let asked = self.file.write_back(self.written_back, since);
            asked.map_err(CheckpointError::io("write back", &self.temporary.path))?;
            self.written_back = self.written;
        }
        (self.pace)(bytes.len() as u64);
        Ok(())
    }

    /// Makes the table durable and gives it its name, which the caller has to make durable too
    /// ([`Manifest::store`](super::manifest::Manifest::store) does so).
    ///
    /// The table holds what a snapshot at `timestamp` sees, when the log ended at `lsn`.
    pub(crate) fn finish(mut self, timestamp: Timestamp, lsn: Lsn) -> Result<TableRecord> {
        if self.block_entries > 0 {
            self.end_block(&[])?;
        }
        let index = std::mem::take(&mut self.index);
        let footer = Footer {
            origin: self.origin,
            kind: self.kind,
            is_sorted: self.is_sorted,
            timestamp,
            lsn,
            entries: self.entries,
            blocks: self.blocks,
            index_offset: self.written + self.buffer.len() as u64,
            index_length: index.len() as u64,
            index_crc: crc32(self.seed, &index),
            first_key: std::mem::take(&mut self.first_key),
            last_key: std::mem::take(&mut self.last_key),
        };
        let (footer_bytes, footer_crc) = footer.encode();
        self.buffer.extend_from_slice(&index);
        self.buffer.extend_from_slice(&footer_bytes);
        self.write_buffer()?;
        if !self.sabotages.breaks(Sabotage::ManifestBeforeTable) {
            let synced = self.file.sync_all();
            synced.map_err(CheckpointError::io("sync", &self.temporary.path))?;
        }
        drop(self.file);
        let renamed = self.storage.rename(&self.temporary.path, &self.path);
        renamed.map_err(CheckpointError::io("rename", &self.temporary.path))?;
        self.temporary.keep();
        Ok(TableRecord {
            table: self.origin.table,
            kind: self.kind,
            length: self.written,
            footer_crc,
            entries: self.entries,
            timestamp,
            lsn,
            lower: footer.first_key,
        })
    }
}

impl fmt::Debug for TableWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableWriter")
            .field("path", &self.path)
            .field("entries", &self.entries)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A file that goes when its writer does.
#[derive(Debug)]
struct Temporary<'a> {
    storage: &'a dyn Storage,
    path: PathBuf,
}

impl Temporary<'_> {
    /// The file has another name now.
    fn keep(mut self) {
        self.path.clear();
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty()
            && let Err(error) = self.storage.remove(&self.path)
        {
            // It goes when the database is opened the next time.
            tracing::warn!(path = %self.path.display(), %error, "an unfinished table stays");
        }
    }
}

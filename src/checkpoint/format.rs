//! The frame of a table: its header, its footer, and the index between them.
//!
//! ```text
//!   header │ block │ block │ ... │ index │ footer
//!   64 B     crc     crc           crc     crc, also in the manifest
//! ```
//!
//! | header | |
//! |---|---|
//! | 0 | magic, 8 bytes |
//! | 8 | version u16, flags u16 |
//! | 12 | reserved u32 = 0 |
//! | 16 | database u128, table u64, bucket u32 |
//! | 44 | 16 bytes = 0 |
//! | 60 | checksum of bytes 0..60 |
//!
//! The footer is magic, version, flags, database, table, bucket; timestamp u64, LSN u64; entries
//! u64, blocks u32; offset u64, length u64 and checksum u32 of the index; length u64 of the file;
//! the first and the last key, each with a length u32; then the length u32 of the footer itself
//! and the checksum of all that. The index has, for each block, its offset u64, length u32,
//! checksum u32, number of entries u32, and its first key with a length u32.
//!
//! 1. The parts tile the file: each begins where the one before it ends.
//! 2. In every version of the format magic and version stand at the beginning of header and
//!    footer, and the checksum at their end, so that another version is told from damage.
//! 3. The checksums of blocks and index start from [`Origin::seed`], those of header and footer,
//!    which name the origin themselves, from zero.

use std::path::Path;

use super::directory::TableId;
use super::error::{CheckpointError, Result};
use super::fields::{Fields, length_u32, put_sized};
use crate::crc::crc32;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};

/// The one version that this release reads and writes.
pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_LENGTH: usize = 64;
const HEADER_MAGIC: [u8; 8] = *b"\x93PSTAB\r\n";
const FOOTER_MAGIC: [u8; 8] = *b"\x93PSEND\r\n";
/// The footer's own length and checksum, at its end.
pub(super) const TAIL_LENGTH: usize = 8;
/// The footer of a table without keys.
const FOOTER_MIN: usize = 112;

const FLAG_DELTA: u16 = 1;
const FLAG_SORTED: u16 = 2;

/// Which table of which bucket of which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) database: DatabaseId,
    pub(crate) bucket: StoredId,
    pub(crate) table: TableId,
}

impl Origin {
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.database.get().to_le_bytes());
        to.extend(self.table.get().to_le_bytes());
        to.extend(self.bucket.get().to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        Ok(Self {
            database: DatabaseId::from_raw(fields.u128()?),
            table: TableId::from_raw(fields.u64()?),
            bucket: StoredId::from_raw(fields.u32()?),
        })
    }

    /// What checksums of this table start from.
    pub(super) fn seed(self) -> u32 {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        crc32(0, &bytes)
    }
}

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// Every key of a range once, in order, with its value.
    Range,
    /// Operations in the order of the log, to be applied after the bucket's ranges.
    Delta,
}

impl TableKind {
    fn flag(self) -> u16 {
        match self {
            Self::Range => 0,
            Self::Delta => FLAG_DELTA,
        }
    }

    fn of_flags(flags: u16) -> Self {
        if flags & FLAG_DELTA == 0 { Self::Range } else { Self::Delta }
    }
}

pub(super) fn encode_header(origin: Origin, kind: TableKind) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LENGTH);
    header.extend(HEADER_MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(kind.flag().to_le_bytes());
    header.extend([0; 4]);
    origin.put(&mut header);
    header.extend([0; 16]);
    let crc = crc32(0, &header);
    header.extend(crc.to_le_bytes());
    header
}

pub(super) fn decode_header(
    path: &Path,
    header: &[u8; HEADER_LENGTH],
) -> Result<(Origin, TableKind)> {
    let (checked, crc) = header.split_last_chunk().unwrap_or((&[], &[0; 4]));
    let mut fields = Fields::new(path, checked, 0);
    check_frame(&mut fields, HEADER_MAGIC, checked, u32::from_le_bytes(*crc))?;
    let flags = fields.u16()?;
    let reserved = fields.u32()?;
    let origin = Origin::read(&mut fields)?;
    let spare = fields.u128()?;
    if flags & !FLAG_DELTA != 0 || reserved != 0 || spare != 0 {
        return Err(fields.wrong("the header has flags that this version does not know"));
    }
    Ok((origin, TableKind::of_flags(flags)))
}

/// Magic, checksum and version, in this order: damage is no other version.
fn check_frame(fields: &mut Fields<'_>, magic: [u8; 8], checked: &[u8], crc: u32) -> Result<()> {
    let start = fields.offset();
    if fields.bytes(magic.len())? != magic {
        return Err(fields.wrong("these are not the first bytes of such a part"));
    }
    if crc32(0, checked) != crc {
        return Err(fields.corruption_at(start, "the checksum of this part does not match"));
    }
    fields.version(VERSION)
}

/// What stands at the end of a table, and what it says about the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) origin: Origin,
    pub(super) kind: TableKind,
    /// Whether each key is greater than the one before, compared as bytes.
    pub(super) is_sorted: bool,
    /// The snapshot that the table was written from.
    pub(super) timestamp: Timestamp,
    /// The end of the log at that snapshot.
    pub(super) lsn: Lsn,
    pub(super) entries: u64,
    pub(super) blocks: u32,
    pub(super) index_offset: u64,
    pub(super) index_length: u64,
    pub(super) index_crc: u32,
    pub(super) first_key: Vec<u8>,
    pub(super) last_key: Vec<u8>,
}

impl Footer {
    /// The footer as bytes, and its checksum.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let keys = self.first_key.len() + self.last_key.len();
        let length = FOOTER_MIN + keys;
        let file_length = self.index_offset + self.index_length + length as u64;
        let mut footer = Vec::with_capacity(length);
        footer.extend(FOOTER_MAGIC);
        footer.extend(VERSION.to_le_bytes());
        let sorted = if self.is_sorted { FLAG_SORTED } else { 0 };
        footer.extend((self.kind.flag() | sorted).to_le_bytes());
        self.origin.put(&mut footer);
        footer.extend(self.timestamp.get().to_le_bytes());
        footer.extend(self.lsn.get().to_le_bytes());
        footer.extend(self.entries.to_le_bytes());
        footer.extend(self.blocks.to_le_bytes());
        footer.extend(self.index_offset.to_le_bytes());
        footer.extend(self.index_length.to_le_bytes());
        footer.extend(self.index_crc.to_le_bytes());
        footer.extend(file_length.to_le_bytes());
        put_sized(&mut footer, &self.first_key);
        put_sized(&mut footer, &self.last_key);
        footer.extend(length_u32(length).to_le_bytes());
        let crc = crc32(0, &footer);
        footer.extend(crc.to_le_bytes());
        assert_eq!(footer.len(), length, "the footer has the length that it says");
        (footer, crc)
    }

    /// How long the footer is, from the last bytes of a file of this length.
    pub(super) fn length(path: &Path, tail: [u8; TAIL_LENGTH], file_length: u64) -> Result<usize> {
        let [a, b, c, d, ..] = tail;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let fits = (length as u64)
            .checked_add(HEADER_LENGTH as u64)
            .is_some_and(|least| least <= file_length);
        if length < FOOTER_MIN || !fits {
            let at = file_length.saturating_sub(TAIL_LENGTH as u64);
            return Err(CheckpointError::corruption(path, at, "no footer has this length"));
        }
        Ok(length)
    }

    /// Reads the footer that `bytes` are the whole of, and its checksum.
    pub(super) fn decode(path: &Path, bytes: &[u8], file_length: u64) -> Result<(Self, u32)> {
        let start = file_length.saturating_sub(bytes.len() as u64);
        let (checked, crc) = bytes.split_last_chunk().unwrap_or((&[], &[0; 4]));
        let crc = u32::from_le_bytes(*crc);
        let mut fields = Fields::new(path, checked, start);
        check_frame(&mut fields, FOOTER_MAGIC, checked, crc)?;
        let flags = fields.u16()?;
        let footer = Self {
            origin: Origin::read(&mut fields)?,
            kind: TableKind::of_flags(flags),
            is_sorted: flags & FLAG_SORTED != 0,
            timestamp: Timestamp::from_raw(fields.u64()?),
            lsn: Lsn::from_raw(fields.u64()?),
            entries: fields.u64()?,
            blocks: fields.u32()?,
            index_offset: fields.u64()?,
            index_length: fields.u64()?,
            index_crc: fields.u32()?,
            first_key: {
                if fields.u64()? != file_length {
                    return Err(fields.wrong("the file has another length than it says"));
                }
                fields.sized()?.to_vec()
            },
            last_key: fields.sized()?.to_vec(),
        };
        // `length` has read it already.
        let _own_length = fields.u32()?;
        if flags & !(FLAG_DELTA | FLAG_SORTED) != 0
            || !fields.is_at_end()
            || footer.index_offset < HEADER_LENGTH as u64
            || footer.index_offset.checked_add(footer.index_length) != Some(start)
        {
            return Err(fields.wrong("the footer contradicts itself"));
        }
        Ok((footer, crc))
    }
}

/// What the index says about a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry<'a> {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) crc: u32,
    pub(super) entries: u32,
    pub(super) first_key: &'a [u8],
}

impl<'a> IndexEntry<'a> {
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.offset.to_le_bytes());
        to.extend(self.length.to_le_bytes());
        to.extend(self.crc.to_le_bytes());
        to.extend(self.entries.to_le_bytes());
        put_sized(to, self.first_key);
    }

    pub(super) fn read(fields: &mut Fields<'a>) -> Result<Self> {
        Ok(Self {
            offset: fields.u64()?,
            length: fields.u32()?,
            crc: fields.u32()?,
            entries: fields.u32()?,
            first_key: fields.sized()?,
        })
    }
}

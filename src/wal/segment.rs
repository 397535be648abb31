//! Segments: files of the log, made in full before they are used.
//!
//! ```text
//!  0        8        12       16         32    36     40    44      48        56   60    64
//!  | magic  | version| header | database | seg | salt | size| endian| reserved| 0  | crc | 0 ..
//!  |        | flags  | bytes  |          |     |      |     | tag   | = 0     |    |
//!  4096     records ..                                                          .. to `size`
//! ```
//!
//! 1. A file has the name of a segment only while header, length and blocks are durable. It gets
//!    there from a temporary name, and leaves for one before its header is written again. So a bad
//!    header under a segment's name is damage, whenever it is found.
//! 2. Each life of a file has its own number and its own salt. Flag 1 says that its first record, a
//!    link, was written with the header and is as durable: a segment that an opening began with.
//! 3. The header has a page of its own, which no record touches.

use std::path::{Path, PathBuf};

use crate::crc::crc32;
use crate::id::{DatabaseId, Lsn, SegmentId};
use crate::storage::{File, Map};
use crate::wal::disk::{Disk, sync_all, write_all};
use crate::wal::error::{Flaw, WalError};
use crate::wal::record::{header_seed, u32_at, u64_at};

/// Where the records begin.
pub(crate) const RECORDS: u32 = 4096;
const HEADER_BYTES: u32 = 64;
const HEADER: usize = HEADER_BYTES as usize;
const MAGIC: [u8; 8] = *b"\x89PALW\r\n\x1a";
const ENDIAN_TAG: u32 = 0x0102_0304;

/// The name of a segment's file.
pub(super) fn name(segment: SegmentId) -> String {
    format!("wal-{segment}.log")
}

/// The file in which a position lies.
pub(crate) fn path_of(directory: &Path, at: Lsn) -> PathBuf {
    directory.join(name(at.segment()))
}

/// The error for a record that is sound, and holds nothing that this version understands.
pub(crate) fn unreadable(directory: &Path, at: Lsn) -> WalError {
    WalError::Corruption {
        path: path_of(directory, at),
        offset: at.offset().into(),
        flaw: Flaw::Field,
        durable: at,
    }
}

/// The name of a file that is to become a segment.
pub(super) fn temporary_name(segment: SegmentId) -> String {
    format!("wal-{segment}.tmp")
}

/// The segment that a file of this name is, if it is one.
pub(super) fn parse_name(file: &str) -> Option<SegmentId> {
    let digits = file.strip_prefix("wal-")?.strip_suffix(".log")?;
    let is_ours = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 8 || !digits.bytes().all(is_ours) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok().filter(|raw| *raw > 0).map(SegmentId::from_raw)
}

/// Whether a crash left this file behind while it was being made.
pub(super) fn is_temporary(file: &str) -> bool {
    file.starts_with("wal-")
        && file.strip_suffix(".tmp").is_some_and(|stem| {
            // A whole name, so that nothing of the user's is taken for ours.
            parse_name(&format!("{stem}.log")).is_some()
        })
}

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) database: DatabaseId,
    pub(super) segment: SegmentId,
    pub(super) salt: u32,
    pub(super) size: u32,
    /// Whether the segment got its link before its name.
    pub(super) is_linked: bool,
}

/// Why a header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Flaw(Flaw),
    Version(u16),
}

impl Header {
    /// The format that this version writes and reads.
    pub(super) const VERSION: u16 = 1;

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            let end = at + field.len();
            bytes.get_mut(at..end).expect("the fields fill the header").copy_from_slice(field);
            at = end;
        };
        put(&MAGIC);
        put(&Self::VERSION.to_le_bytes());
        put(&u16::from(self.is_linked).to_le_bytes());
        put(&HEADER_BYTES.to_le_bytes());
        put(&self.database.get().to_le_bytes());
        put(&self.segment.get().to_le_bytes());
        put(&self.salt.to_le_bytes());
        put(&self.size.to_le_bytes());
        put(&ENDIAN_TAG.to_le_bytes());
        let (front, back) = bytes.split_at_mut(HEADER - 4);
        back.copy_from_slice(&crc32(0, front).to_le_bytes());
        bytes
    }

    /// Where the checksums of record headers begin, in this life of the file.
    pub(super) fn record_seed(&self) -> u32 {
        header_seed(self.database, self.segment.get(), self.salt)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(HeaderError::Flaw(Flaw::Short))?;
        let (front, _) = bytes.split_at(HEADER - 4);
        if !bytes.starts_with(&MAGIC) {
            return Err(HeaderError::Flaw(Flaw::Magic));
        }
        if crc32(0, front) != u32_at(bytes, HEADER - 4) {
            return Err(HeaderError::Flaw(Flaw::HeaderChecksum));
        }
        let [version @ .., flags, _] = u32_at(bytes, 8).to_le_bytes();
        let version = u16::from_le_bytes(version);
        if version != Self::VERSION {
            return Err(HeaderError::Version(version));
        }
        let database = u128::from(u64_at(bytes, 16)) | u128::from(u64_at(bytes, 24)) << 64;
        let header = Self {
            database: DatabaseId::from_raw(database),
            segment: SegmentId::from_raw(u32_at(bytes, 32)),
            salt: u32_at(bytes, 36),
            size: u32_at(bytes, 40),
            is_linked: flags == 1,
        };
        // Encoding covers the other flags, the reserved bytes and the constants.
        if header.encode() != *bytes || header.size <= RECORDS || header.segment.get() == 0 {
            return Err(HeaderError::Flaw(Flaw::Field));
        }
        Ok(header)
    }
}

/// A file that has the name and the header of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    header: Header,
    path: PathBuf,
    file: Box<dyn File>,
    header_seed: u32,
}

impl Segment {
    pub(super) fn new(header: Header, path: PathBuf, file: Box<dyn File>) -> Self {
        let header_seed = header.record_seed();
        Self { header, path, file, header_seed }
    }

    pub(super) fn id(&self) -> SegmentId {
        self.header.segment
    }

    pub(super) fn database(&self) -> DatabaseId {
        self.header.database
    }

    /// Whether it got its link before its name, so that one without is damaged.
    pub(super) fn is_linked(&self) -> bool {
        self.header.is_linked
    }

    pub(super) fn salt(&self) -> u32 {
        self.header.salt
    }

    /// The length of the file; no record goes beyond.
    pub(super) fn size(&self) -> u32 {
        self.header.size
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Where the checksums of its record headers begin.
    pub(super) fn header_seed(&self) -> u32 {
        self.header_seed
    }

    pub(super) fn at(&self, offset: u32) -> Lsn {
        Lsn::new(self.id(), offset)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u32) -> Result<(), WalError> {
        write_all(self.file(), &self.path, bytes, u64::from(offset))
    }
}

/// A segment that may be used at once, and the way to store into it if there is one.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) segment: Segment,
    pub(super) map: Option<Box<dyn Map>>,
}

/// Makes segments for one database.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) disk: &'a Disk,
    /// Whether small records are stored through a map.
    pub(super) is_mapped: bool,
}

impl Maker<'_> {
    /// Makes a segment out of nothing, with `first` as its first record if there is one. On
    /// failure nothing is left of it.
    pub(super) fn create(&self, header: Header, first: &[u8]) -> Result<Ready, WalError> {
        let temporary = self.disk.path(&temporary_name(header.segment));
        let file = self.disk.create(&temporary).map_err(|error| self.explain(error))?;
        let allocated = allocate(&*file, &temporary, header.size);
        self.finish(allocated, header, &temporary, file, first)
    }

    /// Gives a file that is not needed any more another life. On failure nothing is left of it.
    pub(super) fn recycle(
        &self,
        old: Segment,
        header: Header,
        first: &[u8],
    ) -> Result<Ready, WalError> {
        assert!(old.size() == header.size, "a recycled segment keeps its size");
        let temporary = self.disk.path(&temporary_name(header.segment));
        let Segment { path, file, .. } = old;
        // Invariant 1: the segment's name is given up, durably, before the header changes.
        if let Err(error) = self.disk.rename(&path, &temporary) {
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        // A copy of the directory may have left holes where there were zeros.
        let allocated =
            self.disk.sync_names().and_then(|()| allocate(&*file, &temporary, header.size));
        self.finish(allocated, header, &temporary, file, first)
    }

    /// Writes header and first record, makes the file durable and then its name.
    fn finish(
        &self,
        begun: Result<(), WalError>,
        header: Header,
        temporary: &Path,
        file: Box<dyn File>,
        first: &[u8],
    ) -> Result<Ready, WalError> {
        let path = self.disk.path(&name(header.segment));
        let mut page = vec![0; RECORDS as usize];
        page.get_mut(..HEADER).expect("a page is longer").copy_from_slice(&header.encode());
        page.extend_from_slice(first);
        let made = begun
            .and_then(|()| write_all(&*file, temporary, &page, 0))
            .and_then(|()| sync_all(&*file, temporary))
            .and_then(|()| self.disk.rename(temporary, &path))
            .and_then(|()| self.disk.sync_names())
            .and_then(|()| self.map(&*file, &path, header.size));
        match made {
            Ok(map) => Ok(Ready { segment: Segment::new(header, path, file), map }),
            Err(error) => {
                // One of them is there. If it cannot be removed, the next open sees to it.
                let _ = self.disk.remove(temporary);
                let _ = self.disk.remove(&path);
                Err(self.explain(error))
            }
        }
    }

    pub(super) fn map(
        &self,
        file: &dyn File,
        path: &Path,
        size: u32,
    ) -> Result<Option<Box<dyn Map>>, WalError> {
        if !self.is_mapped {
            return Ok(None);
        }
        let length = usize::try_from(size).expect("a segment fits the address space");
        file.map(length).map(Some).map_err(|source| WalError::io("map", path, source))
    }

    fn explain(&self, error: WalError) -> WalError {
        error.or_no_space(self.disk.directory())
    }
}

/// Real blocks, written once.
fn allocate(file: &dyn File, path: &Path, size: u32) -> Result<(), WalError> {
    file.allocate(u64::from(size)).map_err(|source| WalError::io("allocate", path, source))
}

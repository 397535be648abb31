//! Reading one segment: record after record, or whatever can still be found.
//!
//! 1. Nothing that is read is believed before its checksum matches; lengths are compared with the
//!    segment first, so what is allocated is bounded by the file.
//! 2. A read that fails is an error, never the end of the log.
//! 3. The scanner stops at the first flaw and does not move; what lies behind is for [`probe`].

use crate::crc::crc32;
use crate::id::{Lsn, Timestamp};
use crate::storage::{Sabotage, Sabotages};
use crate::wal::disk::read_full;
use crate::wal::error::{Flaw, WalError};
use crate::wal::record::{
    ALIGNMENT, HEADER, Header, Kind, Record, frame_bytes, payload_seed, u64_at,
};
use crate::wal::segment::{RECORDS, Segment};

/// Bytes that are read at once.
const READ: usize = 256 * 1024;

/// Bytes of a file around the place where one reads.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// The bytes from `offset` to the end of the file or of `length`, whichever is first.
    fn bytes(&mut self, segment: &Segment, offset: u64, length: usize) -> Result<&[u8], WalError> {
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let is_held = held.is_some_and(|skip| {
            skip.checked_add(length).is_some_and(|end| end <= self.bytes.len())
        });
        if !is_held {
            let limit = u64::from(segment.size()).saturating_sub(offset);
            let wanted = (length.max(READ) as u64).min(limit);
            let wanted = usize::try_from(wanted).expect("a segment fits the address space");
            // Emptied first, so that a failed read leaves nothing behind to be taken for bytes.
            self.bytes.clear();
            self.bytes.resize(wanted, 0);
            self.start = offset;
            let read = read_full(segment.file(), segment.path(), &mut self.bytes, offset);
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let skip = usize::try_from(offset - self.start).expect("the window holds the place");
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Record(Record<'a>),
    /// The limit is reached exactly.
    Limit,
    /// What stands here is not a record of the log.
    Flaw(Flaw),
}

/// Reads the records of a segment in order.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    segment: &'a Segment,
    offset: u32,
    limit: u32,
    last: Timestamp,
    window: Window,
    sabotages: Sabotages,
}

impl<'a> Scanner<'a> {
    /// Reads from `offset` to `limit`; what comes before ended with the commit `last`.
    pub(super) fn new(
        segment: &'a Segment,
        (offset, limit): (u32, u32),
        last: Timestamp,
        sabotages: Sabotages,
    ) -> Self {
        let limit = limit.min(segment.size());
        Self { segment, offset, limit, last, window: Window::default(), sabotages }
    }

    /// Where the next record begins.
    pub(super) fn position(&self) -> Lsn {
        self.segment.at(self.offset)
    }

    /// The last commit so far.
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    /// Moves over the next record.
    pub(super) fn step(&mut self) -> Result<Step<'_>, WalError> {
        if self.offset == self.limit {
            return Ok(Step::Limit);
        }
        let header = match self.header()? {
            Ok(header) => header,
            Err(flaw) => return Ok(Step::Flaw(flaw)),
        };
        let kind = match self.judge(&header) {
            Ok(kind) => kind,
            Err(flaw) => return Ok(Step::Flaw(flaw)),
        };
        let (offset, length) = (self.offset, header.length as usize);
        let bytes = self.window.bytes(self.segment, u64::from(offset), length)?;
        let Some((_, payload)) = bytes.split_at_checked(HEADER).filter(|_| bytes.len() == length)
        else {
            return Ok(Step::Flaw(Flaw::Short));
        };
        let is_checked = !self.sabotages.breaks(Sabotage::IgnorePayloadChecksum);
        let payload_crc = crc32(payload_seed(self.segment.database()), payload);
        if is_checked && payload_crc != header.payload_crc {
            return Ok(Step::Flaw(Flaw::PayloadChecksum));
        }
        let frame = u32::try_from(frame_bytes(length)).expect("it was compared with the limit");
        self.offset += frame;
        self.last = self.last.max(header.timestamp);
        Ok(Step::Record(Record {
            kind,
            lsn: self.segment.at(offset),
            end: self.segment.at(self.offset),
            timestamp: header.timestamp,
            durable: header.durable,
            ops: header.ops,
            payload,
        }))
    }

    fn header(&mut self) -> Result<Result<Header, Flaw>, WalError> {
        let room = self.limit.saturating_sub(self.offset) as usize;
        if room < HEADER || !(self.offset as usize).is_multiple_of(ALIGNMENT) {
            return Ok(Err(Flaw::Bounds));
        }
        let bytes = self.window.bytes(self.segment, u64::from(self.offset), HEADER)?;
        let Some(bytes) = bytes.first_chunk() else { return Ok(Err(Flaw::Short)) };
        let (header, is_valid) = Header::decode(bytes, self.segment.header_seed());
        Ok(if header.length == 0 {
            Err(Flaw::Empty)
        } else if header.lsn != self.position() && !self.sabotages.breaks(Sabotage::IgnoreLsn) {
            Err(Flaw::Position)
        } else if !is_valid {
            Err(Flaw::HeaderChecksum)
        } else if frame_bytes(header.length as usize) > room {
            Err(Flaw::Bounds)
        } else {
            Ok(header)
        })
    }

    /// What a header with a good checksum may still get wrong.
    fn judge(&self, header: &Header) -> Result<Kind, Flaw> {
        let kind = header.kind()?;
        // The other kinds name the last commit that their writer knew of, which may be none.
        if kind == Kind::Commit && header.timestamp <= self.last {
            return Err(Flaw::Order);
        }
        if (kind == Kind::Link) != (self.offset == RECORDS) {
            return Err(Flaw::Link);
        }
        Ok(kind)
    }
}

/// Where the log was before this segment: the payload of its link, and the link itself.
pub(super) fn read_link(segment: &Segment) -> Result<Option<Lsn>, WalError> {
    let bounds = (RECORDS, segment.size());
    let mut scanner = Scanner::new(segment, bounds, Timestamp::ZERO, Sabotages::default());
    Ok(match scanner.step()? {
        Step::Record(record) if record.kind == Kind::Link => record.pointer(),
        _ => None,
    })
}

/// What is left in a segment behind a flaw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// Valid headers, and the bytes of their records.
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// The highest position that one of them says was durable.
    pub(super) durable: Lsn,
}

impl Remains {
    fn add(&mut self, header: &Header) {
        self.records += 1;
        self.bytes += frame_bytes(header.length as usize) as u64;
        self.durable = self.durable.max(header.durable);
    }
}

/// Looks for valid headers at every place from `offset` on.
pub(super) fn probe(segment: &Segment, offset: u32) -> Result<Remains, WalError> {
    let mut remains = Remains::default();
    let mut window = Window::default();
    let mut at = u64::from(offset).next_multiple_of(ALIGNMENT as u64);
    loop {
        let rest = u64::from(segment.size()).saturating_sub(at);
        let piece = usize::try_from(rest.min(READ as u64)).expect("a piece is small");
        let bytes = window.bytes(segment, at, piece)?;
        if bytes.len() < HEADER {
            return Ok(remains);
        }
        for bytes in bytes.windows(HEADER).step_by(ALIGNMENT) {
            let bytes = bytes.first_chunk().expect("windows have the length of a header");
            let lsn = Lsn::new(segment.id(), u32::try_from(at).expect("within the segment"));
            at += ALIGNMENT as u64;
            if u64_at(bytes, 8) == lsn.get() {
                let (header, is_valid) = Header::decode(bytes, segment.header_seed());
                if is_valid && header.kind().is_ok() {
                    remains.add(&header);
                }
            }
        }
    }
}

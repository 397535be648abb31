//! Records: what one transaction wrote, or where the log goes on, as one checked frame.
//!
//! ```text
//!  0        4        8        16         24          32       36    37     38    40
//!  | length | header | lsn    | durable  | timestamp | payload| kind| flags| ops | payload .. 0
//!  |        | crc    |        |          |           | crc    |     | = 0  |     | to a multiple
//!                                                                                    of 8 bytes
//! ```
//!
//! All numbers are little-endian. `length` counts header and payload without the padding; zero
//! means that there is no record. `durable` is the position up to which the log was known to be on
//! the device when the record was appended: a later record is the proof that an earlier place was
//! durable, and so the difference between a torn tail and damage.
//!
//! 1. The header's checksum begins from the one of database, segment and salt, so a header is
//!    valid in one life of one segment only.
//! 2. A record names its own position: one that was written for another place is told apart.
//! 3. The payload's checksum begins from the one of the database, so it is computed before the
//!    position is known, outside every lock.

use crate::crc::crc32;
use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::wal::error::{Flaw, WalError};

/// Bytes of a record before its payload.
pub(crate) const HEADER: usize = 40;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The largest payload.
pub(crate) const PAYLOAD_MAX: usize = 1 << 30;
/// The frame of a link or a seal: its payload is one position.
pub(super) const LINK_FRAME: usize = HEADER + 8;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One transaction.
    Commit = 1,
    /// The first record of a segment; the payload is the exact end of the log before it.
    Link = 2,
    /// Nothing but the durable position.
    Mark = 3,
    /// The last record of a segment that was left; the payload is where the log goes on.
    Seal = 4,
}

impl Kind {
    fn from_raw(raw: u8) -> Option<Self> {
        [Self::Commit, Self::Link, Self::Mark, Self::Seal]
            .into_iter()
            .find(|kind| *kind as u8 == raw)
    }
}

/// A valid record, as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// What it is for.
    pub(crate) kind: Kind,
    /// Where it begins.
    pub(crate) lsn: Lsn,
    /// Where the next one begins, in the same segment.
    pub(crate) end: Lsn,
    /// The commit, or for other kinds the last commit before.
    pub(crate) timestamp: Timestamp,
    /// The position known to be durable when it was appended.
    pub(crate) durable: Lsn,
    /// The number of operations in the payload, modulo 65 536.
    pub(crate) ops: u16,
    /// What the transaction wrote.
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// The position in a link or a seal.
    pub(super) fn pointer(&self) -> Option<Lsn> {
        self.payload.first_chunk().map(|raw| Lsn::from_raw(u64::from_le_bytes(*raw)))
    }

    /// Where the log goes on, if this is a seal.
    pub(super) fn seal(&self) -> Option<Lsn> {
        self.pointer().filter(|_| self.kind == Kind::Seal)
    }
}

/// Where the checksums of a segment's headers begin.
pub(super) fn header_seed(database: DatabaseId, segment: u32, salt: u32) -> u32 {
    let seed = crc32(payload_seed(database), &segment.to_le_bytes());
    crc32(seed, &salt.to_le_bytes())
}

/// Where the checksums of a database's payloads begin.
pub(super) fn payload_seed(database: DatabaseId) -> u32 {
    crc32(0, &database.get().to_le_bytes())
}

/// Bytes that a record of so many bytes takes in the log.
pub(super) fn frame_bytes(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// The fields of a record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Header and payload.
    pub(super) length: u32,
    pub(super) lsn: Lsn,
    pub(super) durable: Lsn,
    pub(super) timestamp: Timestamp,
    pub(super) payload_crc: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) ops: u16,
}

impl Header {
    pub(super) fn encode(&self, seed: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            let end = at + field.len();
            bytes.get_mut(at..end).expect("the fields fill the header").copy_from_slice(field);
            at = end;
        };
        put(&self.length.to_le_bytes());
        put(&[0; 4]);
        put(&self.lsn.get().to_le_bytes());
        put(&self.durable.get().to_le_bytes());
        put(&self.timestamp.get().to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        put(&[self.kind, self.flags]);
        put(&self.ops.to_le_bytes());
        let crc = checksum(&bytes, seed).to_le_bytes();
        bytes.get_mut(4..8).expect("the header is longer").copy_from_slice(&crc);
        bytes
    }

    /// The fields, whatever they say, and whether the checksum matches.
    pub(super) fn decode(bytes: &[u8; HEADER], seed: u32) -> (Self, bool) {
        let header = Self {
            length: u32_at(bytes, 0),
            lsn: Lsn::from_raw(u64_at(bytes, 8)),
            durable: Lsn::from_raw(u64_at(bytes, 16)),
            timestamp: Timestamp::from_raw(u64_at(bytes, 24)),
            payload_crc: u32_at(bytes, 32),
            kind: byte_at(bytes, 36),
            flags: byte_at(bytes, 37),
            ops: u16::from_le_bytes([byte_at(bytes, 38), byte_at(bytes, 39)]),
        };
        (header, checksum(bytes, seed) == u32_at(bytes, 4))
    }

    /// The kind, if the fields mean something in this version.
    pub(super) fn kind(&self) -> Result<Kind, Flaw> {
        let kind = Kind::from_raw(self.kind).ok_or(Flaw::Field)?;
        let length = self.length as usize;
        let fits = match kind {
            Kind::Commit => length >= HEADER,
            Kind::Link | Kind::Seal => length == LINK_FRAME,
            Kind::Mark => length == HEADER,
        };
        if fits && self.flags == 0 { Ok(kind) } else { Err(Flaw::Field) }
    }
}

/// Over all of the header but the checksum itself, in one piece: that is the faster way.
fn checksum(bytes: &[u8; HEADER], seed: u32) -> u32 {
    let mut covered = [0; HEADER - 4];
    let (length, fields) = covered.split_at_mut(4);
    let (front, back) = bytes.split_at(8);
    length.copy_from_slice(front.split_at(4).0);
    fields.copy_from_slice(back);
    crc32(seed, &covered)
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The number at `at`; the caller has seen to it that the bytes are there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_le_bytes(*field.expect("the caller looked at the length"))
}

/// The number at `at`; the caller has seen to it that the bytes are there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u64::from_le_bytes(*field.expect("the caller looked at the length"))
}

/// Bytes that a draft has room for from the beginning. A small transaction fits, and its buffer is
/// the one that the last of its thread gave back, as allocators keep those of one size at hand: to
/// grow it in steps, each of another size, was a fifth of what a commit that does not wait for its
/// sync costs beside one without a log.
const ROOM: usize = 512;

/// Where the checksums of one database's payloads begin, computed once for all its commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PayloadSeed(u32);

impl PayloadSeed {
    /// The one of this database.
    pub(crate) fn of(database: DatabaseId) -> Self {
        Self(payload_seed(database))
    }
}

/// A payload while it is written.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    seed: PayloadSeed,
}

impl Draft {
    /// An empty payload for the database of `seed`.
    pub(crate) fn new(seed: PayloadSeed) -> Self {
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.resize(HEADER, 0);
        Self { bytes, seed }
    }

    /// Where to append. What is there already must stay.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Refuses a payload that no record can hold.
    pub(super) fn check(bytes: usize) -> Result<(), WalError> {
        if bytes > PAYLOAD_MAX {
            return Err(WalError::TooLarge { bytes, max: PAYLOAD_MAX });
        }
        Ok(())
    }

    /// Closes the payload, which holds so many operations, and takes its checksum.
    ///
    /// # Errors
    ///
    /// [`WalError::TooLarge`].
    pub(crate) fn finish(self, ops: usize) -> Result<Payload, WalError> {
        let Self { mut bytes, seed } = self;
        let payload = bytes.get(HEADER..).expect("what was there stays there");
        Self::check(payload.len())?;
        let crc = crc32(seed.0, payload);
        let length = u32::try_from(bytes.len()).expect("a payload is at most 1 GiB");
        bytes.resize(frame_bytes(bytes.len()), 0);
        let ops = u16::try_from(ops & usize::from(u16::MAX)).expect("cut to sixteen bits");
        Ok(Payload { frame: bytes, length, crc, ops })
    }
}

/// What one transaction wrote, ready to be appended: all but the place and the time.
#[derive(Debug)]
pub(crate) struct Payload {
    /// Room for the header, the payload, the padding.
    frame: Vec<u8>,
    length: u32,
    crc: u32,
    ops: u16,
}

impl Payload {
    /// Bytes it takes in the log.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// The finished record.
    pub(super) fn stamp(
        &mut self,
        lsn: Lsn,
        durable: Lsn,
        timestamp: Timestamp,
        seed: u32,
    ) -> &[u8] {
        let header = Header {
            length: self.length,
            lsn,
            durable,
            timestamp,
            payload_crc: self.crc,
            kind: Kind::Commit as u8,
            flags: 0,
            ops: self.ops,
        };
        let slot = self.frame.first_chunk_mut().expect("a draft begins with room for the header");
        *slot = header.encode(seed);
        &self.frame
    }
}

/// A record that is not a commit, with the payload that its kind has.
pub(super) struct Note {
    bytes: [u8; LINK_FRAME],
    length: usize,
}

impl Note {
    /// A link, with the end of the log before it, or a seal, with the place where it goes on.
    pub(super) fn pointer(
        kind: Kind,
        place: (Lsn, Lsn, Timestamp),
        to: Lsn,
        (database, seed): (DatabaseId, u32),
    ) -> Self {
        let payload = to.get().to_le_bytes();
        let payload_crc = crc32(payload_seed(database), &payload);
        let length = LINK_FRAME;
        let header = Self::header(kind, place, length, payload_crc);
        let mut bytes = [0; LINK_FRAME];
        let (front, back) = bytes.split_at_mut(HEADER);
        front.copy_from_slice(&header.encode(seed));
        back.copy_from_slice(&payload);
        Self { bytes, length }
    }

    /// A mark.
    pub(super) fn mark(place: (Lsn, Lsn, Timestamp), (database, seed): (DatabaseId, u32)) -> Self {
        let header = Self::header(Kind::Mark, place, HEADER, payload_seed(database));
        let mut bytes = [0; LINK_FRAME];
        *bytes.first_chunk_mut().expect("a link is longer than a header") = header.encode(seed);
        Self { bytes, length: HEADER }
    }

    fn header(
        kind: Kind,
        (lsn, durable, timestamp): (Lsn, Lsn, Timestamp),
        length: usize,
        payload_crc: u32,
    ) -> Header {
        let length = u32::try_from(length).expect("a note is short");
        Header { length, lsn, durable, timestamp, payload_crc, kind: kind as u8, flags: 0, ops: 0 }
    }

    pub(super) fn frame(&self) -> &[u8] {
        self.bytes.get(..self.length).expect("the length was taken from the bytes")
    }
}

//! Numbers that mean something, as types that cannot be mixed up.

use std::fmt;

/// Logical commit time. A snapshot at `t` sees exactly the versions committed at or before `t`.
///
/// Timestamps are dense: the first commit of a database has timestamp 1, each later one its
/// predecessor's plus one. Zero is the empty database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time before the first commit.
    pub const ZERO: Self = Self(0);
    /// Later than every commit; means "none" where a minimum is taken.
    pub(crate) const MAX: Self = Self(u64::MAX);
    /// Commit times use 52 bits, so that twelve are left for heat and tags in a version's stamp. A
    /// million commits a second use them up in 142 years.
    pub(crate) const BITS: u32 = 52;

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number of commits up to and including this moment.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The timestamp of the commit after this one.
    pub(crate) const fn next(self) -> Self {
        assert!(self.0 < (1 << Self::BITS) - 1, "commit timestamps are used up");
        Self(self.0 + 1)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a bucket inside one database; never used twice there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketId(u32);

impl BucketId {
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// Names a segment of the log. Segments are numbered in the order of their use, from 1, and a
/// number is never used twice in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId(u32);

impl SegmentId {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// The segment after this one; `None` when the numbers are used up.
    pub(crate) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A position in the log: a segment and a byte offset in its file.
///
/// Positions rise along the log and are never used twice, so a stale record in a recycled file
/// fails a plain comparison. Zero is before the first segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    pub(crate) const fn new(segment: SegmentId, offset: u32) -> Self {
        Self((segment.0 as u64) << 32 | offset as u64)
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The position as one number: the segment's in the upper half, the offset in the lower.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn segment(self) -> SegmentId {
        SegmentId((self.0 >> 32) as u32)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the offset")]
    pub(crate) const fn offset(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:x}", self.segment(), self.offset())
    }
}

/// Names a database: drawn at random when it is created, and written into each of its files, so
/// that a file of another one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DatabaseId(u128);

impl DatabaseId {
    pub(crate) const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    pub(crate) const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Names a durable bucket in the files of its database; never used twice there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoredId(u32);

impl StoredId {
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

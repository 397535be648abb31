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
    /// Commit times use 60 bits, so that four are left for tags in a version's stamp.
    pub(crate) const BITS: u32 = 60;

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

//! What can go wrong with the log, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::id::{Lsn, SegmentId};
use crate::sync::Arc;

/// Why the log refuses.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// There is no room for another segment. Nothing was changed; free some space and try again.
    #[error("no space for a segment of the log in {}", path.display())]
    NoSpace {
        /// The directory of the log.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// The record is too large for the log. Write less in one transaction.
    #[error("a record of {bytes} bytes; the log takes at most {max}")]
    TooLarge {
        /// The size of the record's payload.
        bytes: usize,
        /// The largest one allowed.
        max: usize,
    },

    /// An earlier write or sync failed. Nothing more is written; reopen the database.
    #[error("the log takes no more records since a write or sync failed")]
    Poisoned {
        /// The first failure.
        #[source]
        cause: Cause,
    },

    /// The log is damaged where it had been durable. Restore a backup, or salvage a copy.
    #[error("{} is damaged at byte {offset}: {flaw}; durable up to {durable}", path.display())]
    Corruption {
        /// The segment's file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        flaw: Flaw,
        /// The position up to which the log is known to have been durable.
        durable: Lsn,
    },

    /// A segment that is needed is not there. Restore a backup, or salvage a copy.
    #[error("segment {segment} of the log is missing in {}", directory.display())]
    MissingSegment {
        /// The directory of the log.
        directory: PathBuf,
        /// The segment, as in the file's name.
        segment: String,
    },

    /// The file belongs to another database. Put the right one in its place.
    #[error("{} belongs to another database", path.display())]
    Foreign {
        /// The segment's file.
        path: PathBuf,
    },

    /// The file was written by a version with another format. Open it with that version.
    #[error("{} has format {found}; this version reads {known}", path.display())]
    Version {
        /// The segment's file.
        path: PathBuf,
        /// The format of the file.
        found: u16,
        /// The format that this version reads.
        known: u16,
    },

    /// All four thousand million segment numbers are used up. Copy the data to a new database.
    #[error("the log has used up its segment numbers")]
    SegmentsUsedUp,
}

/// The failure that poisoned a log.
pub type Cause = Arc<dyn StdError + Send + Sync>;

impl WalError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn missing(directory: &Path, segment: SegmentId) -> Self {
        Self::MissingSegment { directory: directory.to_owned(), segment: segment.to_string() }
    }

    /// The same failure as [`WalError::NoSpace`], if that is what the system said.
    pub(super) fn or_no_space(self, directory: &Path) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match self {
            Self::Io { source, .. }
                if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) =>
            {
                Self::NoSpace { path: directory.to_owned(), source }
            }
            other => other,
        }
    }
}

/// What is wrong with the bytes at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// There is no record: the length is zero.
    Empty,
    /// The record does not fit where it stands.
    Bounds,
    /// The record says that it belongs elsewhere.
    Position,
    /// The checksum of a header does not match.
    HeaderChecksum,
    /// The checksum of a payload does not match.
    PayloadChecksum,
    /// A field has a value that means nothing.
    Field,
    /// The record is older than its predecessor.
    Order,
    /// The segment does not begin with a link to where the log had come to.
    Link,
    /// The log ends here, though it went on in another segment.
    End,
    /// The file is not a segment of a log.
    Magic,
    /// The file is another segment than its name says.
    Name,
    /// The file is shorter than it was made.
    Short,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no record",
            Self::Bounds => "a record that does not fit",
            Self::Position => "a record of another place",
            Self::HeaderChecksum => "a wrong header checksum",
            Self::PayloadChecksum => "a wrong payload checksum",
            Self::Field => "a field of unknown meaning",
            Self::Order => "a record older than the one before",
            Self::Link => "no link to the segment before",
            Self::End => "no further segment",
            Self::Magic => "not a segment of a log",
            Self::Name => "another segment than the name says",
            Self::Short => "the end of the file",
        })
    }
}

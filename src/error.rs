//! What can go wrong, and what to do about it.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checkpoint::CheckpointError;
use crate::codec::{DecodeError, EncodeError};
use crate::id::Timestamp;
use crate::mvcc::place::FetchError;
use crate::sync::Arc;
use crate::wal::WalError;

/// The result of an operation on a database.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation was refused. Nothing of a refused transaction takes effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Committing would have broken the isolation level. Run the transaction again:
    /// [`Database::write`](crate::Database::write) does so by itself.
    #[error(transparent)]
    Conflict(Conflict),

    /// The bucket holds other types. Open it with the types it was created with.
    #[error("bucket {bucket:?} holds {stored}, and was opened as {asked}")]
    TypeMismatch {
        /// The name of the bucket.
        bucket: Arc<str>,
        /// The key and value types the bucket was created with.
        stored: String,
        /// The key and value types asked for.
        asked: String,
    },

    /// The handle is of another database. Open the bucket in the database that the transaction
    /// runs in.
    #[error("bucket {bucket:?} belongs to another database")]
    ForeignBucket {
        /// The name of the bucket in its own database.
        bucket: Arc<str>,
    },

    /// The bucket was dropped after the handle was opened. Open it again to make a new one.
    #[error("bucket {bucket:?} was dropped")]
    BucketDropped {
        /// The name the bucket had.
        bucket: Arc<str>,
    },

    /// There is no bucket of this name.
    #[error("there is no bucket {bucket:?}")]
    BucketMissing {
        /// The name asked for.
        bucket: Arc<str>,
    },

    /// The name is taken by another bucket.
    #[error("there is a bucket {bucket:?} already")]
    BucketExists {
        /// The name asked for.
        bucket: Arc<str>,
    },

    /// The database has created as many buckets as it can tell apart, dropped ones included.
    #[error("a database creates at most {max} buckets in its life")]
    TooManyBuckets {
        /// The limit.
        max: usize,
    },

    /// A commit needs more memory than a limit leaves, and nothing more can be freed; or what one
    /// transaction has read or written takes more than the whole limit. Remove entries, end old
    /// snapshots, do less in one transaction, or raise the limit.
    #[error(
        "{} bytes are needed and {used} of {limit} are in use{}",
        needed,
        bucket.as_ref().map(|it| format!(" in bucket {it:?}")).unwrap_or_default()
    )]
    MemoryLimit {
        /// The bucket whose limit it is; `None` if it is the database's.
        bucket: Option<Arc<str>>,
        /// Bytes that the commit needs there.
        needed: u64,
        /// Bytes in use there.
        used: u64,
        /// The limit.
        limit: u64,
    },

    /// There is a limit, and the types of the bucket may own memory of an unknown size. Say how it
    /// is measured, with [`BucketOptions`](crate::BucketOptions).
    #[error("bucket {bucket:?} has a memory limit, and its types own memory that is not measured")]
    Unmeasured {
        /// The name of the bucket.
        bucket: Arc<str>,
    },

    /// The snapshot has been open for longer than the database allows. Drop it and take a new one.
    #[error("the snapshot is {age:?} old, and {age_max:?} are allowed")]
    SnapshotTooOld {
        /// How long it has been open.
        age: Duration,
        /// What [`Options::snapshot_age_max`](crate::Options::snapshot_age_max) allows.
        age_max: Duration,
    },

    /// The snapshot holds back more old versions than the database allows. Drop it and take a new
    /// one.
    #[error("the snapshot holds back {retained} bytes, and {retained_max} are allowed")]
    SnapshotTooLarge {
        /// Bytes of old versions in all buckets.
        retained: u64,
        /// What
        /// [`Options::snapshot_retained_bytes_max`](crate::Options::snapshot_retained_bytes_max)
        /// allows.
        retained_max: u64,
    },

    /// The bucket was made without an eviction policy: nothing leaves it by itself.
    #[error("bucket {bucket:?} is no cache")]
    NotACache {
        /// The name of the bucket.
        bucket: Arc<str>,
    },

    /// The entries of the bucket have no time to live. Make it with
    /// [`BucketOptions::expires`](crate::BucketOptions::expires).
    #[error("entries of bucket {bucket:?} have no time to live")]
    NotExpiring {
        /// The name of the bucket.
        bucket: Arc<str>,
    },

    /// Entries of a durable bucket do not expire. Use a volatile bucket for a cache.
    #[error("bucket {bucket:?} is durable, so its entries cannot expire")]
    DurableCache {
        /// The name of the bucket.
        bucket: Arc<str>,
    },

    /// A key or a value takes 4 GiB or more as bytes. Store it in parts.
    #[error("a key or value of 4 GiB or more cannot be stored")]
    EntryTooLarge,

    /// A key or a value has no encoding.
    #[error(transparent)]
    Encode(#[from] EncodeError),

    /// Stored bytes are not what the bucket's types make of them: the code that encodes them has
    /// changed since. Open the bucket with the code that wrote it.
    #[error("bucket {bucket:?} holds an entry that its types cannot read")]
    Decode {
        /// The name of the bucket.
        bucket: Arc<str>,
        /// What the decoder said.
        source: DecodeError,
    },

    /// The bucket is in the files of the database, and a volatile bucket was asked for, or the
    /// other way round. Use the method that it was created with, or another name.
    #[error("bucket {bucket:?} is {is}, and was opened as {asked}")]
    OtherPersistence {
        /// The name of the bucket.
        bucket: Arc<str>,
        /// What the bucket is: "durable" or "volatile".
        is: &'static str,
        /// What was asked for.
        asked: &'static str,
    },

    /// Another handle, in this process or another one, has the database open. Close it, or share
    /// its handle.
    #[error("{} is open already, by {}", path.display(), holder.as_deref().unwrap_or("someone"))]
    AlreadyOpen {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as that can be told.
        holder: Option<String>,
    },

    /// The database was closed. Open it again.
    #[error("the database was closed")]
    Closed,

    /// The database was opened to be read only.
    #[error("the database is open for reading only")]
    ReadOnly,

    /// The directory has files in it, and something new was to be written there. Name another one.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },

    /// A database that lives in memory has no files: none to be copied, and none to be opened.
    #[error("a database that lives in memory has no files")]
    InMemory,

    /// There is no database in the directory.
    #[error("there is no database in {}", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },

    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },

    /// The log refused. After [`WalError::Poisoned`] nothing more is written: reads go on, and a
    /// commit that was under way is there or not after the database is opened again.
    #[error(transparent)]
    Log(#[from] WalError),

    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),

    /// A value that is not in memory could not be brought back.
    #[error(transparent)]
    Fetch(#[from] FetchError),

    /// The transaction has no savepoint of this name (any more).
    #[error("there is no savepoint {name:?}")]
    SavepointMissing {
        /// The name asked for.
        name: String,
    },

    /// The sum does not fit the integer type. The value is unchanged.
    #[error("the sum does not fit the value's integer type")]
    Overflow,
}

impl Error {
    /// For `map_err` after a call to the storage.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether running the same transaction again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

/// Which rule a commit would have broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConflictKind {
    /// Another transaction committed a write of the same key first, or locked a key first that
    /// both had asked for with `get_for_update`.
    WriteWrite,
    /// The transactions that ran at the same time could not be put in any order: each of them
    /// read what the next one overwrote, around a circle.
    Cycle,
    /// A read-only transaction may have seen an order that this commit would contradict.
    ReadOnlyPivot,
    /// The transaction ran for so long that the record of what others did meanwhile was given up
    /// to keep memory bounded: see
    /// [`Options::retained_bytes_max`](crate::Options::retained_bytes_max).
    WindowLost,
    /// Deciding exactly would have taken more steps than the search may take.
    SearchBudget,
}

impl fmt::Display for ConflictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteWrite => "another transaction committed first",
            Self::Cycle => "no order of the transactions explains what they read",
            Self::ReadOnlyPivot => "a read-only transaction may have seen another order",
            Self::WindowLost => "the transaction outlived the record of concurrent commits",
            Self::SearchBudget => "the search for an order took too long",
        })
    }
}

/// Why a commit was refused: the rule, and the evidence.
#[derive(Clone)]
pub struct Conflict(Box<Evidence>);

#[derive(Clone)]
pub(crate) struct Evidence {
    pub(crate) kind: ConflictKind,
    pub(crate) bucket: Option<Arc<str>>,
    pub(crate) key: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) other: Option<Arc<str>>,
    pub(crate) cycle: Vec<Timestamp>,
}

impl Evidence {
    pub(crate) fn of(kind: ConflictKind) -> Self {
        Self { kind, bucket: None, key: None, other: None, cycle: Vec::new() }
    }
}

impl From<Evidence> for Conflict {
    fn from(evidence: Evidence) -> Self {
        Self(Box::new(evidence))
    }
}

impl From<Evidence> for Error {
    fn from(evidence: Evidence) -> Self {
        Self::Conflict(evidence.into())
    }
}

impl Conflict {
    /// The rule that the commit would have broken.
    #[must_use]
    pub fn kind(&self) -> ConflictKind {
        self.0.kind
    }

    /// The name of the bucket in which the transactions met, where one can be named.
    #[must_use]
    pub fn bucket(&self) -> Option<&str> {
        self.0.bucket.as_deref()
    }

    /// The key on which the transactions met, if one can be named and is a `K`: for a conflict on
    /// a range, the key in it that the other transaction wrote.
    #[must_use]
    pub fn key<K: 'static>(&self) -> Option<&K> {
        self.0.key.as_ref()?.downcast_ref()
    }

    /// The label of the other transaction, if it had one.
    #[must_use]
    pub fn other(&self) -> Option<&str> {
        self.0.other.as_deref()
    }

    /// The commit times of the transactions around the circle, for [`ConflictKind::Cycle`]: the
    /// refused transaction comes before the first and after the last.
    #[must_use]
    pub fn cycle(&self) -> &[Timestamp] {
        &self.0.cycle
    }

    /// The key in words, for the types that most keys have.
    fn describe_key(&self) -> Option<String> {
        let key = self.0.key.as_deref()?;
        macro_rules! try_types {
            ($($type:ty),*) => {
                $(if let Some(key) = key.downcast_ref::<$type>() {
                    return Some(format!("{key:?}"));
                })*
            };
        }
        try_types!(String, u64, i64, u32, i32, u128, u16, u8, usize, Vec<u8>, Arc<str>, Box<str>);
        None
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conflict: {}", self.0.kind)?;
        if let Some(bucket) = &self.0.bucket {
            write!(f, ", in bucket {bucket:?}")?;
        }
        if let Some(key) = self.describe_key() {
            write!(f, ", on key {key}")?;
        }
        if let Some(other) = &self.0.other {
            write!(f, ", with {other:?}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict")
            .field("kind", &self.0.kind)
            .field("bucket", &self.0.bucket)
            .field("key", &self.describe_key())
            .field("other", &self.0.other)
            .field("cycle", &self.0.cycle)
            .finish()
    }
}

impl std::error::Error for Conflict {}

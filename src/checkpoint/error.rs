//! What can go wrong with the files of a checkpoint.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use crate::sync::Arc;

/// The result of an operation on the files of a checkpoint.
pub(super) type Result<T> = std::result::Result<T, CheckpointError>;

/// Why a table or the manifest could not be written or read. The checkpoint before it stays whole.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused. Make room, or restore access, and try again.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },

    /// The file is not what was written, or not of this database. Restore it from a backup.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Corruption {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        what: Cow<'static, str>,
    },

    /// The file is sound but of another version of the format. Open the database with the release
    /// that wrote it, or a later one.
    #[error("{} has version {found} of its format; this release reads {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u16,
        /// The version that can be read.
        supported: u16,
    },

    /// A key or a value is too large for a table.
    #[error("a key or value of {length} bytes does not fit a table, which takes {max}")]
    TooLarge {
        /// The length of the key or value in bytes.
        length: usize,
        /// The greatest length in bytes.
        max: usize,
    },
}

impl CheckpointError {
    /// For `map_err` after a call to the storage.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn corruption(path: &Path, offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Corruption { path: path.to_owned(), offset, what: what.into() }
    }
}

//! Where a value is that is not in memory, and how it comes back.
//!
//! ```text
//! Place ── table, position ──► bytes, checked ──Codec──► a value
//! ```
//!
//! 1. A place keeps its table's file open, so it can be read even after a checkpoint has put
//!    another table in that one's stead and removed its name.
//!
//! Kept by cold versions; read by views and by checkpoints.

use crate::checkpoint::table::Table as File;
use crate::checkpoint::{CheckpointError, ValuePosition};
use crate::codec::DecodeError;
use crate::sync::Arc;

/// Where the bytes of one value are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<File>,
    pub(crate) position: ValuePosition,
}

impl Place {
    /// Reads the value's bytes, and checks them.
    pub(crate) fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], CheckpointError> {
        self.file.read_value(self.position, buffer)
    }
}

/// Why a value that is not in memory could not be brought back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The file could not be read, or what it holds is damaged.
    #[error(transparent)]
    File(Arc<CheckpointError>),

    /// The bytes are not what the type makes of values.
    #[error("a value does not decode: {0}")]
    Decode(#[from] DecodeError),

    /// There is no room for it: the limit is reached, and all the rest is in use. End transactions
    /// and snapshots that have read much, or read through
    /// [`Range::visit`](crate::Range::visit), which keeps nothing.
    #[error("reading a value back takes {needed} bytes, and {used} of {limit} are in use")]
    NoRoom {
        /// Bytes that the value takes in memory.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<CheckpointError> for FetchError {
    fn from(error: CheckpointError) -> Self {
        Self::File(Arc::new(error))
    }
}

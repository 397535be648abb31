//! Checkpoints: the data as sorted, immutable tables, and the manifest that names them.
//!
//! ```text
//!                    MANIFEST ── bucket 1 ── table 4   keys below "k"       ┐
//!                       │           │        table 9   from "k" to "t"      │ one range each
//!     replaced as a     │           │        table 7   from "t"             ┘
//!     whole, by name    │           └─────── table 8   operations to apply after them
//!                       ├───── bucket 2 ── ...
//!                       └───── where the log that is still needed begins
//! ```
//!
//! 1. A table never changes once it has its name, and its name is never given again while a
//!    manifest that may come back names it.
//! 2. Every byte of a table and of the manifest is under a checksum, and with it the database and
//!    the table, so a file of another place is told apart even where it is sound.
//! 3. A manifest on disk names only tables that are whole and durable under their names:
//!    [`TableWriter::finish`](writer::TableWriter::finish) syncs a table before it gives it its
//!    name, and [`Manifest::store`](manifest::Manifest::store) makes names durable before its own.
//! 4. What is read is checked first, and answered with a [`CheckpointError`] that names file and
//!    offset. Nothing here panics on bytes.
//!
//! This floor knows bytes: keys and values are encoded by whoever writes and decoded by whoever
//! reads, in an order that is theirs. All numbers in the files are little-endian. Used by `mvcc`,
//! which reads single values back, and by `db`.

mod block;
mod directory;
mod error;
mod fields;
mod format;
pub(crate) mod manifest;
pub(crate) mod remains;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

pub(crate) use block::{Entry, Operation, ValuePosition};
pub(crate) use directory::{TableId, list_tables};
pub use error::CheckpointError;
pub(crate) use format::{Origin, TableKind};

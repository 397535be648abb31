//! The write-ahead log: what committed, in order, in preallocated segments.
//!
//! ```text
//!        reserve ─ append                 recovery ─ scan ─ reader, find
//!             writer ─── tail                │
//!  sync_to ─ group │                       settle, begin
//!             upkeep ─ stock ─ segment       │
//!                  └──────── disk ──────────┘   record, poison, error below all
//! ```
//!
//! A log is a row of segments; each begins with a link to the exact end of the one before. One
//! transaction is one record, so it is there or not. What the log promises:
//!
//! 1. What is read back is a prefix of what was appended, and at least what `sync_to` returned for.
//! 2. Where a prefix ends too early, and something proves it, that is an error and not the end.
//! 3. Positions rise along the log and are never used twice.
//!
//! The bytes are described in `record` and `segment`; the rules of each part in its own file.
//! Used by the commit path, by the checkpointer and when a database is opened.

mod disk;
mod error;
mod find;
mod group;
mod options;
mod poison;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod stock;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

pub use error::{Flaw, WalError};
pub(crate) use find::Sighting;
pub(crate) use options::{FlushPolicy, Scope, WalOptions};
pub(crate) use record::{Draft, Kind, Payload, PayloadSeed, Record};
pub(crate) use recovery::{read_log, sight_log};
pub(crate) use scan::Recovered;
pub(crate) use segment::{path_of, unreadable};
pub(crate) use writer::Wal;

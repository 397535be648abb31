//! Palisade: an embedded, in-memory-first, transactional key-value engine.
#![deny(unsafe_code)]

mod bucket;
mod db;
#[expect(unsafe_code, reason = "reclaims memory that other threads may still read")]
mod epoch;
mod error;
mod id;
#[expect(unsafe_code, reason = "versions are reached by raw pointer and outlive a pin by rule")]
mod mvcc;
#[expect(unsafe_code, reason = "links nodes that other threads read without a lock")]
mod skiplist;
mod ssi;
mod sync;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod txn;

pub use bucket::Iter;
pub use db::{Aborts, BucketInfo, Database, OldestSnapshot, Options, Stats, Vacuumed};
pub use error::{Conflict, ConflictKind, Error, Result};
pub use id::Timestamp;
pub use mvcc::range::Range;
pub use mvcc::{Key, Lookup, Prefix, Value};
pub use txn::{Bucket, Integer, Isolation, Snapshot, Transaction, TransactionOptions};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

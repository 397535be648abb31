//! An embedded, in-memory-first, transactional key-value engine for plain threaded programs.
//!
//! A [`Database`] holds any number of ordered, typed [`Bucket`]s. One transaction reads and writes
//! any of them, and every execution equals one in which the transactions ran one after the other,
//! in an order that agrees with real time. There is no async, no server and no runtime, and the
//! databases of a process share nothing but pages of memory; any type that is
//! `Ord + Clone + Send + Sync + 'static` can be a key, and any that threads may share a value.
//!
//! ```
//! use palisade::{Database, Result};
//!
//! # fn main() -> Result<()> {
//! let db = Database::in_memory();
//! let stock = db.bucket::<String, u32>("stock")?;
//! let orders = db.bucket::<u64, String>("orders")?;
//! stock.insert("lamp".into(), 2)?;
//!
//! // Several buckets, all or nothing; run again by itself when another thread interferes.
//! let sold = db.write(|tx| {
//!     let left = tx.get(&stock, "lamp")?.copied().unwrap_or(0);
//!     if left == 0 {
//!         return Ok(false);
//!     }
//!     tx.insert(&stock, "lamp".into(), left - 1)?;
//!     tx.insert(&orders, 1, "one lamp".into())?;
//!     Ok(true)
//! })?;
//! assert!(sold);
//!
//! // One moment of everything, to read at leisure while others write.
//! let snapshot = db.snapshot();
//! stock.insert("lamp".into(), 100)?;
//! assert_eq!(snapshot.get(&stock, "lamp")?, Some(&1));
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//!
//! | to | see |
//! |---|---|
//! | use one bucket like a `BTreeMap` | [`Bucket`] |
//! | change several things at once | [`Database::write`], [`Transaction`] |
//! | read a consistent whole, from many threads | [`Database::snapshot`], [`Snapshot`] |
//! | handle a refused commit by hand | [`Database::begin`], [`Conflict`] |
//! | keep it on disk | [`Database::open`], [`Options`], [`Durability`] |
//! | store types of your own | [`Encode`], [`Decode`], [`Pod`] |
//! | choose an isolation level | [`Isolation`] |
//! | keep memory below a limit, make a cache | [`BucketOptions`], [`Options::memory_limit`] |
//! | watch memory and conflicts | [`Database::stats`], [`Database::vacuum`] |
//! | know how it works | [`design`] |
#![deny(unsafe_code)]

mod bucket;
mod checkpoint;
mod codec;
mod crc;
mod db;
pub mod design;
#[expect(unsafe_code, reason = "reclaims memory that other threads may still read")]
mod epoch;
mod error;
mod evict;
mod heap;
mod id;
#[expect(unsafe_code, reason = "versions are reached by raw pointer and outlive a pin by rule")]
mod mvcc;
#[expect(unsafe_code, reason = "links nodes that other threads read without a lock")]
mod skiplist;
#[expect(unsafe_code, reason = "hands out memory")]
mod slab;
mod ssi;
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "other storages than real files are for tests")
)]
mod storage;
mod sync;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod txn;
mod wal;

pub use bucket::Iter;
pub use checkpoint::CheckpointError;
#[cfg(feature = "serde")]
pub use codec::Serde;
pub use codec::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Pod};
pub use db::{
    Aborts, BackedUp, BucketInfo, BucketMemory, BucketOptions, Checkpointed, Database, Dropped,
    LogStats, MemoryStats, OldestSnapshot, Options, Problem, Recovery, RecoveryStep, Salvaged,
    Stats, Vacuumed, Verified,
};
pub use error::{Conflict, ConflictKind, Error, Result};
pub use evict::EvictionPolicy;
pub use heap::{HeapSize, allocated};
pub use id::{Lsn, Timestamp};
pub use mvcc::place::FetchError;
pub use mvcc::range::Range;
pub use mvcc::terms::Departure;
pub use mvcc::{EntryInfo, Key, Lookup, Prefix, Value};
pub use txn::{
    Bucket, Durability, Integer, Isolation, Receipt, Snapshot, Transaction, TransactionOptions,
};
pub use wal::{Flaw, WalError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

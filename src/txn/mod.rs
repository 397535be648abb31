//! Transactions: what they read and write, how they commit, how they are run again.
//!
//! ```text
//! Engine            everything that one database shares
//!   begin ──► Transaction ──get, insert, range──► Workspace per bucket
//!                 │
//!                 └─commit─► place ─► take heads ─► certify and link ─► stamp, prune
//!                               │         │              │
//!                             user `Ord`  └── refused ◄──┘      nothing is left behind
//! retry      runs a closure until it commits: backoff first, then the gate
//! Snapshot   reads only; never refused, never in the way
//! ```
//!
//! This floor contains no unsafe code: what it promises about memory it promises through the
//! types of the floors below.

mod bounds;
mod bucket;
mod burial;
mod catalog;
mod commit;
mod counters;
mod engine;
mod evict;
mod journal;
mod memory;
mod operations;
mod options;
mod pledge;
mod retry;
mod savepoint;
mod snapshot;
mod tick;
mod tidy;
mod transaction;

pub use bucket::Bucket;
pub use operations::Integer;
pub use options::{Durability, Isolation, TransactionOptions};
pub use pledge::Receipt;
pub use snapshot::Snapshot;
pub use transaction::Transaction;

pub(crate) use bounds::{owned_bounds, prefix_bounds};
pub(crate) use catalog::BucketEntry;
pub(crate) use counters::Count;
pub(crate) use engine::{Engine, Settings};
pub(crate) use journal::{Backing, Journal};
pub(crate) use retry::run;

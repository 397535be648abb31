//! What the proofs share: a small view of a transactional store, random programs over it, two
//! drivers that run them, and the judges that decide whether what was observed may be.
//!
//! ```text
//! program (random steps) -> lockstep (one thread, many open transactions) -> tally, each step
//!                        -> threads  (many threads, rounds)               -> graph, each round
//! store   <- engine (palisade) | reference (slow, with bugs that can be switched on)
//! brute   validates graph and tally;  recorder writes histories for checkers from elsewhere
//! leaving says what a cache may have forgotten, to all judges
//! ```
//!
//! Each test binary uses a part of this.
//!
//! Nothing here knows how the engine works inside: judges see values read, values written, and
//! the order in which calls began and returned.

#![allow(dead_code, reason = "every test binary compiles all of it and uses a part")]
#![allow(
    clippy::indexing_slicing,
    reason = "indices are keys, slots and transactions, all bounded"
)]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]

pub(crate) mod brute;
pub(crate) mod engine;
#[cfg(feature = "testing")]
pub(crate) mod files;
pub(crate) mod graph;
pub(crate) mod leaving;
pub(crate) mod lockstep;
pub(crate) mod policies;
pub(crate) mod probe;
pub(crate) mod program;
pub(crate) mod recorder;
pub(crate) mod reference;
pub(crate) mod rng;
pub(crate) mod shrink;
pub(crate) mod store;
pub(crate) mod tally;
pub(crate) mod threads;

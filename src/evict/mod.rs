//! Which entries go when memory is short.
//!
//! ```text
//! keeper ──► shard ──► order: s3_fifo, recency, frequency, adaptive, random
//!              │                 │         └───┬────┘        │
//!              │               ghosts      levels of rings  ring (and stages of rings)
//!              └──► ring of what was pinned
//! ```
//!
//! This floor knows neither keys nor versions: an entry is a [`Resident`], a handle with a byte of
//! heat and a weight. It chooses victims; whether and how one can go is for the floors above.
//!
//! 1. A hit takes no lock and writes nothing that is shared: it may store a new heat into the entry
//!    it reads anyway. What hits have changed is found when the hand of a policy comes to an entry.
//! 2. Work for a victim is constant on average and bounded in the worst case, and so is the memory
//!    for what has left.

mod adaptive;
mod clock;
mod frequency;
mod generations;
mod ghosts;
mod keeper;
mod levels;
mod order;
mod policy;
mod random;
mod recency;
mod resident;
mod ring;
mod s3_fifo;
mod shard;
mod stages;

#[cfg(test)]
mod tests;

pub(crate) use keeper::Keeper;
pub use policy::EvictionPolicy;
pub(crate) use resident::Resident;
pub(crate) use shard::Picked;

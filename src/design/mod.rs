//! How it works, for those who want to know or to change it.
//!
//! * [`architecture`]: the parts, and the way of a read and of a commit through them.
//! * [`serializability`]: what is promised, why it holds, and what is refused.
//! * [`durability`]: the log, the checkpoints, recovery, and what a reader may be shown.
//! * [`mod@format`]: the files, and what may ever change in them.
//! * [`memory`]: what keeps a piece of memory alive, and what frees it.
//! * [`eviction`]: limits, and how entries leave a cache.
//!
//! Every source file begins with what it is, its invariants by number, and who may call it; these
//! pages say how the files fit together.

pub mod architecture;
pub mod durability;
pub mod eviction;
pub mod format;
pub mod memory;
pub mod serializability;

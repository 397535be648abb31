//! The policies beside their textbook forms, and what a keeper promises under any of them.
//!
//! Hit ratios are compared on traces with a fixed seed, so that a failure repeats. Promises are
//! checked on random sequences of calls, on one thread and on several.

mod bucket;
mod hit_ratios;
mod keeping;
mod parts;
mod reference;
mod traces;

use super::EvictionPolicy;

/// All that choose, with the names of their references.
const POLICIES: [(EvictionPolicy, &str); 5] = [
    (EvictionPolicy::S3Fifo, "S3-FIFO"),
    (EvictionPolicy::Lru, "LRU"),
    (EvictionPolicy::Lfu, "LFU"),
    (EvictionPolicy::Arc, "ARC"),
    (EvictionPolicy::Random, "random"),
];

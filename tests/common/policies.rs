//! The policies that evict: whatever holds of a cache is shown for each of them.

use palisade::EvictionPolicy;

pub(crate) const POLICIES: [EvictionPolicy; 5] = [
    EvictionPolicy::S3Fifo,
    EvictionPolicy::Lru,
    EvictionPolicy::Lfu,
    EvictionPolicy::Arc,
    EvictionPolicy::Random,
];

//! Limits, and how entries leave a cache without anybody noticing.
//!
//! # What is counted
//!
//! Each bucket counts the bytes of its records, of its newest versions, and of older ones that are
//! still there, as they come and go ([`BucketMemory`](crate::BucketMemory)): the engine's own
//! parts as the system's allocator rounds them, and what keys and values own on the heap, which is
//! known for strings and byte vectors and measured for other types
//! ([`HeapSize`](crate::HeapSize), [`BucketOptions`](crate::BucketOptions)). When nothing runs, the
//! counters are what a walk over everything finds.
//!
//! # How a limit holds
//!
//! ```text
//! commit:  needs n bytes ─► reserved at each limit that counts them ─► takes effect
//!                 └─ no room: 1 what nobody can read    2 entries of caches    3 refused
//! ```
//!
//! A commit reserves what it will take before it holds anything and before anybody can see it. If
//! there is no room, the committing thread makes some: it sweeps a little, then evicts from the
//! bucket if that is a cache, or from all caches if it is the database's limit. If that does not
//! help, the commit is refused with [`Error::MemoryLimit`](crate::Error::MemoryLimit). What
//! only removes is never refused. Old versions that a snapshot needs count: a snapshot that is
//! kept open can fill a bucket.
//!
//! Not counted for a limit are private writes of open transactions, the record of what committed
//! while they ran ([`Options::retained_bytes_max`](crate::Options::retained_bytes_max)), and what
//! was unlinked and waits for readers or for a sweep;
//! [`MemoryStats`](crate::MemoryStats) shows these.
//!
//! # What leaving is
//!
//! An entry that is evicted or has expired gets a tombstone with a commit timestamp of its own. So
//! a snapshot that was taken before goes on seeing the entry, and one that is taken later does not:
//! nothing that a reader has been shown changes under it.
//!
//! To everyone else leaving is nobody's write. It stands in no transaction's write set, so the
//! conflict graph has no edge to it; and whoever writes the key next is compared with the commit
//! that wrote what left, not with its leaving. A transaction is never refused because an entry
//! left; it is refused, as ever, because another transaction wrote what it read or wrote.
//!
//! One thing must stay behind: the place of the key in the index, by which a reader's footprint
//! names what it read. Nothing stands in the graph between that reader and whoever writes the key
//! next, so the place is given up only when no reader of what left can be compared with anybody who
//! still runs.
//!
//! The price is the meaning of absence. In a cache a key may be absent because it was never
//! written, because it was removed, or because it left. A serializable transaction that finds a key
//! absent is protected from others who write it, as in every bucket; but the history it is part
//! of is explained with entries leaving at any time between. Two transactions may agree that `k`
//! implies `l` and a third one find `k` without `l`, when `l` has left. Do not keep in a cache what
//! must be there.
//!
//! # Who leaves
//!
//! [`EvictionPolicy`](crate::EvictionPolicy) says. A hit changes at most one byte, inside the
//! version it read, and only if that is not hot already: no list moves, and no thread waits for
//! another. The policies find out what was hit when their hand comes to an entry. Keys that were
//! evicted lately are remembered as fingerprints.
//!
//! # Time to live
//!
//! A version carries no time, only its commit timestamp. The bucket keeps a list of moments and of
//! what had been committed by then, a thousandth of the time to live apart, which turns "so long
//! ago" into a timestamp: what was committed up to it has expired. A transaction or snapshot asks
//! once for each bucket. Expired entries leave when the vacuum comes by.

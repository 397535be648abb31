//! Limits, and how entries leave a cache, and values leave memory, without anybody noticing.
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
//!                 └─ no room: 1 what nobody can read   2 entries of caches, values in files
//!                              3 a save, and 2 again   4 a wait for readers   5 refused
//! ```
//!
//! A commit reserves what it will take before it holds anything and before anybody can see it. If
//! there is no room, the committing thread makes some: it sweeps a little, then evicts from the
//! bucket if that is a cache or durable, or from all of these if it is the database's limit. If
//! that does not help, the commit is refused with
//! [`Error::MemoryLimit`](crate::Error::MemoryLimit). What only removes is never refused. Old
//! versions that a snapshot needs count: a snapshot that is kept open can fill a bucket. So do the
//! private writes of a transaction and what it remembers of its reads, from its next operation on;
//! they are never refused while they fit into the limit, so a transaction may go over it until it
//! commits.
//!
//! What a transaction that is open is to be compared with has a limit of its own,
//! [`Options::retained_bytes_max`](crate::Options::retained_bytes_max): the record of what
//! committed while it ran, and what is left of keys that were removed or evicted meanwhile. Where
//! that is reached the transaction is given up, and told when it commits. A cache refuses nobody
//! because somebody's transaction takes its time.
//!
//! Not counted are what is left of entries that a snapshot sees, and what was unlinked and waits
//! for readers or for a sweep; [`MemoryStats`](crate::MemoryStats) shows these.
//!
//! A sixteenth of the limit of a durable database is set aside for what is not counted: mapped
//! segments of the log, indexes of tables, buffers.
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
//! still runs and may commit.
//!
//! The price is the meaning of absence. In a cache a key may be absent because it was never
//! written, because it was removed, or because it left. A serializable transaction that finds a key
//! absent is protected from others who write it, as in every bucket; but the history it is part
//! of is explained with entries leaving at any time between. Two transactions may agree that `k`
//! implies `l` and a third one find `k` without `l`, when `l` has left. Do not keep in a cache what
//! must be there.
//!
//! # Values of durable buckets
//!
//! ```text
//!          leaves                                   is asked for
//! value@5 ───────► cold@9 ──────────────► value@5 ─────────────► value@9 ──► value@5
//!                  written at 5, is at                           written
//!                  table 4, byte ...                             at 5
//! ```
//!
//! What is in a table of the last checkpoint, or in a delta, may leave memory. It leaves as an
//! entry of a cache does, by a version with a timestamp of its own; but this one says where the
//! value is. Older snapshots go on with the value that they have, which is why a reference that a
//! reader was lent stays good without being counted. Younger ones meet the cold version, read the
//! file while they hold nothing, check the value's own checksum, and put what they read into the
//! chain, *in the place of the cold version and with its timestamp*: so for everybody else nothing
//! has changed, and whoever comes next finds the value in memory.
//!
//! Older readers hold memory, and one of them may be waiting for a disk. A commit that finds no
//! room but what readers hold waits for them, half a second at most, and once only for one that
//! does not end.
//!
//! Both are nobody's write. When the value was written stands beside the timestamp, and that is
//! what the next writer is compared with, and what says whether a table has the value.
//!
//! Before a value leaves, it is read from the file: what cannot be read back stays.
//!
//! Values that were written lately are in the log only. When they take an eighth of the limit, or
//! a commit has no room, they are *saved*: the keys that the log has touched are sorted and written
//! to a delta, and the log is let go. That costs what was written, not the ranges that it lies in;
//! the next checkpoint takes the deltas in. A checkpoint under way lets a commit that needs room
//! save between two tables.
//!
//! When a checkpoint puts a new table in the place of old ones, cold versions are pointed to it.
//! What an old snapshot still needs keeps the old file open, though its name is gone.
//!
//! Iterators lend references for as long as their snapshot lives, so what they read back stays as
//! long. [`Range::visit`](crate::Range::visit) and a bucket's own iterator read such values for the
//! moment, and can go through a bucket of any size.
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

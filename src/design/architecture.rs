//! The parts, and the way of a read and of a commit through them.
//!
//! ```text
//! 9  bucket      a bucket by itself: BTreeMap's methods, each a transaction
//! 8  db          opening, buckets' names, options, statistics, background work
//! 7  txn         transactions, snapshots, commit, retry
//! 6  error       what callers see
//! 5  mvcc        versions, tables, a transaction's private writes, iteration
//! 4  skiplist    the index            ssi         the commit log and the conflict graph
//!    wal         the log on disk      checkpoint  tables of sorted entries, and the manifest
//!    evict       who leaves memory
//! 3  epoch       frees memory once no reader can hold it
//! 2  slab        memory for small things, side by side on large pages
//! 1  codec       keys and values as bytes         storage     files, real and simulated
//! 0  sync, id    primitives of concurrency in one place; numbers as types
//! ```
//!
//! A module names only modules on lower floors; a test keeps it so.
//!
//! # The index
//!
//! One per bucket: a skiplist whose nodes are fat. A segment holds up to some hundred leaves, a
//! leaf up to 64 entries, and only segments carry towers, so that a search touches a few cache
//! lines near the top and two far ones: the leaf and the record. Beside each entry stands a hint,
//! eight bytes that sort as the key does, so that most comparisons never touch a key. Readers take
//! no lock. A writer locks the segment it changes; overwriting a value changes no segment.
//! (Ideas from Foresight, B-Skiplist, `KiWi` and Masstree; the code says which where.)
//!
//! # Versions
//!
//! An index entry leads to a *record*: the key, and a chain of versions, newest first. A version
//! carries the timestamp of its commit, or, for the moment of the commit, a pointer to its
//! transaction. The first version of a key lives inside the record.
//!
//! # A read
//!
//! 1. Pin the epoch: a store to a slot of one's own.
//! 2. Search the index: no lock, no write.
//! 3. Walk the chain to the newest version that the snapshot sees. A version whose transaction has
//!    not committed is passed over; nobody waits for anybody.
//! 4. In a serializable transaction, note what was read in a private list: the record's address,
//!    or, where nothing was found, the key or range.
//!
//! What was found stays readable after the pin has ended, because the transaction's snapshot is
//! registered and versions that a registered snapshot sees are not freed.
//!
//! # A commit
//!
//! Writes are private until here. The steps are those of `src/txn/commit.rs`:
//!
//! 1. Each new key gets a record in the index, with nothing to see on it.
//! 2. Each record's head is taken, in the order of addresses: the transaction's version is put on
//!    top, marked with its transaction. If a commit that the snapshot does not see got there
//!    first, the transaction is refused (first committer wins).
//! 3. What the transaction read is compared with what committed since its snapshot, and the
//!    conflict graph is asked if need be: see [`serializability`](super::serializability).
//! 4. One compare-and-swap appends the transaction to the commit log. That is the commit: it gives
//!    the timestamp and makes all versions visible at once. In a durable database it is done, and
//!    the record copied, under the lock of the log: see [`durability`](super::durability).
//! 5. The versions get the timestamp, and what nobody can see any more below them is cut off.
//!
//! No user code runs between the first head and the last stamp but comparisons of keys, and no
//! other transaction waits for a transaction in any other phase. So a closure may block, panic,
//! run other transactions, or be forgotten.
//!
//! # Progress
//!
//! The log's append is lock-free: whoever loses the race has been overtaken by a commit. A closure
//! that is refused three times runs its fourth attempt *at the gate*: others that want to commit
//! wait, each up to a bound that doubles from one attempt to the next, and then take the gate away.
//! So nothing waits without bound for user code, and a long transaction gets through.

//! What is promised, why it holds, and what is refused.
//!
//! # The promise
//!
//! For every execution of [`Serializable`](crate::Isolation::Serializable) transactions and
//! snapshots there is a serial order of those that committed which explains every read, and in
//! which A precedes B whenever A ended before B began: strict serializability. Reads include
//! ranges and keys that were absent.
//!
//! # The conflict graph
//!
//! Each transaction reads one snapshot, and of two that write one key at the same time only the
//! first commits. What such *snapshot isolation* still lets through has one shape (Fekete et al.
//! 2005, Cahill et al. 2008): a circle of transactions in which each must precede the next, with
//! at least two *rw-conflicts* in a row: `X -> Y` where X read what Y overwrote.
//!
//! The graph's nodes are committed transactions. Its edges:
//!
//! ```text
//! X -> Y   rw        X read a version that Y replaced, and Y committed after X's snapshot
//! X => Y   before    X committed at or before Y's snapshot
//! ```
//!
//! The second kind contains every case of Y reading or overwriting what X wrote, since snapshots
//! and first-committer-wins rule out any other, and it contains real time, since a transaction
//! that begins after another has ended takes a snapshot that holds it. So if the graph has no
//! cycle, any topological order of it is the serial order promised.
//!
//! # Deciding a commit
//!
//! The committing transaction T is the last to commit, so it has no `=>` edge to anyone, and its
//! `->` edges lead to those who overwrote its reads since its snapshot s.
//!
//! * No such edge: T closes no cycle. This is the usual case and costs a comparison with each
//!   transaction that committed since s, most of them by one machine word.
//! * Otherwise a cycle must come back to T: from someone who read what T overwrites (`->`), or
//!   from someone who committed at or before s (`=>`). A breadth-first search from the
//!   overwriters decides exactly whether one of them is reached. Each node remembers the oldest
//!   commit that can be reached from it, so that the search never leaves the window since s.
//!
//! T is refused when the cycle is there. Everyone else on it has committed, so running T again
//! cannot meet the same cycle. The certification and the commit are one step: the append to the
//! log succeeds only if nobody appended since the state that was certified.
//!
//! # Read-only snapshots
//!
//! They are not in the graph: a snapshot takes no note of what it reads. Instead it marks its
//! moment r in the log before it reads. A later commit that reaches back to r or before, and has
//! not happened at r, would be contradicted by a snapshot that read at r, if that read the right
//! keys; nobody knows, so the commit is refused
//! ([`ReadOnlyPivot`](crate::ConflictKind::ReadOnlyPivot)). A single read of a bucket by itself
//! counts as a snapshot. Snapshots are never refused and never wait.
//!
//! # What is refused without a cycle
//!
//! * The read-only rule above, when the snapshot did not read the keys in question.
//! * A search that would take too long ([`SearchBudget`](crate::ConflictKind::SearchBudget)).
//! * A transaction that ran so long that the log's memory of what committed meanwhile reached its
//!   limit ([`WindowLost`](crate::ConflictKind::WindowLost)), also if it has only written: the
//!   records that would tell who wrote first go with that memory.
//!
//! [`Stats`](crate::Stats) counts each kind.
//!
//! # How it is checked
//!
//! Random programs of transactions run as deterministic interleavings and on real threads; two
//! independent judges look at what was read and written: a graph with a version order per key, and
//! for small histories every permutation. Every refusal as a cycle must be one in the judge's
//! graph, too. The protocol on atomics is model-checked from the shipped files, and for each
//! protection there is a mutation of the code that the tests have been seen to catch.

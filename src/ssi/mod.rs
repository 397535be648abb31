//! Serializable commits: the log of what committed, and who may commit next.
//!
//! ```text
//!  begin ──► Registration ──► reads, private writes ──► prepare ──► admit ──► take version heads
//!              snapshot                                 Pending                 │
//!  finish ◄── stamp versions ◄── Linked ◄───────────────────────── commit ◄─────┘
//!  leave  ◄── unlink versions ◄── Refused ◄───────────────────────────┘
//! ```
//!
//! The floors above take version heads and say what a transaction read and wrote
//! ([`Footprint`]); this floor knows neither keys nor versions. A transaction keeps its reads to
//! itself. When it commits, they are compared with what committed since its snapshot; only if one
//! was overwritten is the graph of conflicts searched for a cycle through it.
//!
//! One attempt of a read-write transaction, as the floors above call it:
//!
//! ```text
//! let registration = log.begin(Kind::Tracked, tag, guard)    // or begin_gated(patience, ..)
//! ... run the user's code at registration.snapshot() ...
//! no reads, no locks, no writes, or plain snapshot reads only:  log.leave(registration)
//! reads only:   log.commit_reads(&registration, label, footprint, guard)?; log.leave(registration)
//! else:
//!   let pending = log.prepare(&registration, label, footprint, guard)
//!   log.admit(&registration)                                    // no user code from here ...
//!   take heads with pending.status(); on a write-write conflict: pending.abort(), unlink heads,
//!       drop(pending), log.leave(registration)
//!   match log.commit(pending, &registration, guard) {
//!     Ok(linked) => stamp heads with linked.timestamp(), log.finish(linked, registration, guard)
//!     Err(refused) => unlink heads, keep refused.refusal, drop(refused), log.leave(registration)
//!   }                                                           // ... to here
//! ```
//!
//! A declared read-only transaction is `begin_seen` and `leave_seen`.
//! Every call takes a guard of the database's collector. `Isolation::Snapshot` is a footprint
//! without reads. A transaction that locks (`has_locks`) or reads must be [`Kind::Tracked`], or it
//! may find its window trimmed.
//!
//! 1. One exchange in the log is the commit point of every transaction (see `commit_log`).
//! 2. The graph of committed transactions, with an edge for every rw-conflict and for every pair
//!    of which one committed before the other's snapshot, has no cycle. So a serial order exists
//!    that agrees with every read and with real time.
//! 3. A commit is refused only if it would close a cycle, or if that cannot be ruled out: a
//!    read-only transaction may have seen it, its window was lost, or the search was too long.

mod certify;
#[expect(unsafe_code, reason = "nodes are shared by raw pointer and retired through the epoch")]
mod commit_log;
mod confirmed;
#[expect(unsafe_code, reason = "the address of a node goes with the lock that guards it")]
mod floor;
mod footprint;
mod gate;
mod graph;
mod needed;
#[expect(unsafe_code, reason = "nodes are shared by raw pointer and retired through the epoch")]
mod node;
#[expect(unsafe_code, reason = "a handle follows the raw pointer to the node that it owns")]
mod owner;
mod passed;
mod peers;
mod registry;
mod status;
mod tally;
#[expect(unsafe_code, reason = "retires nodes that other threads may still read")]
mod trim;

#[cfg(test)]
mod tests;

pub(crate) use certify::Refused;
pub(crate) use commit_log::{CommitLog, Registration, Seen};
pub(crate) use footprint::{Footprint, Kind, Refusal, Rules, Tag};
pub(crate) use gate::Patience;
pub(crate) use needed::Needed;
pub(crate) use owner::{Linked, Pending};
pub(crate) use passed::Passed;
pub(crate) use registry::Entry;
pub(crate) use status::Status;

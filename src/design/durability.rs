//! How commits survive: the log, the checkpoints, and what a reader may be shown.
//!
//! ```text
//! commit ──► log segments ──────────────┐        replayed from the last checkpoint on
//!               │ marks ranges          ├──► the state of the next life
//!               ▼                       │
//! checkpoint ─► tables, one per range ──┘        read when a bucket is opened
//!               named by the MANIFEST
//! ```
//!
//! # The promise
//!
//! After any crash the state is exactly the first *n* commits in the order of commit. *n* covers
//! every commit that [`Full`](crate::Durability::Full) acknowledged and everything that a `sync`
//! returned for; after the death of the process alone, every commit that returned. Less is an
//! error and never a silent cut: each record says how far the log was durable when it was written,
//! so damage before that point is told from a torn tail behind it. And each segment that the log
//! left names the next one: if that is gone as a whole, it is missed.
//!
//! # One order
//!
//! A commit takes its place in the graph of transactions, its timestamp and its position in the
//! log under one lock: space is reserved, the commit is linked, its record is copied. So the order
//! of commit, of timestamps and of the log is one, and every beginning of the log is a state that
//! was. What can fail, encoding, size and space, fails before the link, and the transaction rolls
//! back; what fails behind it, a write or a sync, ends all writing until the database is opened
//! again. A failed sync is not tried again, because the system may have forgotten what it was to
//! write and report success.
//!
//! # What a reader may be shown
//!
//! At `Full`, a transaction is linked before it is durable, so that the next one need not wait for
//! the device to build on it. Transactions begin at the newest link, and are acknowledged when
//! everything they may have seen is durable: also one that only read. A snapshot is acknowledged
//! when it is taken, so it shows only what is confirmed, durable that is. Such a moment lies behind
//! commits that are linked already, and could contradict one of those that the certifier let
//! through although it precedes, in the serial order, one with a lower timestamp. Rescues like that
//! are rare and their newest is known: a snapshot that would lie before one waits for a sync, and
//! every other takes the newest confirmed moment at once. Later commits are told that the end of
//! the log was seen, as with every snapshot. An oracle that knows nothing of this rule has judged
//! the certifier with confirmations at random moments.
//!
//! # Checkpoints
//!
//! The keys of a bucket are cut into ranges of about 32 MiB, each with a table of its own. A
//! checkpoint reads the log since the last one to find the ranges that changed, writes those anew,
//! each from a snapshot of its own that lasts for one table, and then replaces the manifest in one
//! step; after that the log before it is not needed. Nobody waits. It comes when the log has grown
//! to the size of the data (or 256 MiB), so what is written is at most about twice what is logged,
//! whatever the keys. While it runs, old and new tables lie side by side.
//!
//! Where values leave memory (see [`eviction`](super::eviction)), what was written lately is saved
//! to deltas in between: a bucket is its ranges, then its deltas, then the log, each applied on top
//! of the one before. A range may be newer than a delta, for what was written between them comes
//! again, in a later delta or in the log.
//!
//! # Opening
//!
//! Opening checks the manifest and the log and keeps what the log says about each bucket; a bucket
//! comes into memory when it is first opened, because only then are its types known: tables on all
//! processors, then the operations of the log in their order. A bucket that nobody opens costs its
//! part of the log, and a checkpoint writes that down as a delta that waits for it.
//!
//! After a crash of the process what lies in the log may be in memory only. It is written again
//! and synced before anything is built on it, and new records go to a new segment, never behind an
//! old tail.

//! What keeps a piece of memory alive, and what frees it.
//!
//! Two clocks decide. They answer different questions and must not be confused:
//!
//! ```text
//! the horizon    the oldest registered snapshot     which versions may be *unlinked*
//! the epoch      the oldest pin                     which unlinked objects may be *freed*
//! ```
//!
//! # The horizon
//!
//! Every running transaction and snapshot has a slot in the registry that says which moment it
//! sees. The horizon is at or below all of them. In a chain, the newest version at or below the
//! horizon is the oldest that anyone can see; what lies below it is cut off by whoever commits to
//! the record next. Above the horizon, too, a version goes that no snapshot falls on.
//!
//! A commit cannot take out what it overwrote: somebody may be reading it. It leaves that to the
//! commit log, which is trimmed by whoever commits later: the oldest transaction that may still
//! write bounds it, and once a commit lies below, whoever passes it there follows the records that
//! it wrote, takes out the versions that no snapshot needs, and takes records of removed keys out
//! of the index. What a snapshot still needs is noted, and looked at again when the horizon has
//! moved. Versions of less than 128 bytes wait for the next write of their key, or for
//! [`Database::vacuum`](crate::Database::vacuum), which looks at everything.
//!
//! A snapshot that is kept open therefore keeps the versions that it sees. A transaction that can
//! still commit keeps also records, which it may have to be compared by, and the log of what
//! committed since, up to [`Options::retained_bytes_max`](crate::Options::retained_bytes_max).
//!
//! # The epoch
//!
//! Whoever follows a pointer that another thread may unlink holds a *pin*: a slot that shows the
//! epoch it began in. An unlinked object is handed over with the epoch of that moment, and freed
//! when the epoch has moved twice, which it does only when every pin shows the current one. Pins
//! last for one operation: a lookup, a batch of an iteration, a commit. Nothing that is kept by
//! the user holds one, but the closure given to [`Bucket::get_with`](crate::Bucket::get_with)
//! runs under one.
//!
//! Whoever retired an object frees it, as it retires more: about as many as come. At each thread
//! that writes there wait some 1 500 of them, or 3 MiB with what they own if that is less; what
//! pins held up beyond that is freed twice as fast as more comes. What a thread left behind when it
//! ended is freed by the others. (What values own is known where they are measured, as for limits.)
//!
//! (Fraser 2004. A reader's store and the loads that follow need a barrier between them; on Linux
//! it is paid by whoever frees, through `membarrier`, elsewhere it is a fence.)
//!
//! # Whose memory is what
//!
//! | object | unlinked by | freed by |
//! |---|---|---|
//! | version | a later commit or the vacuum, when nobody needs it | the epoch |
//! | version inside a record | the same | its value by the epoch, its place with the record |
//! | record | a commit behind the removal of its key, or the vacuum | the epoch |
//! | leaf, content, segment of an index | a writer or the vacuum that replaces it | the epoch |
//! | node of the commit log | a commit now and then, below every tracked snapshot | the epoch |
//! | private writes | the transaction's end, unless they were committed | at once |
//!
//! Where the first five lie is the *slab*: pages of 16 KiB with places of one size each, cut from
//! regions of 2 MiB for which the system is asked for huge pages. A lookup among millions of
//! entries waits for the page tables as long as for the data, and here the way through them is
//! short; and a record needs no word of the allocator's. A page goes back when its last place is
//! free: what is removed here and there leaves room for what comes, of the same size, and memory
//! for others only when whole pages are empty. So records of more than 48 bytes, which own memory
//! as a rule, and all that keys and values own come from the program's allocator.
//!
//! Destructors of keys and values run where garbage is freed: at the end of a commit or in the
//! vacuum, on that thread, while nothing is held. One that panics does so there; the transaction
//! has committed by then, and nothing is freed twice.

//! The commit log: every committed transaction in order, and the clock.
//!
//! ```text
//!  oldest         anchor of a running           tail = the clock
//!    ▼            transaction at 7                ▼
//!   (5) ─► (6) ─► (7) ─► (8) ─► (9) ──SEEN─► .. (42) ─► null ◄── the next commit links here
//!    └ retired up to the floor    └ a read-only transaction uses snapshot 9
//! ```
//!
//! One exchange of the null behind the tail is a transaction's commit point. It gives the
//! timestamp (the predecessor's plus one), orders all decisions of the certifier, and settles
//! which read-only snapshots came before.
//!
//! 1. Timestamps along the list rise by one: order of linking is order of commit.
//! 2. `tail` moves from a node to its successor, and only after the successor's status says
//!    committed. So a snapshot `t`, read from the tail, has every commit at or before `t` marked;
//!    no reader ever waits for a writer, and "not marked" means "not in my snapshot".
//! 3. Whoever returns from a commit has the tail at or past it: every later snapshot sees it.
//! 4. A mark SEEN is set only while nothing is linked behind it, and the link that follows takes it
//!    into account: `seen_below` of a node is exact.
//! 5. Nodes older than `floor` may be retired. `floor` rises before they are; so a guard that is
//!    made first, and then finds the floor at or below `s`, protects every node from `s` on.
//! 6. Short of memory, `floor` is forced past snapshots that are still running. Their transactions
//!    then find invariant 5's test failing and are refused, never let through.
//! 7. The tail, unsettled nodes and what follows them are never retired.
//!
//! Transactions come here through `begin`, `commit` and `finish`; see the module above.

use super::confirmed::Confirmed;
use super::floor::{Floor, Oldest};
use super::footprint::{Footprint, Kind, Rules, Tag};
use super::gate::{Gate, Patience, Ticket};
use super::node::{Anchor, Successor, TxnNode};
use super::owner::{Linked, Pending};
use super::passed::Passed;
use super::registry::{Entry, Registry};
use super::tally::Tally;
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::slab::Boxed;
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering, thread::yield_now};
use crossbeam_utils::CachePadded;
use std::fmt;

/// A finishing commit with a timestamp that this divides looks how far back others look.
const HORIZON_EVERY: u64 = 32;
/// A finishing commit with a timestamp that this divides retires a few nodes: often and few, so
/// that memory comes back to the allocator about as it is asked for.
const TRIM_EVERY: u64 = 8;
const TRIM_NODES: usize = 9;
/// The part of what somebody held up who has ended now that goes with them.
const CATCH_UP: usize = 128;

/// All committed transactions that a running one may still conflict with.
pub(crate) struct CommitLog<F: Footprint> {
    tail: CachePadded<AtomicPtr<TxnNode<F>>>,
    pub(super) floor: CachePadded<Floor>,
    /// The first node that is not retired; the lock makes one thread trim at a time.
    pub(super) oldest: Mutex<Oldest<F>>,
    registry: Registry,
    gate: Gate,
    pub(super) confirmed: Confirmed,
    pub(super) tally: Tally,
    rules: Rules,
}

/// A running transaction: its slot, its snapshot, and where its window begins.
///
/// Goes back to the log through [`CommitLog::finish`] or [`CommitLog::leave`].
#[must_use = "a registration that is not given back holds the horizon for ever"]
pub(crate) struct Registration<F> {
    entry: Entry,
    snapshot: Timestamp,
    anchor: Anchor<F>,
    ticket: Option<Ticket>,
}

impl<F> Registration<F> {
    /// The transaction sees what committed at or before this.
    pub(crate) fn snapshot(&self) -> Timestamp {
        self.snapshot
    }

    /// Did the transaction begin at the gate?
    pub(crate) fn is_gated(&self) -> bool {
        self.ticket.is_some()
    }
}

impl<F> fmt::Debug for Registration<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("snapshot", &self.snapshot)
            .field("gated", &self.is_gated())
            .finish_non_exhaustive()
    }
}

/// The snapshot of a read-only transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    At(Timestamp),
    /// It will be this, once everything up to it is confirmed.
    Unconfirmed(Timestamp),
}

/// The end of the log at one moment.
pub(super) struct Front<'g, F> {
    pub(super) tail: &'g TxnNode<F>,
    /// Was the tail's timestamp marked as a snapshot?
    pub(super) seen: bool,
}

impl<F: Footprint> CommitLog<F> {
    /// A log with one node, which stands for everything that was committed up to `start`.
    pub(crate) fn starting_at(start: Timestamp, rules: Rules) -> Self {
        let genesis = TxnNode::genesis(start);
        Self {
            tail: CachePadded::new(AtomicPtr::new(genesis.as_ptr())),
            floor: CachePadded::new(Floor::new(start)),
            oldest: Mutex::new(Oldest::new(genesis)),
            registry: Registry::new(rules.registry_slots),
            gate: Gate::new(),
            confirmed: Confirmed::new(start),
            tally: Tally::default(),
            rules,
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Times the gate was closed, and times it was taken away from its holder.
    pub(crate) fn gate_counts(&self) -> (u64, u64) {
        self.gate.counts()
    }

    #[inline]
    pub(super) fn tail<'g>(&self, _guard: &'g Guard<'_>) -> &'g TxnNode<F> {
        // Acquire: pairs with the Release in `help`; every commit up to the tail is marked.
        let tail = self.tail.load(Ordering::Acquire);
        // SAFETY: a node is retired only after the tail moved past it (invariant 7), so the guard,
        // made before this load, protects it and its successors.
        unsafe { &*tail }
    }

    /// The newest commit. Every commit that returned before this call is at or before it.
    #[inline]
    pub(crate) fn now(&self, guard: &Guard<'_>) -> Timestamp {
        self.tail(guard).timestamp()
    }

    /// Marks `node`, which is linked behind `tail`, and moves the clock to it.
    fn help(&self, tail: &TxnNode<F>, node: &TxnNode<F>) {
        node.mark_committed();
        let from = std::ptr::from_ref(tail).cast_mut();
        let to = std::ptr::from_ref(node).cast_mut();
        // Release: pairs with the Acquire in `tail` (keeps 2). A failure means that another thread
        // helped; both nodes are protected by the caller's guard, so no address came back.
        let _ = self.tail.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Finds the end of the log, helping whoever linked and has not moved the clock yet.
    pub(super) fn front<'g>(&self, guard: &'g Guard<'_>) -> Front<'g, F> {
        loop {
            let tail = self.tail(guard);
            match tail.successor(guard) {
                Successor::Node(node) => self.help(tail, node),
                Successor::None { seen } => return Front { tail, seen },
            }
        }
    }
}

/// Beginning.
impl<F: Footprint> CommitLog<F> {
    /// Begins a transaction at the newest commit.
    pub(crate) fn begin(&self, kind: Kind, tag: Option<Tag>, guard: &Guard<'_>) -> Registration<F> {
        let mut entry = self.registry.enter(kind, self.now(guard), tag);
        let tail = self.tail(guard);
        let snapshot = tail.timestamp();
        self.registry.raise(&mut entry, snapshot);
        Registration { entry, snapshot, anchor: Anchor::new(tail), ticket: None }
    }

    /// Begins a read-only transaction, which is never refused: writers are told that it was here.
    /// Its snapshot may have to wait for a confirmation; meanwhile the entry protects it.
    pub(crate) fn begin_seen(&self, tag: Option<Tag>, guard: &Guard<'_>) -> (Entry, Seen) {
        let mut entry = self.registry.enter(Kind::Untracked, self.visible(guard), tag);
        let seen = self.see(guard);
        if let Seen::At(snapshot) = seen {
            self.registry.raise(&mut entry, snapshot);
        }
        (entry, seen)
    }

    /// Gives an entry the snapshot that it waited for, which is confirmed by now.
    pub(crate) fn settle_seen(&self, entry: &mut Entry, snapshot: Timestamp) {
        self.registry.raise(entry, snapshot);
    }

    /// Every commit up to `timestamp` is durable. Only where the rules ask for confirmation.
    pub(crate) fn confirm(&self, timestamp: Timestamp) {
        self.confirmed.raise(timestamp);
    }

    /// The newest commit that was confirmed.
    pub(crate) fn confirmed(&self) -> Timestamp {
        self.confirmed.newest()
    }

    /// The newest commit that a read-only transaction may be shown.
    pub(crate) fn visible(&self, guard: &Guard<'_>) -> Timestamp {
        if self.rules.confirm { self.confirmed.newest() } else { self.now(guard) }
    }

    /// A snapshot for a reader that tracks nothing: its moment is marked. Only a registration keeps
    /// what it shows from being pruned.
    pub(crate) fn see(&self, guard: &Guard<'_>) -> Seen {
        let tail = self.see_now(guard);
        if !self.rules.confirm {
            return Seen::At(tail);
        }
        self.confirmed.snapshot(tail).map_or(Seen::Unconfirmed(tail), Seen::At)
    }

    /// Ends what [`CommitLog::begin_seen`] began.
    pub(crate) fn leave_seen(&self, entry: Entry) {
        self.registry.leave(entry);
    }

    /// The newest commit, marked as the snapshot of a read-only transaction.
    pub(super) fn see_now(&self, guard: &Guard<'_>) -> Timestamp {
        loop {
            let front = self.front(guard);
            // Without rescue no commit reaches back past a snapshot, and nobody asks for marks.
            if front.seen || !self.rules.rescue || front.tail.mark_seen() {
                return front.tail.timestamp();
            }
        }
    }

    /// Begins a transaction that nobody overtakes, for as long as `patience` lasts.
    pub(crate) fn begin_gated(
        &self,
        patience: Patience,
        tag: Option<Tag>,
        guard: &Guard<'_>,
    ) -> Registration<F> {
        let ticket = self.gate.close(patience);
        self.registry.drain(|| {
            yield_now();
            self.gate.holder() != Some(ticket)
        });
        let mut registration = self.begin(Kind::Tracked, tag, guard);
        registration.ticket = Some(ticket);
        registration
    }
}

/// Committing, and what comes after.
impl<F: Footprint> CommitLog<F> {
    #[expect(clippy::unused_self, reason = "a node belongs to the log that it will be linked to")]
    /// A node for a transaction that is about to commit. Its versions point at
    /// [`Pending::status`].
    pub(crate) fn prepare<'g>(
        &self,
        registration: &Registration<F>,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &'g Guard<'g>,
    ) -> Pending<'g, F> {
        Pending::new(registration.snapshot, label, footprint, guard)
    }

    /// Notes that the transaction will look at no version any more through its snapshot.
    pub(crate) fn done_reading(&self, registration: &Registration<F>) {
        self.registry.show_done_reading(&registration.entry);
    }

    /// Enters the commit, waiting for whoever holds the gate, but not for ever. From here until
    /// `finish` or `leave` the caller runs no user code; before here it holds no version head.
    pub(crate) fn admit(&self, registration: &Registration<F>) {
        loop {
            self.registry.show_committing(&registration.entry);
            match self.gate.holder() {
                None => return,
                holder if holder == registration.ticket => return,
                Some(holder) => {
                    self.registry.hide_committing(&registration.entry);
                    self.gate.wait(holder);
                }
            }
        }
    }

    /// The node at the transaction's snapshot, unless the window was lost.
    pub(super) fn anchor<'g>(
        &self,
        registration: &Registration<F>,
        guard: &'g Guard<'_>,
    ) -> Option<&'g TxnNode<F>> {
        if self.floor.timestamp() > registration.snapshot {
            return None;
        }
        // SAFETY: the anchor is the node at the snapshot, the floor is at or below it, and the
        // guard was made before the floor was read (invariant 5).
        Some(unsafe { registration.anchor.follow(guard) })
    }

    /// Links `pending`, whose place is frozen, behind `front`, and makes it visible.
    pub(super) fn link<'g>(
        &self,
        pending: Pending<'g, F>,
        front: &Front<'_, F>,
    ) -> Result<Linked<'g, F>, Pending<'g, F>> {
        let linked = pending.link(front.tail, front.seen)?;
        self.help(front.tail, linked.node());
        Ok(linked)
    }

    /// Ends a transaction that committed and whose versions carry its timestamp. Answers which
    /// commits it has passed on this occasion.
    pub(crate) fn finish<'g>(
        &self,
        linked: Linked<'_, F>,
        registration: Registration<F>,
        guard: &'g Guard<'_>,
    ) -> Passed<'g, F> {
        let node = linked.node();
        let timestamp = node.timestamp().get();
        let is_short = self.is_short_of_memory(node);
        linked.settle();
        self.leave(registration);
        if is_short {
            return self.trim(guard);
        }
        if !timestamp.is_multiple_of(TRIM_EVERY) {
            return Passed::behind(self.tail(guard), 0, guard);
        }
        let is_due = timestamp.is_multiple_of(HORIZON_EVERY);
        let horizons = if is_due { self.horizons(guard) } else { self.registry.published() };
        let behind = horizons.tracked.get().saturating_sub(self.floor.timestamp().get());
        let limit = TRIM_NODES + usize::try_from(behind).unwrap_or(usize::MAX) / CATCH_UP;
        self.trim_to(horizons, limit, guard)
    }

    /// Ends a transaction that did not commit, or wrote nothing; its version heads are unlinked.
    pub(crate) fn leave(&self, registration: Registration<F>) {
        self.registry.leave(registration.entry);
        if let Some(ticket) = registration.ticket {
            self.gate.open(ticket);
        }
    }
}

impl<F: Footprint> Drop for CommitLog<F> {
    fn drop(&mut self) {
        let mut next = Some(self.oldest.lock().get());
        while let Some(node) = next {
            // SAFETY: `&mut self` rules out every other user; the log owns what it has not
            // retired, and each node is taken once.
            let node = unsafe { Boxed::from_raw(node) };
            next = node.next();
        }
    }
}

impl<F: Footprint> fmt::Debug for CommitLog<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitLog")
            .field("rules", &self.rules)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

//! Certification: may this transaction commit now, given all that committed since its snapshot?
//!
//! ```text
//!   front: tail t ──► examine (last examined, t] ──► judge ──► freeze place t + 1 ──► link
//!     ▲                                                                               │
//!     └──────────────────────── lost the race ────────────────────────────────────────┘
//! ```
//!
//! 1. The link succeeds only if nothing committed since `t`, and no snapshot was marked at `t`,
//!    that the judgement did not know. So what was judged is what holds at the commit point, and no
//!    lock is needed.
//! 2. A transaction none of whose reads was overwritten by a commit in its window has no edge to
//!    any committed transaction, and so closes no cycle: it commits without a look at the graph.
//! 3. A suspect, which has such an edge, commits if the graph stays without a cycle, and if no
//!    read-only transaction can be on one. Such a reader at snapshot `r` follows all commits up to
//!    `r` and precedes a later one, so a cycle through it has a commit after `r` that reaches back
//!    to `r` or before; the last of them to commit is refused, since `r` was marked before its
//!    link. One that writes nothing is let off: as the last on a cycle through a reader it is
//!    entered from its own snapshot only, and then either a cycle without the reader is found, or
//!    one without it existed before.
//! 4. Real conflicts only: explicit locks apart, no refusal but those that say that the evidence
//!    was lost, too expensive, or never taken.
//!
//! 5. A window that is given up is so before its records are. So after the front was read it is
//!    asked for again: whoever wrote behind a record that went, before that front, has seen it
//!    given up, and so does whoever comes behind it. And whoever trims finds the front from which
//!    one commits that has not seen it (see `CommitLog::last_behind`).
//!
//! Called by the transaction floor.

use super::commit_log::{CommitLog, Front, Registration};
use super::footprint::{Footprint, Peer, Refusal, Step};
use super::graph::{self, Member, Obstacle, Reached, Vertex};
use super::node::{Place, Successor, Trail, TxnNode};
use super::owner::{Linked, Pending};
use crate::epoch::Guard;
use crate::epoch::barrier::light;
use crate::id::Timestamp;
use crate::sync::Arc;
use std::fmt;

/// A commit that was refused. The status says so already: unlink the versions that point at it,
/// then drop this.
pub(crate) struct Refused<'g, F: Footprint> {
    pub(crate) refusal: Refusal,
    pub(crate) pending: Pending<'g, F>,
}

impl<F: Footprint> fmt::Debug for Refused<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<F: Footprint> Vertex for TxnNode<F> {
    fn snapshot(&self) -> Timestamp {
        self.snapshot()
    }

    fn committed(&self) -> Timestamp {
        self.timestamp()
    }

    fn reach(&self) -> Timestamp {
        self.reach()
    }

    fn trail(&self) -> Vec<Step> {
        self.trail()
    }

    fn peer(&self) -> Peer {
        self.peer()
    }

    fn reads_meet_writes(&self, writer: &Self) -> bool {
        self.footprint().reads_meet_writes(writer.footprint())
    }
}

/// The commits since one transaction's snapshot, and how they conflict with it.
struct Window<'g, F> {
    snapshot: Timestamp,
    /// The node at the snapshot. None if the transaction has nothing to compare.
    anchor: Option<&'g TxnNode<F>>,
    /// The last node that was compared.
    examined: Option<&'g TxnNode<F>>,
    suspect: Option<Suspect<'g, F>>,
}

/// More, about a transaction that had a read overwritten.
struct Suspect<'g, F> {
    /// The whole window up to the last node that was compared.
    members: Vec<Member<'g, TxnNode<F>>>,
    /// Pairs that may still be looked at.
    budget: usize,
    /// The last judgement, and the number of members that it was made on.
    judged: (usize, Reached),
}

/// A transaction that is being certified. Like a [`Pending`], it aborts when it is dropped.
pub(crate) struct Candidate<'g, F: Footprint> {
    pending: Pending<'g, F>,
    window: Window<'g, F>,
}

impl<F: Footprint> fmt::Debug for Candidate<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Candidate").field(&self.pending).finish()
    }
}

impl<'g, F: Footprint> Candidate<'g, F> {
    /// Gives the transaction up.
    pub(crate) fn give_up(self) -> Pending<'g, F> {
        self.pending.abort();
        self.pending
    }
}

impl<F: Footprint> CommitLog<F> {
    /// Looks for the window of `pending`, whose version heads are all taken.
    pub(crate) fn candidate<'g>(
        &self,
        pending: Pending<'g, F>,
        registration: &Registration<F>,
        guard: &'g Guard<'g>,
    ) -> Result<Candidate<'g, F>, Refused<'g, F>> {
        match self.window(pending.footprint(), registration, guard) {
            Ok(window) => Ok(Candidate { pending, window }),
            Err(refusal) => Err(self.refuse(refusal, pending)),
        }
    }

    /// Does ahead what [`commit_candidate`](Self::commit_candidate) would do about the commits so
    /// far, for a caller who is about to take a lock and commit under it.
    pub(crate) fn examine_ahead<'g>(
        &self,
        mut candidate: Candidate<'g, F>,
        guard: &'g Guard<'g>,
    ) -> Result<Candidate<'g, F>, Refused<'g, F>> {
        let front = self.front(guard);
        match self.decide(&mut candidate, &front, guard) {
            Ok(_) => Ok(candidate),
            Err(refusal) => Err(self.refuse(refusal, candidate.pending)),
        }
    }

    /// Commits `pending`, whose version heads are all taken, or says why not.
    pub(crate) fn commit<'g>(
        &self,
        pending: Pending<'g, F>,
        registration: &Registration<F>,
        guard: &'g Guard<'g>,
    ) -> Result<Linked<'g, F>, Refused<'g, F>> {
        self.commit_candidate(self.candidate(pending, registration, guard)?, guard)
    }

    /// Commits, or says why not.
    pub(crate) fn commit_candidate<'g>(
        &self,
        mut candidate: Candidate<'g, F>,
        guard: &'g Guard<'g>,
    ) -> Result<Linked<'g, F>, Refused<'g, F>> {
        loop {
            let front = self.front(guard);
            let mut place = match self.decide(&mut candidate, &front, guard) {
                Ok(place) => place,
                Err(refusal) => return Err(self.refuse(refusal, candidate.pending)),
            };
            let Candidate { mut pending, window } = candidate;
            place.bytes_total = front.tail.bytes_total() + pending.bytes();
            let is_rescue = place.reach < Timestamp::MAX;
            if is_rescue && self.rules().confirm {
                self.confirmed.note_rescue(place.timestamp);
            }
            pending.freeze(place);
            match self.link(pending, &front) {
                Ok(linked) => {
                    if is_rescue {
                        self.tally.count_rescue();
                    }
                    return Ok(linked);
                }
                Err(pending) => candidate = Candidate { pending, window },
            }
        }
    }

    /// The place right behind `front`, if the transaction may have it.
    fn decide<'g>(
        &self,
        candidate: &mut Candidate<'g, F>,
        front: &Front<'g, F>,
        guard: &'g Guard<'g>,
    ) -> Result<Place, Refusal> {
        let Candidate { pending, window } = candidate;
        let footprint = pending.footprint();
        self.examine(window, footprint, front, guard)?;
        window.judge(footprint.has_writes(), front)
    }

    /// Refuses a transaction whose window was given up, and with it perhaps the records by which it
    /// would be compared: it must not follow an address, nor commit. Whoever has a guard and was
    /// not refused may follow those that it saw through its snapshot.
    pub(crate) fn check_window(&self, registration: &Registration<F>) -> Result<(), Refusal> {
        let checked = self.has_window(registration.snapshot());
        checked.inspect_err(|refusal| self.tally.count(refusal))
    }

    fn has_window(&self, snapshot: Timestamp) -> Result<(), Refusal> {
        light();
        if self.floor.timestamp() > snapshot { Err(Refusal::WindowLost) } else { Ok(()) }
    }

    /// Ends the reads of a transaction that wrote and locked nothing.
    ///
    /// If nothing in its window overwrote what it read, it read the same as a read-only transaction
    /// that took its snapshot now, and like that one it marks the newest commit as seen and takes
    /// no timestamp: it follows every earlier commit and precedes every later one, and rule 3 keeps
    /// later ones from reaching back past it.
    pub(crate) fn commit_reads<'g>(
        &self,
        registration: &Registration<F>,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &'g Guard<'g>,
    ) -> Result<Timestamp, Refusal> {
        debug_assert!(!footprint.has_writes() && !footprint.has_locks(), "it has reads only");
        let count = |refusal: &Refusal| self.tally.count(refusal);
        let mut window = self.window(&footprint, registration, guard).inspect_err(count)?;
        while window.suspect.is_none() {
            let front = self.front(guard);
            self.examine(&mut window, &footprint, &front, guard).inspect_err(count)?;
            // Without rescue no commit reaches back, and nobody asks for marks.
            let is_marked = || front.seen || !self.rules().rescue || front.tail.mark_seen();
            if window.suspect.is_none() && is_marked() {
                return Ok(front.tail.timestamp());
            }
        }
        let pending = self.prepare(registration, label, footprint, guard);
        let candidate = Candidate { pending, window };
        let linked = self.commit_candidate(candidate, guard).map_err(|refused| refused.refusal)?;
        let timestamp = linked.timestamp();
        linked.settle();
        Ok(timestamp)
    }

    fn refuse<'g>(&self, refusal: Refusal, pending: Pending<'g, F>) -> Refused<'g, F> {
        pending.abort();
        self.tally.count(&refusal);
        Refused { refusal, pending }
    }

    fn window<'g>(
        &self,
        footprint: &F,
        registration: &Registration<F>,
        guard: &'g Guard<'_>,
    ) -> Result<Window<'g, F>, Refusal> {
        let anchor = if footprint.has_reads() || footprint.has_locks() {
            Some(self.anchor(registration, guard).ok_or(Refusal::WindowLost)?)
        } else {
            None
        };
        let snapshot = registration.snapshot();
        Ok(Window { snapshot, anchor, examined: anchor, suspect: None })
    }

    /// Compares the transaction with what committed since it was last compared, unless its window
    /// was given up by then (keeps 5).
    fn examine<'g>(
        &self,
        window: &mut Window<'g, F>,
        footprint: &F,
        front: &Front<'g, F>,
        guard: &'g Guard<'_>,
    ) -> Result<(), Refusal> {
        if window.anchor.is_some() || footprint.has_writes() {
            self.has_window(window.snapshot)?;
        }
        let (Some(anchor), Some(examined)) = (window.anchor, window.examined) else {
            return Ok(());
        };
        for node in between(examined, front.tail, guard) {
            if footprint.has_locks() && footprint.locks_meet_writes(node.footprint()) {
                return Err(Refusal::Locked { by: node.peer() });
            }
            let overwrote = footprint.reads_meet_writes(node.footprint());
            if overwrote && !self.rules().rescue {
                return Err(Refusal::Overwritten { by: node.peer() });
            }
            if overwrote && window.suspect.is_none() {
                let harmless = between(anchor, front.tail, guard)
                    .take_while(|earlier| earlier.timestamp() < node.timestamp())
                    .map(|earlier| member(footprint, earlier, false));
                window.suspect = Some(Suspect::new(harmless.collect(), self.rules().search_budget));
            }
            if let Some(suspect) = &mut window.suspect {
                suspect.members.push(member(footprint, node, overwrote));
            }
        }
        window.examined = Some(front.tail);
        Ok(())
    }
}

/// The nodes after `first`, up to and including `last`.
fn between<'g, F: Footprint>(
    first: &'g TxnNode<F>,
    last: &'g TxnNode<F>,
    guard: &'g Guard<'_>,
) -> impl Iterator<Item = &'g TxnNode<F>> {
    let mut node = first;
    std::iter::from_fn(move || {
        if node.timestamp() >= last.timestamp() {
            return None;
        }
        let Successor::Node(next) = node.successor(guard) else { return None };
        node = next;
        Some(next)
    })
}

fn member<'g, F: Footprint>(
    footprint: &F,
    vertex: &'g TxnNode<F>,
    overwrote: bool,
) -> Member<'g, TxnNode<F>> {
    let overwritten = vertex.footprint().reads_meet_writes(footprint);
    Member { vertex, overwrote, overwritten }
}

impl<'g, F: Footprint> Suspect<'g, F> {
    fn new(members: Vec<Member<'g, TxnNode<F>>>, budget: usize) -> Self {
        let unjudged = Reached { reach: Timestamp::MAX, trail: Vec::new() };
        Self { members, budget, judged: (0, unjudged) }
    }
}

impl<F: Footprint> Window<'_, F> {
    /// Decides on the commit right behind `front`, up to which everything was compared.
    fn judge(&mut self, writes: bool, front: &Front<'_, F>) -> Result<Place, Refusal> {
        let timestamp = front.tail.timestamp();
        let seen_below = if front.seen { timestamp.next() } else { front.tail.seen_below() };
        let mut place = Place::clean(timestamp.next(), seen_below);
        let Some(suspect) = &mut self.suspect else { return Ok(place) };
        if suspect.judged.0 < suspect.members.len() {
            let reached = graph::certify(self.snapshot, &suspect.members, &mut suspect.budget)
                .map_err(|obstacle| match obstacle {
                    Obstacle::Cycle(witness) => Refusal::Cycle(Box::new(witness)),
                    Obstacle::Budget => Refusal::SearchBudget,
                })?;
            suspect.judged = (suspect.members.len(), reached);
        }
        let Reached { reach, trail } = &suspect.judged.1;
        if writes && *reach < seen_below {
            return Err(Refusal::ReadOnlyPivot { reached: *reach, trail: trail.clone() });
        }
        place.reach = *reach;
        place.trail = Trail::boxed(trail);
        Ok(place)
    }
}

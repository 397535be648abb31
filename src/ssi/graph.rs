//! The graph of conflicts among committed transactions, and the search for a cycle.
//!
//! Each committed transaction is a vertex with a snapshot `s`, a commit timestamp `c`, what it
//! read and what it wrote. Edges are functions of those; nothing is stored or locked:
//!
//! ```text
//! y ──Overwritten──► z   s(y) < c(z), and z wrote something y had read    y must come before z
//! y ──Before───────► z   c(y) <= s(z)                                     y did come before z
//!
//!       dangerous structure:   T1 ──Overwritten──► T2 ──Overwritten──► T3, which committed first
//!
//!        snapshot of T                              T commits
//!             │   (   the window: T ran alongside  )    │
//!  ─────┬─────┼───────┬──────────────┬──────────────┬───┼──►
//!       Z ◄───┼────── X ◄─ ... ◄──── W ◄──Overwritten── T      W overwrote a read of T
//!       └─────Before───────────────────────────────────►┘      Z is in T's snapshot: a cycle
//! ```
//!
//! Version order is the order of commit, writers of one key are never concurrent, and a snapshot
//! has exactly what committed before it. So reading a version, and overwriting one, are `Before`
//! edges, and real time is one too: a transaction begins after another returned only if the other
//! is in its snapshot. A history whose graph has no cycle is strictly serializable.
//!
//! The subject `T` is the last to commit, so every edge out of it goes to a member of its window
//! that overwrote a read of it, and every edge into it comes from a member of the window whose
//! read it overwrites, or from anything at or before its snapshot.
//!
//! 1. `reach` of a vertex is exact at its commit: the oldest commit on any path from it. Edges to
//!    older commits never appear later.
//! 2. A path that leaves the window towards the past leaves it from a member whose reach is at or
//!    before the snapshot. So the search never looks outside the window.
//! 3. A cycle is reported only with the path that makes it one.
//!
//! Pure logic: `certify` feeds it nodes of the log, `tests` plain structs.

use super::footprint::{Edge, Peer, Step, Witness};
use crate::id::Timestamp;
use std::collections::VecDeque;

/// A committed transaction, as far as the graph is concerned.
pub(super) trait Vertex {
    fn snapshot(&self) -> Timestamp;
    fn committed(&self) -> Timestamp;
    /// The oldest commit this one precedes; `MAX` if none older than itself.
    fn reach(&self) -> Timestamp;
    /// A path to the vertex at `reach`.
    fn trail(&self) -> Vec<Step>;
    fn peer(&self) -> Peer;
    /// Did `writer` write something that `self` read?
    fn reads_meet_writes(&self, writer: &Self) -> bool;
}

/// A transaction in the window of the subject, and how the two conflict.
pub(super) struct Member<'a, V> {
    pub(super) vertex: &'a V,
    /// It wrote something that the subject read: an edge from the subject.
    pub(super) overwrote: bool,
    /// It read something that the subject writes: an edge to the subject.
    pub(super) overwritten: bool,
}

/// How far back the subject reaches, and along which path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) reach: Timestamp,
    pub(super) trail: Vec<Step>,
}

/// Why the subject may not commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    Cycle(Witness),
    /// The budget was spent before the search ended.
    Budget,
}

/// Decides whether the subject closes a cycle. `window` has every commit after `snapshot`, in
/// order; `budget` is the number of pairs that may still be looked at.
pub(super) fn certify<V: Vertex>(
    snapshot: Timestamp,
    window: &[Member<'_, V>],
    budget: &mut usize,
) -> Result<Reached, Obstacle> {
    let Some(first) = window.iter().find(|member| member.overwrote) else {
        return Ok(Reached { reach: Timestamp::MAX, trail: Vec::new() });
    };
    let first_step = Step { edge: Edge::Overwritten, peer: first.vertex.peer() };
    if let Some(back) =
        window.iter().find(|member| member.overwrote && member.vertex.reach() <= snapshot)
    {
        let direct = Step { edge: Edge::Overwritten, peer: back.vertex.peer() };
        return Err(Obstacle::Cycle(closed_by_the_past(vec![direct], back.vertex)));
    }
    // A path that leaves the subject comes back from a member that read what the subject writes,
    // which makes the subject `T2` of a dangerous structure; or from the past, and then a member
    // that reaches there was `T2`, and the subject is `T1`. Without either there is no cycle, and
    // if no member reaches further than the oldest conflict, the subject does not either.
    let oldest = first.vertex.committed();
    let comes_back = window.iter().any(|member| member.overwritten);
    let reaches_back = window.iter().any(|member| member.vertex.reach() < oldest);
    if !comes_back && !reaches_back {
        return Ok(Reached { reach: oldest, trail: vec![first_step] });
    }
    Search::new(snapshot, window).run(budget)
}

/// The cycle along `steps`, then from `last` along its trail to a commit in the subject's snapshot.
fn closed_by_the_past<V: Vertex>(mut steps: Vec<Step>, last: &V) -> Witness {
    steps.extend(last.trail());
    Witness { steps, closing: Edge::Before }
}

/// How a vertex was reached: from which member, or from the subject itself, and by which edge.
#[derive(Clone, Copy)]
struct Origin {
    from: Option<usize>,
    edge: Edge,
}

/// Breadth-first search from the subject, so that paths are as short as can be.
struct Search<'w, 'a, V> {
    snapshot: Timestamp,
    window: &'w [Member<'a, V>],
    /// For each member, how it was reached.
    origins: Vec<Option<Origin>>,
    /// Members that were not reached, in order.
    unreached: Vec<usize>,
    /// Members whose edges were not followed.
    open: VecDeque<usize>,
}

impl<'w, 'a, V: Vertex> Search<'w, 'a, V> {
    fn new(snapshot: Timestamp, window: &'w [Member<'a, V>]) -> Self {
        Self {
            snapshot,
            window,
            origins: vec![None; window.len()],
            unreached: (0..window.len()).collect(),
            open: VecDeque::new(),
        }
    }

    fn member(&self, at: usize) -> &'w Member<'a, V> {
        self.window.get(at).expect("positions come from the window")
    }

    fn run(mut self, budget: &mut usize) -> Result<Reached, Obstacle> {
        self.follow(None, budget)?;
        while let Some(at) = self.open.pop_front() {
            self.follow(Some(at), budget)?;
        }
        let oldest = self.origins.iter().position(Option::is_some).expect("a read was overwritten");
        Ok(Reached { reach: self.member(oldest).vertex.committed(), trail: self.path_to(oldest) })
    }

    /// Reaches every member to which an edge leads from `from`, the subject if none.
    fn follow(&mut self, from: Option<usize>, budget: &mut usize) -> Result<(), Obstacle> {
        let unreached = std::mem::take(&mut self.unreached);
        *budget = budget.checked_sub(unreached.len()).ok_or(Obstacle::Budget)?;
        for at in unreached {
            match self.edge(from, at) {
                Some(edge) => self.reach(at, Origin { from, edge })?,
                None => self.unreached.push(at),
            }
        }
        Ok(())
    }

    fn edge(&self, from: Option<usize>, to: usize) -> Option<Edge> {
        let z = self.member(to);
        let Some(y) = from.map(|at| self.member(at).vertex) else {
            return z.overwrote.then_some(Edge::Overwritten);
        };
        if y.committed() <= z.vertex.snapshot() {
            return Some(Edge::Before);
        }
        // A vertex without reach has no edge to an older one: spares the comparison.
        let may_conflict = y.snapshot() < z.vertex.committed()
            && (y.reach() < Timestamp::MAX || y.committed() < z.vertex.committed());
        (may_conflict && y.reads_meet_writes(z.vertex)).then_some(Edge::Overwritten)
    }

    fn reach(&mut self, at: usize, origin: Origin) -> Result<(), Obstacle> {
        if let Some(known) = self.origins.get_mut(at) {
            *known = Some(origin);
        }
        let member = self.member(at);
        if member.overwritten {
            let steps = self.path_to(at);
            return Err(Obstacle::Cycle(Witness { steps, closing: Edge::Overwritten }));
        }
        if member.vertex.reach() <= self.snapshot {
            return Err(Obstacle::Cycle(closed_by_the_past(self.path_to(at), member.vertex)));
        }
        self.open.push_back(at);
        Ok(())
    }

    /// The steps from the subject to a member that was reached.
    fn path_to(&self, at: usize) -> Vec<Step> {
        let origin = |at: usize| self.origins.get(at).copied().flatten();
        let mut steps: Vec<Step> =
            std::iter::successors(Some(at), |&at| origin(at).and_then(|origin| origin.from))
                .filter_map(|at| {
                    origin(at).map(|Origin { edge, .. }| Step {
                        edge,
                        peer: self.member(at).vertex.peer(),
                    })
                })
                .collect();
        steps.reverse();
        steps
    }
}

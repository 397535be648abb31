//! One transaction's node in the commit log, from its first pending version to its last reader.
//!
//! ```text
//!                 freeze        link            help           settle       retire
//!   Pending ───────────────► in the log ─► Committed(ts) ─► versions ──► past the floor ─► freed
//!      │ abort                              carry ts            by the collector, after the
//!      └────────► Aborted ─► versions unlinked ─► freed         last guard that could see it
//!
//!   status | next | SEEN   place { timestamp, reach, seen_below, .. }   settled   footprint
//!   ▲        ▲ the slot of the next commit
//!   └ pending versions point here
//! ```
//!
//! What every later transaction looks at comes first and shares a cache line; a small footprint
//! takes two more.
//!
//! 1. `place` is written only by the owner and only before its link; after the link it never
//!    changes. Others reach a node through `next` or the log's tail, both read with Acquire.
//! 2. `next` goes from null to null|SEEN to the successor, or from null to the successor; then it
//!    never changes. SEEN stays through the link.
//! 3. Status goes from active to aborted, or from active to committed, once.
//! 4. The owner settles a node after the last pending version that points at it carries a
//!    timestamp; only a settled node is retired by the log. A node that was never linked is retired
//!    by its owner, who first unlinks every version that points at it.
//! 5. A `&'g TxnNode` that is not its owner's is protected by a guard that lives for `'g`, and so
//!    is every later node of the log: the log retires nodes in order.
//!
//! Used by `owner`, `commit_log` and `certify`.

use super::footprint::{Footprint, Peer, Step};
use super::status::{State, Status};
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::slab::Boxed;
use crate::sync::{Arc, AtomicBool, AtomicPtr, Ordering, UnsafeCell};
use std::fmt;
use std::ptr::{self, NonNull};

/// A node's place in the log and in the graph, frozen by its link.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) timestamp: Timestamp,
    /// The oldest commit that this one precedes, directly or along a path; `MAX` if none of those
    /// before it.
    pub(super) reach: Timestamp,
    /// One more than the newest marked snapshot before this commit; zero if there was none.
    pub(super) seen_below: Timestamp,
    /// Memory of all nodes up to and including this one, since the log was made.
    pub(super) bytes_total: u64,
    /// A path to the node at `reach`, for reports; few commits have one.
    pub(super) trail: Option<Box<Trail>>,
}

/// Steps from a node to the oldest commit that it precedes.
#[derive(Debug)]
pub(super) struct Trail(Vec<Step>);

impl Trail {
    /// Boxed, since most nodes have none.
    pub(super) fn boxed(steps: &[Step]) -> Option<Box<Self>> {
        (!steps.is_empty()).then(|| Box::new(Self(steps.to_vec())))
    }
}

impl Place {
    /// The place of a commit that overwrote nothing it should have followed.
    pub(super) fn clean(timestamp: Timestamp, seen_below: Timestamp) -> Self {
        Self { timestamp, reach: Timestamp::MAX, seen_below, bytes_total: 0, trail: None }
    }
}

/// What stands behind a node.
pub(super) enum Successor<'g, F> {
    /// Nothing yet; `seen` if a read-only transaction uses this node's timestamp as its snapshot.
    None {
        seen: bool,
    },
    Node(&'g TxnNode<F>),
}

/// A transaction that is committing or has committed.
#[repr(C, align(64))]
pub(super) struct TxnNode<F> {
    /// First, so that a node and its status share their address.
    status: Status,
    next: AtomicPtr<TxnNode<F>>,
    place: UnsafeCell<Place>,
    settled: AtomicBool,
    snapshot: Timestamp,
    /// Boxed, since most have none.
    label: Option<Box<Label>>,
    /// Empty in the log's first node only, which stands for the empty database.
    pub(super) footprint: Option<F>,
}

/// What its user calls a transaction.
struct Label(Arc<str>);

// SAFETY: all fields but `place` are `Sync` if `F` is; `place` is written by the owner alone
// before other threads can find the node, and never after (invariant 1).
unsafe impl<F: Sync> Sync for TxnNode<F> {}

impl<F> TxnNode<F> {
    /// The tag of `next`: a read-only transaction uses this node's timestamp as its snapshot.
    const SEEN: usize = 1;

    /// A node in a leaked box: whoever has the pointer sees to its end.
    pub(super) fn leaked(
        snapshot: Timestamp,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &Guard<'_>,
    ) -> NonNull<Self> {
        guard.new_box(|| Self::new(State::Active, snapshot, label, Some(footprint)))
    }

    #[inline]
    fn new(
        state: State,
        snapshot: Timestamp,
        label: Option<Arc<str>>,
        footprint: Option<F>,
    ) -> Self {
        const { assert!(align_of::<Self>() > Self::SEEN) };
        Self {
            status: Status::new(state),
            next: AtomicPtr::new(ptr::null_mut()),
            place: UnsafeCell::new(Place::clean(Timestamp::ZERO, Timestamp::ZERO)),
            settled: AtomicBool::new(false),
            snapshot,
            label: label.map(|label| Box::new(Label(label))),
            footprint,
        }
    }

    /// The node that stands for the database as it was at `start`, when the log was made.
    pub(super) fn genesis(start: Timestamp) -> NonNull<Self> {
        let node = Self::new(State::Committed(start), start, None, None);
        let node = Boxed::leak(Boxed::new(node));
        // SAFETY: the node was leaked just now.
        let genesis = unsafe { node.as_ref() };
        // SAFETY: nobody else knows the node yet.
        unsafe { genesis.set_place(Place::clean(start, Timestamp::ZERO)) };
        genesis.settle();
        node
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    pub(super) fn snapshot(&self) -> Timestamp {
        self.snapshot
    }

    pub(super) fn footprint(&self) -> &F {
        self.footprint.as_ref().expect("only the first node has none, and no window holds it")
    }

    /// Sets the place that the next `link` publishes.
    ///
    /// # Safety
    /// The caller owns the node, which is not linked.
    pub(super) unsafe fn set_place(&self, place: Place) {
        self.place.with_mut(|cell| {
            // SAFETY: promised by the caller: nobody else looks at `place` (invariant 1); others
            // hold the status at most.
            *unsafe { &mut *cell } = place;
        });
    }

    fn with_place<R>(&self, read: impl FnOnce(&Place) -> R) -> R {
        self.place.with(|place| {
            // SAFETY: the caller is the owner, or found the node through an Acquire load and so
            // sees the owner's last write to `place`, after which there is none (invariant 1).
            read(unsafe { &*place })
        })
    }

    #[inline]
    pub(super) fn timestamp(&self) -> Timestamp {
        self.with_place(|place| place.timestamp)
    }

    #[inline]
    pub(super) fn reach(&self) -> Timestamp {
        self.with_place(|place| place.reach)
    }

    pub(super) fn seen_below(&self) -> Timestamp {
        self.with_place(|place| place.seen_below)
    }

    pub(super) fn bytes_total(&self) -> u64 {
        self.with_place(|place| place.bytes_total)
    }

    /// Copies the path to the node at `reach`.
    pub(super) fn trail(&self) -> Vec<Step> {
        self.with_place(|place| {
            place.trail.as_ref().map(|trail| trail.0.clone()).unwrap_or_default()
        })
    }

    fn label(&self) -> Option<Arc<str>> {
        self.label.as_ref().map(|label| Arc::clone(&label.0))
    }

    pub(super) fn peer(&self) -> Peer {
        Peer { timestamp: self.timestamp(), label: self.label() }
    }

    /// Tells every reader of this node's versions that they are committed. Done by whoever finds
    /// the node linked, before the log's tail moves to it.
    pub(super) fn mark_committed(&self) {
        if self.status.committed().is_none() {
            self.status.set(State::Committed(self.timestamp()));
        }
    }

    pub(super) fn settle(&self) {
        // Release: pairs with the Acquire in `is_settled`; the owner's stamps come before.
        self.settled.store(true, Ordering::Release);
    }

    pub(super) fn is_settled(&self) -> bool {
        // Acquire: pairs with the Release in `settle`; whoever retires the node does so after the
        // last version stopped pointing at it.
        self.settled.load(Ordering::Acquire)
    }

    /// What stands behind this node now.
    #[inline]
    pub(super) fn successor<'g>(&'g self, _guard: &'g Guard<'_>) -> Successor<'g, F> {
        let raw = self.load_next();
        match Self::untagged(raw) {
            None => Successor::None { seen: raw.addr() & Self::SEEN != 0 },
            // SAFETY: the successor was linked, and is retired after `self` if at all, so the guard
            // that protects `self` for `'g` protects it too (invariant 5).
            Some(node) => Successor::Node(unsafe { node.as_ref() }),
        }
    }

    /// The successor's address, for whoever owns the log's memory.
    pub(super) fn next(&self) -> Option<NonNull<Self>> {
        Self::untagged(self.load_next())
    }

    #[inline]
    fn load_next(&self) -> *mut Self {
        // Acquire: pairs with the Release in `link`; whoever finds a node sees its place and
        // footprint.
        self.next.load(Ordering::Acquire)
    }

    fn untagged(raw: *mut Self) -> Option<NonNull<Self>> {
        NonNull::new(raw.map_addr(|address| address & !Self::SEEN))
    }

    /// Puts `node` behind this one unless something stands there, or SEEN is not `seen` any more.
    /// A success is the commit of `node`.
    #[inline]
    pub(super) fn link(&self, seen: bool, node: NonNull<Self>) -> bool {
        let tag = usize::from(seen) * Self::SEEN;
        let before = ptr::without_provenance_mut(tag);
        let after = node.as_ptr().map_addr(|address| address | tag);
        // Release: pairs with the Acquire in `successor`; place and footprint come before.
        // Relaxed on failure: the caller looks again.
        self.next.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Marks this node's timestamp as a read-only transaction's snapshot, unless a commit follows
    /// already or another reader was faster.
    pub(super) fn mark_seen(&self) -> bool {
        let marked = ptr::without_provenance_mut(Self::SEEN);
        // AcqRel: one order with `link` on this word; it publishes nothing itself.
        self.next
            .compare_exchange(ptr::null_mut(), marked, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl<F: Footprint> TxnNode<F> {
    /// Memory this node holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.footprint.as_ref().map_or(0, Footprint::bytes)
    }
}

impl<F> fmt::Debug for TxnNode<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxnNode")
            .field("state", &self.status.state())
            .field("snapshot", &self.snapshot)
            .field("label", &self.label())
            .finish_non_exhaustive()
    }
}

/// Where a registered transaction's window begins: the node at its snapshot.
pub(super) struct Anchor<F>(NonNull<TxnNode<F>>);

// SAFETY: an anchor is an address; following it is unsafe and demands what makes it sound.
unsafe impl<F> Send for Anchor<F> {}
// SAFETY: as for `Send`.
unsafe impl<F> Sync for Anchor<F> {}

impl<F> Anchor<F> {
    pub(super) fn new(node: &TxnNode<F>) -> Self {
        Self(NonNull::from(node))
    }

    /// # Safety
    /// The node was not retired before `guard` was made.
    pub(super) unsafe fn follow<'g>(&self, _guard: &'g Guard<'_>) -> &'g TxnNode<F> {
        // SAFETY: the caller promises that the guard protects the node.
        unsafe { self.0.as_ref() }
    }
}

/// Hands a node over to the collector.
///
/// # Safety
/// The node came from a leaked box; no new reader can find it or its status; nobody else retires
/// it.
pub(super) unsafe fn retire<F: Footprint>(
    node: NonNull<TxnNode<F>>,
    bytes: usize,
    guard: &Guard<'_>,
) {
    // SAFETY: promised by the caller; a footprint is `Send`, so any thread may drop it.
    unsafe { guard.retire_spare(node.as_ptr(), bytes) };
}

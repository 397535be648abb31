//! One transaction's node in the commit log, from its first pending version to its last reader.
//!
//! ```text
//!                 freeze        link            help           settle       retire
//!   Pending ───────────────► in the log ─► Committed(ts) ─► versions ──► past the floor ─► freed
//!      │ abort                              carry ts            by the collector, after the
//!      └────────► Aborted ─► versions unlinked ─► freed         last guard that could see it
//!
//!   status | next | SEEN   settled   place { timestamp, reach, seen_below, .. }   footprint
//!   ▲        ▲ the slot of the next commit
//!   └ pending versions point here
//! ```
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
//! Used by `commit_log` and `certify`; the floors above use [`Status`], [`Pending`] and [`Linked`].

use super::footprint::{Footprint, Peer, Step};
use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicU64, Ordering, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Where a transaction stands, readable by whoever meets one of its pending versions.
///
/// Its address has its four low bits clear, so that a version's stamp can tell it from a timestamp.
#[repr(C, align(16))]
#[derive(Debug)]
pub(crate) struct Status(AtomicU64);

/// What a [`Status`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Running, or committing without having been ordered as far as anyone knows.
    Active,
    Aborted,
    Committed(Timestamp),
}

impl Status {
    const ACTIVE: u64 = 0;
    const ABORTED: u64 = 1;
    const COMMITTED: u64 = 2;
    const TAG_BITS: u32 = 2;
    const TAGS: u64 = (1 << Self::TAG_BITS) - 1;

    fn new(state: State) -> Self {
        const { assert!(Timestamp::BITS + Self::TAG_BITS <= u64::BITS) };
        Self(AtomicU64::new(Self::encode(state)))
    }

    fn encode(state: State) -> u64 {
        match state {
            State::Active => Self::ACTIVE,
            State::Aborted => Self::ABORTED,
            State::Committed(timestamp) => timestamp.get() << Self::TAG_BITS | Self::COMMITTED,
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Release in `set`; whoever sees an outcome sees what led to it.
        let raw = self.0.load(Ordering::Acquire);
        match raw & Self::TAGS {
            Self::ACTIVE => State::Active,
            Self::ABORTED => State::Aborted,
            _ => State::Committed(Timestamp::from_raw(raw >> Self::TAG_BITS)),
        }
    }

    /// The commit timestamp, if there is one. Every commit at or before a snapshot has one by the
    /// time the snapshot is taken, so "none" means "not in my snapshot".
    #[inline]
    pub(crate) fn committed(&self) -> Option<Timestamp> {
        match self.state() {
            State::Committed(timestamp) => Some(timestamp),
            State::Active | State::Aborted => None,
        }
    }

    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.state() == State::Active
    }

    fn set(&self, state: State) {
        // Release: pairs with the Acquire in `state`.
        self.0.store(Self::encode(state), Ordering::Release);
    }
}

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
    /// A path to the node at `reach`, for reports.
    pub(super) trail: Box<[Step]>,
}

impl Place {
    /// The place of a commit that overwrote nothing it should have followed.
    pub(super) fn clean(timestamp: Timestamp, seen_below: Timestamp) -> Self {
        Self { timestamp, reach: Timestamp::MAX, seen_below, bytes_total: 0, trail: Box::default() }
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
#[repr(C)]
pub(super) struct TxnNode<F> {
    /// First, so that a node and its status share their address.
    status: Status,
    next: AtomicPtr<TxnNode<F>>,
    settled: AtomicBool,
    snapshot: Timestamp,
    label: Option<Arc<str>>,
    place: UnsafeCell<Place>,
    /// Empty in the log's first node only, which stands for the empty database.
    footprint: Option<F>,
}

// SAFETY: all fields but `place` are `Sync` if `F` is; `place` is written by the owner alone
// before other threads can find the node, and never after (invariant 1).
unsafe impl<F: Sync> Sync for TxnNode<F> {}

impl<F> TxnNode<F> {
    /// The tag of `next`: a read-only transaction uses this node's timestamp as its snapshot.
    const SEEN: usize = 1;

    fn new(
        state: State,
        snapshot: Timestamp,
        label: Option<Arc<str>>,
        footprint: Option<F>,
    ) -> Box<Self> {
        const { assert!(align_of::<Self>() > Self::SEEN) };
        Box::new(Self {
            status: Status::new(state),
            next: AtomicPtr::new(ptr::null_mut()),
            settled: AtomicBool::new(false),
            snapshot,
            label,
            place: UnsafeCell::new(Place::clean(Timestamp::ZERO, Timestamp::ZERO)),
            footprint,
        })
    }

    /// The node that stands for the empty database.
    pub(super) fn genesis() -> Box<Self> {
        let node = Self::new(State::Committed(Timestamp::ZERO), Timestamp::ZERO, None, None);
        node.settle();
        node
    }

    pub(super) fn snapshot(&self) -> Timestamp {
        self.snapshot
    }

    pub(super) fn footprint(&self) -> &F {
        self.footprint.as_ref().expect("only the first node has none, and no window holds it")
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
        self.with_place(|place| place.trail.to_vec())
    }

    pub(super) fn peer(&self) -> Peer {
        Peer { timestamp: self.timestamp(), label: self.label.clone() }
    }

    /// Tells every reader of this node's versions that they are committed. Done by whoever finds
    /// the node linked, before the log's tail moves to it.
    pub(super) fn mark_committed(&self) {
        if self.status.committed().is_none() {
            self.status.set(State::Committed(self.timestamp()));
        }
    }

    fn settle(&self) {
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
        // Acquire: pairs with the Release in `link`; whoever finds a node sees its place and
        // footprint.
        let raw = self.next.load(Ordering::Acquire);
        let next = raw.map_addr(|address| address & !Self::SEEN);
        match NonNull::new(next) {
            None => Successor::None { seen: raw.addr() & Self::SEEN != 0 },
            // SAFETY: `next` was linked, and is retired after `self` if at all, so the guard that
            // protects `self` for `'g` protects it too (invariant 5).
            Some(node) => Successor::Node(unsafe { node.as_ref() }),
        }
    }

    /// Takes a node of a log that nobody uses any more apart.
    pub(super) fn into_successor(self: Box<Self>) -> Option<NonNull<Self>> {
        // Relaxed: the caller is the only user.
        let raw = self.next.load(Ordering::Relaxed);
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
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A node that its owner holds and the log does not know yet.
///
/// Dropping it aborts the transaction and retires the node: first unlink every version that points
/// at [`Pending::status`].
pub(crate) struct Pending<'g, F: Footprint> {
    node: NonNull<TxnNode<F>>,
    guard: &'g Guard<'g>,
}

impl<'g, F: Footprint> Pending<'g, F> {
    pub(super) fn new(
        snapshot: Timestamp,
        label: Option<Arc<str>>,
        footprint: F,
        guard: &'g Guard<'g>,
    ) -> Self {
        let node = TxnNode::new(State::Active, snapshot, label, Some(footprint));
        Self { node: NonNull::from(Box::leak(node)), guard }
    }

    /// Where this transaction's pending versions point. The address stays valid until the node is
    /// settled, or this handle dropped, and then as long as any guard that was pinned by then.
    pub(crate) fn status(&self) -> &Status {
        &self.node().status
    }

    /// What was handed in.
    pub(crate) fn footprint(&self) -> &F {
        self.node().footprint()
    }

    /// The footprint, for as long as the node is not linked and nobody else looks at it.
    pub(crate) fn footprint_mut(&mut self) -> &mut F {
        // SAFETY: the node came from a box that only this handle knows of; others hold the address
        // of its status at most, a field of its own.
        let footprint = unsafe { &mut *(&raw mut (*self.node.as_ptr()).footprint) };
        footprint.as_mut().expect("only the first node has no footprint")
    }

    /// Tells everyone who meets a version of this transaction to look past it.
    pub(crate) fn abort(&self) {
        self.node().status.set(State::Aborted);
    }

    pub(super) fn node(&self) -> &TxnNode<F> {
        // SAFETY: the node was leaked from a box in `new`, and only `drop` and the log, which
        // takes this handle, retire it.
        unsafe { self.node.as_ref() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.node().bytes() as u64
    }

    /// Sets the place that the next `link` publishes.
    pub(super) fn freeze(&mut self, place: Place) {
        self.node().place.with_mut(|cell| {
            // SAFETY: the node is not linked, so only its owner, who calls this through `&mut`,
            // looks at `place` (invariant 1); others hold its status at most.
            *unsafe { &mut *cell } = place;
        });
    }

    /// Links the node behind `tail`. On success the node is the log's.
    pub(super) fn link(self, tail: &TxnNode<F>, seen: bool) -> Result<Linked<'g, F>, Self> {
        if !tail.link(seen, self.node) {
            return Err(self);
        }
        let linked = Linked { node: self.node, life: PhantomData };
        std::mem::forget(self);
        Ok(linked)
    }
}

impl<F: Footprint> Drop for Pending<'_, F> {
    fn drop(&mut self) {
        self.abort();
        let bytes = self.node().bytes();
        // SAFETY: the node was never linked, so this handle is its only owner; the user of the
        // handle unlinked the versions that pointed at it (invariant 4).
        unsafe { retire(self.node, bytes, self.guard) };
    }
}

impl<F: Footprint> fmt::Debug for Pending<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(self.node()).finish()
    }
}

/// A node that is in the log, whose owner has still to put timestamps into its versions.
///
/// Dropping it unsettled keeps the node, and every later one, for the life of the log.
#[must_use = "the log keeps a node until it is settled"]
pub(crate) struct Linked<'g, F: Footprint> {
    node: NonNull<TxnNode<F>>,
    life: PhantomData<&'g TxnNode<F>>,
}

impl<'g, F: Footprint> Linked<'g, F> {
    /// When the transaction committed.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.node().timestamp()
    }

    /// Where the transaction's pending versions point until they carry its timestamp.
    pub(crate) fn status(&self) -> &Status {
        &self.node().status
    }

    pub(super) fn node(&self) -> &'g TxnNode<F> {
        // SAFETY: the log does not retire an unsettled node, and settling consumes the handle; the
        // guard that the owner held while linking lives for `'g` and protects it from then on.
        unsafe { self.node.as_ref() }
    }

    pub(super) fn settle(self) {
        self.node().settle();
    }
}

impl<F: Footprint> fmt::Debug for Linked<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Linked").field(self.node()).finish()
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
    /// # Safety
    /// `node` is a leaked `TxnNode<F>` that nobody holds any more.
    unsafe fn free<F>(node: *mut u8) {
        // SAFETY: promised by the caller of `retire`.
        drop(unsafe { Box::from_raw(node.cast::<TxnNode<F>>()) });
    }
    // SAFETY: `free` fits the box; a footprint is `Send`, so any thread may drop it.
    unsafe { guard.defer(node.as_ptr().cast(), free::<F>, bytes) };
}

//! A leaf: up to 64 entries as a sorted run and a short unsorted tail that only grows.
//!
//! ```text
//! state {sorted 4, count 6} | skip | hints   [ 2 5 7 9 | 8 3 | . . ]
//!                                  | entries [ * * * * | * * | . . ]   one box each
//! ```
//!
//! 1. Places below `count` never change; places from `count` on are read by nobody. A writer
//!    fills the next place and then publishes it by raising `count`.
//! 2. Places below `sorted` ascend by hint, then key.
//! 3. `skip` is at most the number of leading bytes that all keys between the leaf's fences share.
//! 4. An entry in a leaf that can be reached was not retired; so it outlives the reader's guard.
//! 5. A leaf is replaced whole when its tail is full, and only appended to otherwise; both by the
//!    holder of its segment's lock.
//!
//! Used by `content`, `insert`, `sweep`, `cursor` and `check`.

use super::block::{Block, Front};
use super::hint::Probe;
use super::prefetch::prefetch;
use super::run::{Item, Run};
use super::shape::Entry;
use crate::sync::{AtomicU32, Ordering, UnsafeCell, load_owned};
use std::borrow::Borrow;
use std::ptr::NonNull;

/// The header of a leaf.
pub(super) struct Head {
    /// `sorted` in the upper half, `count` in the lower.
    state: AtomicU32,
    skip: UnsafeCell<usize>,
}

/// What a pointer to a leaf points to.
pub(super) type RawLeaf = Front<Head>;

/// How much of a leaf is filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) sorted: usize,
    pub(super) count: usize,
}

impl State {
    const fn unpack(raw: u32) -> Self {
        Self { sorted: (raw >> 16) as usize, count: (raw & 0xffff) as usize }
    }

    fn pack(self) -> u32 {
        let half = |number| u32::from(u16::try_from(number).expect("a leaf is far smaller"));
        half(self.sorted) << 16 | half(self.count)
    }
}

/// A handle of a leaf that lives during `'g`.
pub(super) struct Leaf<'g, E: Entry>(Block<'g, Head, UnsafeCell<u64>, UnsafeCell<NonNull<E>>>);

impl<E: Entry> Clone for Leaf<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Entry> Copy for Leaf<'_, E> {}

impl<'g, E: Entry> Leaf<'g, E> {
    /// A leaf of sorted items, whose hints are right for `skip`, with room for `capacity`.
    pub(super) fn build(items: &[Item<'_, E>], capacity: usize, skip: usize) -> Self {
        let count = items.len();
        let state = AtomicU32::new(State { sorted: count, count }.pack());
        let head = Head { state, skip: UnsafeCell::new(skip) };
        Self(Block::build(head, capacity.max(count), |index| {
            let (hint, raw) =
                items.get(index).map_or((0, NonNull::dangling()), |item| (item.hint, item.raw()));
            (UnsafeCell::new(hint), UnsafeCell::new(raw))
        }))
    }

    /// # Safety
    /// `raw` is from [`Leaf::as_raw`] of a leaf with entries of type `E`, its building happened
    /// before, and neither it nor its entries are freed during `'g`.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<RawLeaf>) -> Self {
        // SAFETY: the caller's promise covers the block's.
        Self(unsafe { Block::from_raw(raw) })
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut RawLeaf {
        self.0.as_raw()
    }

    /// Frees a leaf, but not its entries.
    ///
    /// # Safety
    /// `raw` is from [`Leaf::as_raw`] of a leaf with entries of type `E`, and nobody uses the leaf
    /// any more.
    #[expect(clippy::cast_ptr_alignment, reason = "it was a pointer to this type before")]
    pub(super) unsafe fn free_raw(raw: *mut u8) {
        let Some(raw) = NonNull::new(raw.cast::<RawLeaf>()) else { return };
        // SAFETY: the caller's promise.
        let block = unsafe { Self::from_raw(raw) }.0;
        // Tells a model checker that all reading must have ended.
        block.header().skip.with_mut(|_| ());
        // SAFETY: the caller's promise.
        unsafe { block.free() };
    }

    /// Bytes that the leaf takes.
    pub(super) fn size(self) -> usize {
        Block::<Head, UnsafeCell<u64>, UnsafeCell<NonNull<E>>>::size(self.0.len())
    }

    #[inline]
    pub(super) fn capacity(self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn skip(self) -> usize {
        // SAFETY: written before the leaf was published and never again.
        self.0.header().skip.with(|skip| unsafe { *skip })
    }

    #[inline]
    pub(super) fn state(self) -> State {
        // Acquire: partner of the release in `append`; places below `count` are filled.
        State::unpack(self.0.header().state.load(Ordering::Acquire))
    }

    /// The state, for the holder of the segment's lock.
    #[inline]
    pub(super) fn state_owned(self) -> State {
        State::unpack(load_owned!(self.0.header().state))
    }

    #[inline]
    fn hint(self, index: usize) -> u64 {
        // SAFETY: callers stay below a `count` that they loaded: invariant 1.
        self.0.first(index).with(|hint| unsafe { *hint })
    }

    #[inline]
    fn raw(self, index: usize) -> NonNull<E> {
        // SAFETY: callers stay below a `count` that they loaded: invariant 1.
        self.0.second(index).with(|raw| unsafe { *raw })
    }

    /// The item in a place below a `count` that the caller loaded.
    #[inline]
    pub(super) fn item(self, index: usize) -> Item<'g, E> {
        // SAFETY: invariant 4, kept by `sweep`, which retires what it takes out.
        unsafe { Item::new(self.hint(index), self.raw(index)) }
    }

    /// The entry with the probe's key.
    #[inline]
    pub(super) fn find<Q>(self, state: State, probe: &Probe<'_, E::Key, Q>) -> Option<Item<'g, E>>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let skip = self.skip();
        let State { sorted, count } = state;
        let key_at = |index| self.item(index).key();
        let found = probe.search(sorted, skip, |index| self.hint(index), key_at).or_else(|| {
            let hint = probe.hint(skip);
            (sorted..count).find(|&index| {
                (!probe.is_hinted() || self.hint(index) == hint)
                    && (probe.is_exact() || probe.compare(key_at(index)).is_eq())
            })
        });
        found.map(|index| self.item(index))
    }

    /// Fills the next place and publishes it. The caller holds the segment's lock and has seen
    /// that there is room; `sorted` says that the tail is empty and the item beyond the run.
    pub(super) fn append(self, item: Item<'_, E>, sorted: bool) {
        let State { sorted: run, count } = self.state_owned();
        assert!(count < self.capacity(), "only a leaf with room is appended to");
        // SAFETY: invariant 1: nobody reads this place yet, and the lock keeps writers out.
        self.0.first(count).with_mut(|hint| unsafe { *hint = item.hint });
        // SAFETY: as for the hint.
        self.0.second(count).with_mut(|raw| unsafe { *raw = item.raw() });
        let state = State { sorted: run + usize::from(sorted), count: count + 1 };
        // Release: partner of the acquire in `state`; the place is filled.
        self.0.header().state.store(state.pack(), Ordering::Release);
    }

    /// Puts the leaf's entries into a run, in order. Runs the keys' `Ord` if there is a tail.
    #[inline]
    pub(super) fn read_into(self, state: State, run: &mut Run<'g, E>) {
        run.refill(self.skip(), state.sorted, |index| self.item(index));
        for index in state.sorted..state.count {
            run.insert(self.item(index));
        }
    }

    /// Asks for most of the leaf to be brought near.
    #[inline]
    pub(super) fn prefetch_whole(self) {
        let start = self.0.as_non_null().cast::<u8>();
        for line in 0..LEAF_LINES {
            prefetch(start, line);
        }
    }
}

/// Cache lines of an ordinary leaf.
const LEAF_LINES: usize = 12;

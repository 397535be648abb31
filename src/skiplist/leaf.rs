//! A leaf: up to 64 entries as a sorted run and a short unsorted tail that only grows.
//!
//! ```text
//! state {turns 1 0, sorted 4, count 6} | skip | ranks [ 3 1 . . ]
//! hints   [ 2 5 7 9 | 8 3 | . . ]
//! entries [ * * * * | * * | . . ]   one box each
//! ```
//!
//! 1. Places below `count` never change; places from `count` on are read by nobody. A writer
//!    fills the next place and then publishes it by raising `count`.
//! 2. Places below `sorted` ascend by hint, then key.
//! 3. Each place of the tail has a rank: how many of the run lie before it. The turns, published
//!    with the count, give the order of the tail, so that readers merge without comparing.
//! 4. `skip` is at most the number of leading bytes that all keys between the leaf's fences share.
//! 5. An entry in a leaf that can be reached was not retired; so it outlives the reader's guard.
//! 6. A leaf is replaced whole when it or its tail has no room, and only appended to otherwise;
//!    both by the holder of its segment's lock.
//!
//! Used by `content`, `insert`, `sweep`, `cursor` and `check`.

use super::block::{Block, Front};
use super::hint::Probe;
use super::order::{Order, TAIL_MAX, Turns};
use super::prefetch::prefetch;
use super::run::{Item, Run, precedes};
use super::shape::Entry;
use crate::sync::{AtomicU64, Ordering, UnsafeCell, load_owned};
use std::borrow::Borrow;
use std::ptr::NonNull;

/// The header of a leaf.
pub(super) struct Head {
    /// Turns in the upper half, then `sorted`, then `count`.
    state: AtomicU64,
    skip: UnsafeCell<usize>,
    ranks: [UnsafeCell<u8>; TAIL_MAX],
}

/// What a pointer to a leaf points to.
pub(super) type RawLeaf = Front<Head>;

/// How much of a leaf is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    turns: Turns,
    pub(super) sorted: usize,
    pub(super) count: usize,
}

impl State {
    #[inline]
    const fn unpack(raw: u64) -> Self {
        Self {
            turns: Turns((raw >> 32) as u32),
            sorted: (raw >> 16 & 0xffff) as usize,
            count: (raw & 0xffff) as usize,
        }
    }

    #[inline]
    fn pack(self) -> u64 {
        let part = |number| u64::from(u16::try_from(number).expect("a leaf is far smaller"));
        u64::from(self.turns.0) << 32 | part(self.sorted) << 16 | part(self.count)
    }

    /// Whether the run goes on with a newcomer.
    fn extends_run(self, gap: Gap) -> bool {
        self.sorted == self.count && gap.rank == self.sorted
    }
}

/// Where a newcomer belongs in a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// How many of the run lie before it.
    rank: usize,
    /// How many of the tail lie before it.
    turn: usize,
}

impl Gap {
    /// How many of the leaf lie before it.
    pub(super) fn at(self) -> usize {
        self.rank + self.turn
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
        let state = AtomicU64::new(State { turns: Turns(0), sorted: count, count }.pack());
        let ranks = std::array::from_fn(|_| UnsafeCell::new(0));
        let head = Head { state, skip: UnsafeCell::new(skip), ranks };
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
        // SAFETY: invariant 5, kept by `sweep`, which retires what it takes out.
        unsafe { Item::new(self.hint(index), self.raw(index)) }
    }

    /// The entry with the probe's key, or how many of the run lie before the probe.
    #[inline]
    pub(super) fn find<Q>(
        self,
        state: State,
        probe: &Probe<'_, E::Key, Q>,
    ) -> Result<Item<'g, E>, usize>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let skip = self.skip();
        let State { sorted, count, .. } = state;
        let key_at = |index| self.item(index).key();
        let found = probe.search(sorted, skip, |index| self.hint(index), key_at).or_else(|rank| {
            let hint = probe.hint(skip);
            let in_tail = (sorted..count).find(|&index| {
                (!probe.is_hinted() || self.hint(index) == hint)
                    && (probe.is_exact() || probe.compare(key_at(index)).is_eq())
            });
            in_tail.ok_or(rank)
        });
        found.map(|index| self.item(index))
    }

    /// Whether the leaf is a run of so many entries and no tail. For the lock's holder.
    pub(super) fn is_run(self, entries: usize) -> bool {
        let State { sorted, count, .. } = self.state_owned();
        sorted == count && count == entries
    }

    /// The last entry of a leaf without a tail.
    #[inline]
    pub(super) fn last_of_run(self, state: State) -> Option<Item<'g, E>> {
        let last = state.sorted.checked_sub(1)?;
        (state.sorted == state.count).then(|| self.item(last))
    }

    /// The rank of a place of the tail, given by its number.
    #[inline]
    fn rank(self, number: usize) -> usize {
        let rank = self.0.header().ranks.get(number).expect("a tail is short");
        // SAFETY: callers stay below a `count` that they loaded: invariant 1.
        usize::from(rank.with(|rank| unsafe { *rank }))
    }

    /// Notes the rank of a place of the tail that is not published yet.
    fn note_rank(self, number: usize, rank: usize) {
        let place = self.0.header().ranks.get(number).expect("a tail is short");
        let rank = u8::try_from(rank).expect("a leaf is far smaller");
        // SAFETY: as for the place itself in `append`.
        place.with_mut(|place| unsafe { *place = rank });
    }

    /// Where an item belongs, of which `find` gave the rank. Runs the keys' `Ord`.
    pub(super) fn gap(self, state: State, item: Item<'_, E>, rank: usize) -> Gap {
        let State { turns, sorted, count } = state;
        let is_after = |turn: &usize| !precedes(item, self.item(sorted + turns.get(*turn)));
        let turn = (0..count - sorted).take_while(is_after).count();
        Gap { rank, turn }
    }

    /// Whether a newcomer finds a place, for the holder of the segment's lock.
    pub(super) fn has_room(self, state: State, gap: Gap) -> bool {
        let State { sorted, count, .. } = state;
        count < self.capacity() && (count - sorted < TAIL_MAX || state.extends_run(gap))
    }

    /// Fills the next place and publishes it. The caller holds the segment's lock and has seen
    /// that there is room.
    pub(super) fn append(self, state: State, item: Item<'_, E>, gap: Gap) {
        assert!(self.has_room(state, gap), "only a leaf with room is appended to");
        let State { turns, sorted, count } = state;
        // SAFETY: invariant 1: nobody reads this place yet, and the lock keeps writers out.
        self.0.first(count).with_mut(|hint| unsafe { *hint = item.hint });
        // SAFETY: as for the hint.
        self.0.second(count).with_mut(|raw| unsafe { *raw = item.raw() });
        let state = if state.extends_run(gap) {
            State { turns, sorted: sorted + 1, count: count + 1 }
        } else {
            self.note_rank(count - sorted, gap.rank);
            State { turns: turns.with(gap.turn, count - sorted), sorted, count: count + 1 }
        };
        // Release: partner of the acquire in `state`; the place is filled.
        self.0.header().state.store(state.pack(), Ordering::Release);
    }

    /// The order of the leaf's places. Runs no code of the user.
    #[inline]
    pub(super) fn read_order(self, state: State, order: &mut Order) {
        let State { turns, sorted, count } = state;
        let numbers = (0..count - sorted).map(|turn| turns.get(turn));
        order.merge(sorted, numbers.map(|number| (self.rank(number), number)));
    }

    /// Puts the leaf's entries into a run, in order.
    #[inline]
    pub(super) fn read_into(self, state: State, run: &mut Run<'g, E>) {
        let mut order = Order::new();
        self.read_order(state, &mut order);
        run.refill(order.range(0..order.len()).iter().map(|place| self.item(usize::from(*place))));
    }

    /// Asks for the line to be brought near that says how much of the leaf is filled.
    #[inline]
    pub(super) fn prefetch_head(self) {
        prefetch(self.0.as_non_null().cast::<u8>(), 0);
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

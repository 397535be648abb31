//! Insertion: append to a leaf, rebuild it, split it, split its segment; whichever is enough.
//!
//! ```text
//! room in the tail     state                                       one store
//! room in a new leaf   slot    -> merged leaf
//! leaf full            content -> [.. left, right ..]
//! content full         hint, next -> new segment with the upper half; content -> lower half
//! ```
//!
//! 1. The locked part first plans: it searches, merges and clones, which runs the user's code.
//!    Then it stores, which does not. A panic while planning leaves everything as it was. A panic
//!    while a new segment gets its express links leaves the entry in, and searches longer.
//! 2. A new segment is reachable before its keys leave the old one.
//!
//! Used by `mod` only.

use super::content::{Content, Seed};
use super::hint::{Class, Probe, class, hint, shared};
use super::leaf::{Leaf, State};
use super::list::{Occupied, SkipList};
use super::run::{Item, Run};
use super::search::Absent;
use super::segment::Segment;
use super::shape::{Entry, Shape};
use crate::epoch::Guard;
use crate::slab::Boxed;
use crate::sync::MutexGuard;
use std::ptr::NonNull;

/// A new entry outside of the index; it goes back into its box unless it was linked.
struct Pending<E>(NonNull<E>);

impl<E: Entry> Pending<E> {
    fn new(entry: Boxed<E>) -> Self {
        Self(Boxed::leak(entry))
    }

    fn entry(&self) -> &E {
        // SAFETY: it came from a box, which `into_box` or `linked` gives on only once.
        unsafe { self.0.as_ref() }
    }

    fn item(&self, skip: usize) -> Item<'_, E> {
        // SAFETY: as in `entry`; items of this lifetime are used up before the box is dropped.
        unsafe { Item::new(hint(self.entry().key(), skip), self.0) }
    }

    fn into_box(self) -> Boxed<E> {
        let raw = self.linked();
        // SAFETY: it came from a box and was not linked.
        unsafe { Boxed::from_raw(raw) }
    }

    /// The index owns the entry from now on.
    fn linked(self) -> NonNull<E> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl<E> Drop for Pending<E> {
    fn drop(&mut self) {
        // SAFETY: it came from a box and was not linked, or `linked` would have forgotten this.
        drop(unsafe { Boxed::from_raw(self.0) });
    }
}

/// What the locked part of an insertion came to.
enum Outcome<'g, E: Entry, S: Shape> {
    /// The entry is in.
    Done,
    /// The entry is in, and this segment is new and wants express links at so many levels.
    Grown(NonNull<Segment<E, S>>, usize),
    /// There is a living entry with this key.
    Taken(&'g E),
}

/// A leaf of a locked segment, and the fences of the two.
struct Spot<'g, E: Entry, S: Shape> {
    segment: &'g Segment<E, S>,
    content: Content<'g, E>,
    child: usize,
    leaf: Leaf<'g, E>,
    /// The key at which the next segment begins.
    end: Option<&'g E::Key>,
}

impl<'g, E: Entry, S: Shape> Spot<'g, E, S> {
    /// The leaf's own fences.
    fn fences(&self) -> (Option<&'g E::Key>, Option<&'g E::Key>) {
        fences(self.segment, self.content, self.child, self.end)
    }
}

impl<E: Entry, S: Shape> Absent<'_, E, S> {
    /// Whether the key is still absent where it was looked for, as the holder of the lock of the
    /// segment with this content sees it: nothing was replaced and nothing was added. (The guard
    /// keeps what was seen from being freed, so the same address is the same thing.)
    fn holds_in(&self, content: Content<'_, E>) -> bool {
        self.content.as_raw() == content.as_raw()
            && content.leaf_owned(self.child).as_raw() == self.leaf.as_raw()
            && self.leaf.state_owned() == self.state
    }
}

/// Between which keys the keys of a child lie.
pub(super) fn fences<'g, E: Entry, S: Shape>(
    segment: &'g Segment<E, S>,
    content: Content<'g, E>,
    child: usize,
    end: Option<&'g E::Key>,
) -> (Option<&'g E::Key>, Option<&'g E::Key>) {
    let low = if child == 0 { segment.low() } else { content.separator(child) };
    let high = if child + 1 == content.len() { end } else { content.separator(child + 1) };
    (low, high)
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// Adds an entry, unless a living one has its key.
    pub(crate) fn insert<'g>(
        &'g self,
        entry: Boxed<E>,
        guard: &'g Guard<'_>,
    ) -> Result<&'g E, Occupied<'g, E>> {
        let pending = Pending::new(entry);
        let grown = match self.place(&pending, guard) {
            Outcome::Taken(found) => return Err(Occupied { entry: pending.into_box(), found }),
            Outcome::Grown(segment, levels) => Some((segment, levels)),
            Outcome::Done => None,
        };
        let raw = pending.linked();
        if let Some((segment, levels)) = grown {
            self.link_express(segment, levels, guard);
        }
        // SAFETY: linked, so that it is freed through the epoch that the guard pins, or together
        // with the list, which is borrowed as long.
        Ok(unsafe { raw.as_ref() })
    }

    /// Links a pending entry, or finds the living one that has its key.
    fn place<'g>(&'g self, pending: &Pending<E>, guard: &'g Guard<'_>) -> Outcome<'g, E, S> {
        let probe = Probe::<E::Key, E::Key>::new(pending.entry().key());
        let beyond = self.beyond_all(&probe, guard);
        let seen = beyond.map_or_else(|| self.locate(&probe, |absent| absent, guard), Err);
        let (mut segment, absent) = match seen {
            Ok(found) if !found.is_dead() => return Outcome::Taken(found),
            Ok(_) => (self.descend(&probe, true, guard), None),
            Err(absent) => (absent.segment, Some(absent)),
        };
        loop {
            let lock = segment.lock();
            if segment.is_dead_owned() {
                drop(lock);
                segment = self.descend(&probe, true, guard);
                continue;
            }
            let next = segment.link(0).next_owned(guard);
            if let Some(right) = next.filter(|next| next.begins_before(&probe, true)) {
                drop(lock);
                segment = right;
                continue;
            }
            let end = next.and_then(Segment::low);
            let content = segment.content_owned(guard);
            let still = absent.filter(|absent| absent.holds_in(content));
            let child =
                still.as_ref().map_or_else(|| content.child_of(&probe, true), |it| it.child);
            let leaf = content.leaf_owned(child);
            let found = match still {
                Some(absent) => Err(absent.rank),
                None => leaf.find(leaf.state_owned(), &probe).map(Item::entry),
            };
            let spot = Spot { segment, content, child, leaf, end };
            return self.place_locked(&spot, found, pending, &lock, guard);
        }
    }

    /// Puts a pending entry where `found` says: in place of a dead one, or at a rank.
    fn place_locked<'g>(
        &'g self,
        spot: &Spot<'g, E, S>,
        found: Result<&'g E, usize>,
        pending: &Pending<E>,
        _lock: &MutexGuard<'_, ()>,
        guard: &'g Guard<'_>,
    ) -> Outcome<'g, E, S> {
        let leaf = spot.leaf;
        let state = leaf.state_owned();
        let item = pending.item(leaf.skip());
        // Entries with the lifetime of the guard and the new one share a run.
        // SAFETY: as in `Pending::item`; the run is gone before `pending` is.
        let item = unsafe { Item::new(item.hint, item.raw()) };
        let mut run = Run::new();
        let rank = match found {
            Ok(alive) if !alive.is_dead() => return Outcome::Taken(alive),
            // It is still here only if a sweep was cut short by a panic.
            Ok(dead) => {
                leaf.read_into(state, &mut run);
                run.replace(dead, item);
                Self::rebuild(spot, &run, 0, guard);
                retire_entry(leaf, state, dead, guard);
                return Outcome::Done;
            }
            Err(rank) => rank,
        };
        let gap = leaf.gap(state, item, rank);
        if leaf.has_room(state, gap) {
            leaf.append(state, item, gap);
            spot.segment.count(|entries| entries + 1);
            return Outcome::Done;
        }
        leaf.read_into(state, &mut run);
        run.insert(gap.at(), item);
        if run.as_slice().len() <= S::LEAF {
            Self::rebuild(spot, &run, 1, guard);
            return Outcome::Done;
        }
        self.split(spot, &run, item, guard)
    }

    /// Puts a leaf with the run's items in the spot, which adds `added` entries.
    fn rebuild(spot: &Spot<'_, E, S>, run: &Run<'_, E>, added: usize, guard: &Guard<'_>) {
        let (low, high) = spot.fences();
        let skip = shared(low, high);
        let leaf = build_leaf::<E, S>(run.as_slice(), spot.leaf.skip(), skip, false);
        spot.content.replace_leaf(spot.child, leaf);
        spot.segment.count(|entries| entries + added);
        retire_leaf(spot.leaf, guard);
    }

    /// Splits the leaf, and the segment if it is full too.
    fn split(
        &self,
        spot: &Spot<'_, E, S>,
        run: &Run<'_, E>,
        new: Item<'_, E>,
        guard: &Guard<'_>,
    ) -> Outcome<'static, E, S> {
        let &Spot { segment, content, child, leaf, end } = spot;
        let items = run.as_slice();
        // Keys that arrive in order fill leaves and segments to the brim.
        let is_edge = end.is_none() && child + 1 == content.len();
        let is_last = items.last().is_some_and(|last| last.raw() == new.raw());
        let at_edge = is_edge && is_last;
        let middle = if at_edge { items.len() - 1 } else { items.len() / 2 };
        let (lower, upper) = items.split_at(middle);
        let first = upper.first().expect("a split leaf has at least three entries");
        let separator = Boxed::new(first.key().clone());
        let count = content.len() + 1;
        let cut = (count > S::SEGMENT).then_some(if at_edge { count - 1 } else { count / 2 });
        let low = cut.map(|cut| {
            let splice = |at| if at > child { at - 1 } else { at };
            let key =
                if cut == child + 1 { Some(&*separator) } else { content.separator(splice(cut)) };
            key.expect("only the first child has no separator").clone()
        });

        // From here on nothing of the user's runs.
        let (left_low, right_high) = spot.fences();
        let old_skip = leaf.skip();
        let left_skip = shared(left_low, Some(&*separator));
        // Keys that arrive in order leave a full leaf as it should stay.
        let stays = at_edge && leaf.is_run(lower.len()) && left_skip == old_skip;
        let left = if stays { leaf } else { build_leaf::<E, S>(lower, old_skip, left_skip, false) };
        let right_skip = shared(Some(&*separator), right_high);
        let right = build_leaf::<E, S>(upper, old_skip, right_skip, at_edge);
        let separator = Boxed::leak(separator).as_ptr();
        let seed = |at: usize, skip: usize| match at {
            at if at == child => Seed { leaf: left.as_raw(), ..content.seed(child, skip) },
            at if at == child + 1 => Seed { leaf: right.as_raw(), separator, hint: None },
            at if at > child => content.seed(at - 1, skip),
            at => content.seed(at, skip),
        };
        let outcome = if let (Some(cut), Some(low)) = (cut, low) {
            self.split_segment(spot, count, cut, low, seed)
        } else {
            let skip = shared(segment.low(), end);
            segment.publish(Content::<E>::build(count, skip, |at| seed(at, skip)));
            segment.count(|entries| entries + 1);
            Outcome::Done
        };
        if !stays {
            retire_leaf(leaf, guard);
        }
        retire_content(content, guard);
        outcome
    }

    /// Moves the children from `cut` on into a new segment. `seed` gives the children as they are
    /// after the split of a leaf.
    fn split_segment(
        &self,
        spot: &Spot<'_, E, S>,
        count: usize,
        cut: usize,
        low: E::Key,
        seed: impl Fn(usize, usize) -> Seed<E::Key>,
    ) -> Outcome<'static, E, S> {
        let &Spot { segment, end, .. } = spot;
        let skip = shared(segment.low(), Some(&low));
        let lower = Content::<E>::build(cut, skip, |at| seed(at, skip));
        let skip = shared(Some(&low), end);
        let upper = Content::<E>::build(count - cut, skip, |at| seed(at + cut, skip));
        let entries = |content: Content<'_, E>| {
            (0..content.len()).map(|child| content.leaf_owned(child).state_owned().count).sum()
        };
        let born = Box::new(Segment::<E, S>::new(Some(low), upper, entries(upper)));
        born.link(0).copy_from(segment.link(0));
        let low_hint = born.low_hint();
        let born = NonNull::from(Box::leak(born));
        // Keeps 2, and invariant 1 of `search`.
        segment.link(0).link(born, low_hint);
        segment.publish(lower);
        segment.count(|_| entries(lower));
        Outcome::Grown(born, self.draw_levels())
    }
}

/// A leaf of items whose hints are right for `old_skip`, with room for some more.
pub(super) fn build_leaf<'g, E: Entry, S: Shape>(
    items: &[Item<'_, E>],
    old_skip: usize,
    skip: usize,
    at_edge: bool,
) -> Leaf<'g, E> {
    let capacity = if at_edge { S::LEAF } else { (items.len() + S::TAIL).clamp(1, S::LEAF) };
    if class::<E::Key>() != Class::Bytes || skip == old_skip {
        return Leaf::build(items, capacity, skip);
    }
    let mut rehinted = Run::new();
    for item in items {
        rehinted.push(item.rehinted(skip));
    }
    Leaf::build(rehinted.as_slice(), capacity, skip)
}

/// Hands over a leaf that was replaced; its entries live on.
pub(super) fn retire_leaf<E: Entry>(leaf: Leaf<'_, E>, guard: &Guard<'_>) {
    // SAFETY: the caller replaced the leaf under the segment's lock, so no new reader finds it,
    // and only whoever replaces a leaf retires it.
    unsafe { guard.defer(leaf.as_raw().cast(), Leaf::<E>::free_raw, leaf.size()) }
}

/// Hands over a content that was replaced; its leaves and separators live on.
pub(super) fn retire_content<E: Entry>(content: Content<'_, E>, guard: &Guard<'_>) {
    // SAFETY: as in `retire_leaf`.
    unsafe { guard.defer(content.as_raw().cast(), Content::<E>::free_raw, content.size()) }
}

/// Hands over a dead entry that was in a leaf which was replaced.
fn retire_entry<E: Entry>(leaf: Leaf<'_, E>, state: State, dead: &E, guard: &Guard<'_>) {
    let item =
        (0..state.count).map(|at| leaf.item(at)).find(|item| std::ptr::eq(item.entry(), dead));
    if let Some(item) = item {
        // SAFETY: the new leaf lacks the entry, and the lock's holder alone retires it. It came
        // from a box in `insert`.
        unsafe { guard.retire_box(item.raw().as_ptr(), size_of::<E>()) }
    }
}

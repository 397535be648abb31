//! Removal: entries leave their leaf, leaves merge, empty segments are unlinked.
//!
//! ```text
//! visit, without a lock      is anything here worth it? (not where the entry is known)
//! kill, under the lock       the entry is dead; then slot -> leaf without it
//! merge                      content -> one child less, if two neighbours fit into half a leaf
//! unlink                     left content -> for the longer stretch; express links; dead; next
//! ```
//!
//! 1. Entries move only inside their segment, never to one further left.
//! 2. Only an empty segment is unlinked, under its lock, its left neighbour's and the structural
//!    mutex. It is dead before level 0 passes it by, so whoever was inside finds out.
//! 3. An entry that is dead is taken out under the same lock under which it was killed, unless
//!    a panic came between; then the next sweep or insertion takes it out.
//! 4. One sweep of a list at a time makes sense; more are safe.
//!
//! Used by `mod` only.

use super::content::{Content, Seed};
use super::hint::{Class, Probe, class, shared};
use super::insert::{build_leaf, fences, retire_content, retire_leaf};
use super::leaf::Leaf;
use super::list::SkipList;
use super::run::{Item, Run};
use super::segment::Segment;
use super::shape::{Entry, Shape};
use crate::epoch::Guard;

/// What a sweep did.
#[derive(Debug)]
pub(crate) struct Sweep<K> {
    /// Entries looked at.
    pub(crate) visited: usize,
    /// Entries removed.
    pub(crate) removed: usize,
    /// Where to go on, unless the end was reached.
    pub(crate) resume: Option<K>,
}

/// A locked segment and what its lock protects.
struct Locked<'g, E: Entry, S: Shape> {
    segment: &'g Segment<E, S>,
    content: Content<'g, E>,
    end: Option<&'g E::Key>,
}

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// Looks at entries from `resume` on until about `budget` were visited.
    ///
    /// `visit` is asked about each living entry, without a lock, and says whether it might go.
    /// `kill` is then asked under the lock of the entry's segment: an answer means that the caller
    /// has made the entry dead, and is how many bytes go with it. It is removed and retired.
    pub(crate) fn sweep(
        &self,
        resume: Option<E::Key>,
        budget: usize,
        mut visit: impl FnMut(&E) -> bool,
        mut kill: impl FnMut(&E) -> Option<usize>,
        guard: &Guard<'_>,
    ) -> Sweep<E::Key> {
        let mut sweep = Sweep { visited: 0, removed: 0, resume: None };
        let mut start = resume;
        let mut segment = match &start {
            Some(key) => self.descend(&Probe::<E::Key, E::Key>::new(key), true, guard),
            None => &*self.head,
        };
        loop {
            let content = segment.content(guard);
            let first = start
                .take()
                .map_or(0, |key| content.child_of(&Probe::<E::Key, E::Key>::new(&key), true));
            for child in first..content.len() {
                let low = fences(segment, content, child, None).0;
                // The first leaf is visited whatever the budget, so that there is progress.
                if sweep.visited >= budget && sweep.visited > 0 {
                    sweep.resume = low.cloned();
                    return sweep;
                }
                let leaf = content.leaf(child, guard);
                let mut is_worth_it = false;
                for place in 0..leaf.state().count {
                    let entry = leaf.item(place).entry();
                    sweep.visited += 1;
                    is_worth_it |= entry.is_dead() || visit(entry);
                }
                if is_worth_it {
                    let mut goes = |entry: &E| {
                        if entry.is_dead() { Some(size_of::<E>()) } else { kill(entry) }
                    };
                    sweep.removed += Self::clear_leaf(segment, low, &mut goes, guard);
                }
            }
            let next = Segment::alive(segment.link(0).next(guard), guard);
            if segment.entries() == 0 {
                self.unlink_empty(segment, guard);
            }
            match next {
                Some(next) => segment = next,
                None => return sweep,
            }
        }
    }

    /// Takes entries out of the leaf in which `key` belongs. `kill` is asked about each entry of
    /// the leaf, as in a sweep; nothing else looks at them, so what it tells by their addresses
    /// costs nothing. Answers how many were removed.
    pub(crate) fn clear(
        &self,
        key: &E::Key,
        mut kill: impl FnMut(&E) -> Option<usize>,
        guard: &Guard<'_>,
    ) -> usize {
        let probe = Probe::<E::Key, E::Key>::new(key);
        let segment = self.descend(&probe, true, guard);
        let removed = Self::clear_leaf(segment, Some(key), &mut kill, guard);
        if segment.entries() == 0 {
            self.unlink_empty(segment, guard);
        }
        removed
    }

    /// Asks for what [`clear`](Self::clear) will look at to be brought near.
    pub(crate) fn prefetch_leaf(&self, key: &E::Key, guard: &Guard<'_>) {
        let probe = Probe::<E::Key, E::Key>::new(key);
        let content = self.descend(&probe, true, guard).content(guard);
        let child = content.child_of(&probe, true);
        content.leaf(child, guard).prefetch_whole();
        let neighbour = if child > 0 { child - 1 } else { 1 };
        if neighbour < content.len() {
            content.leaf(neighbour, guard).prefetch_head();
        }
    }

    /// Takes the entries that `kill` killed out of the leaf in which a key belongs, or the first.
    fn clear_leaf(
        segment: &Segment<E, S>,
        key: Option<&E::Key>,
        kill: &mut impl FnMut(&E) -> Option<usize>,
        guard: &Guard<'_>,
    ) -> usize {
        let lock = segment.lock();
        let probe = key.map(Probe::<E::Key, E::Key>::new);
        let next = segment.link(0).next_owned(guard);
        let has_moved = next.is_some_and(|next| {
            probe.as_ref().is_some_and(|probe| next.begins_before(probe, true))
        });
        // A leaf that was split away meanwhile waits for the next sweep.
        if segment.is_dead_owned() || has_moved {
            return 0;
        }
        let content = segment.content_owned(guard);
        let locked = Locked { segment, content, end: next.and_then(Segment::low) };
        let child = probe.map_or(0, |probe| content.child_of(&probe, true));
        let leaf = content.leaf_owned(child);
        // All comparisons come first: nothing of the user's runs once an entry is dead.
        let mut run = Run::new();
        leaf.read_into(leaf.state_owned(), &mut run);
        let mut killed = Vec::new();
        run.retain(|item| {
            let gone = kill(item.entry());
            killed.extend(gone.map(|bytes| (item, bytes)));
            gone.is_none()
        });
        if killed.is_empty() {
            return 0;
        }
        locked.put(child, run.as_slice(), guard);
        segment.count(|entries| entries - killed.len());
        drop(lock);
        for (item, bytes) in &killed {
            // SAFETY: the leaf that is published now lacks the entry, and it was taken out under
            // the lock, so nobody else retires it. It came from a box in `insert`.
            unsafe { guard.retire_box(item.raw().as_ptr(), *bytes) }
        }
        killed.len()
    }

    /// Takes a segment out of the list if it is empty.
    fn unlink_empty(&self, victim: &Segment<E, S>, guard: &Guard<'_>) {
        let Some(low) = victim.low() else { return };
        let probe = Probe::<E::Key, E::Key>::new(low);
        let mut left = self.descend(&probe, false, guard);
        let left_lock = loop {
            let lock = left.lock();
            let next = left.link(0).next_owned(guard).filter(|_| !left.is_dead_owned());
            let Some(next) = next else { return };
            if std::ptr::eq(next, victim) {
                break lock;
            }
            // Another segment stands between, or the victim is gone, or the order is broken.
            if !next.begins_before(&probe, false) {
                return;
            }
            left = next;
        };
        let victim_lock = victim.lock();
        let content = victim.content_owned(guard);
        if content.len() > 1 || content.leaf_owned(0).state_owned().count > 0 {
            return;
        }
        let end = victim.link(0).next_owned(guard).and_then(Segment::low);
        let longer = Locked { segment: left, content: left.content_owned(guard), end };
        let mut last = Run::new();
        let wants_rebuild = longer.wants_rebuild();
        if wants_rebuild {
            let leaf = longer.content.leaf_owned(longer.content.len() - 1);
            leaf.read_into(leaf.state_owned(), &mut last);
        }
        let structural = self.structural.lock();
        let express = self.express_to(victim, &structural, guard);

        // From here on nothing of the user's runs.
        if wants_rebuild {
            longer.rebuild(last.as_slice(), guard);
        }
        for (level, left) in express {
            left.link(level).unlink(victim.link(level));
        }
        victim.set_express(0);
        self.leave_edge(victim, &structural);
        victim.kill();
        drop(structural);
        let raw = left.link(0).next_raw_owned();
        left.link(0).unlink(victim.link(0));
        drop(victim_lock);
        drop(left_lock);
        let bytes = size_of::<Segment<E, S>>();
        // SAFETY: the victim came from a box in `insert` and is unlinked on all levels (2); its
        // lock and `dead` made sure that only we unlinked it.
        unsafe { guard.defer(raw.cast(), Segment::<E, S>::free_unlinked, bytes) }
    }
}

impl<E: Entry, S: Shape> Locked<'_, E, S> {
    /// Puts what is left of a child in its place, together with a neighbour if both are small.
    fn put(&self, child: usize, kept: &[Item<'_, E>], guard: &Guard<'_>) {
        if self.content.len() == 1 {
            return self.replace(child, kept, guard);
        }
        let pair = child.saturating_sub(1);
        let other = self.content.leaf_owned(if child > 0 { pair } else { 1 });
        let state = other.state_owned();
        // Most neighbours stay what they are, and are not read.
        if kept.len() + state.count > S::LEAF / 2 && !kept.is_empty() && state.count > 0 {
            return self.replace(child, kept, guard);
        }
        let mut neighbour = Run::new();
        other.read_into(state, &mut neighbour);
        let others = neighbour.as_slice();
        let (left, right) = if child > 0 { (others, kept) } else { (kept, others) };
        self.merge(pair, left, right, guard);
    }

    /// Puts a leaf with these items in place of a child.
    fn replace(&self, child: usize, items: &[Item<'_, E>], guard: &Guard<'_>) {
        let (low, high) = fences(self.segment, self.content, child, self.end);
        let old = self.content.leaf_owned(child);
        let leaf = build_leaf::<E, S>(items, old.skip(), shared(low, high), false);
        self.content.replace_leaf(child, leaf);
        retire_leaf(old, guard);
    }

    /// Puts one leaf with these items in place of the child `pair` and the one behind it.
    fn merge(&self, pair: usize, left: &[Item<'_, E>], right: &[Item<'_, E>], guard: &Guard<'_>) {
        let low = fences(self.segment, self.content, pair, self.end).0;
        let high = fences(self.segment, self.content, pair + 1, self.end).1;
        let skip = shared(low, high);
        let mut items = Run::new();
        for item in left.iter().chain(right) {
            items.push(item.rehinted(skip));
        }
        let leaf = build_leaf::<E, S>(items.as_slice(), skip, skip, false);
        let old_leaves = [self.content.leaf_owned(pair), self.content.leaf_owned(pair + 1)];
        let separator = self.content.separator_raw(pair + 1);
        self.publish(self.content.len() - 1, |at, skip| match at {
            at if at == pair => Seed { leaf: leaf.as_raw(), ..self.content.seed(pair, skip) },
            at if at > pair => self.content.seed(at + 1, skip),
            at => self.content.seed(at, skip),
        });
        for leaf in old_leaves {
            retire_leaf(leaf, guard);
        }
        retire_content(self.content, guard);
        if !separator.is_null() {
            // SAFETY: the content published now does not name it, and the one that owned it is
            // retired by us. It came from a box in `insert`.
            unsafe { guard.retire_box(separator, size_of::<E::Key>()) }
        }
    }

    /// Whether the last leaf or the content would skip too much if the segment reached to `end`.
    fn wants_rebuild(&self) -> bool {
        if class::<E::Key>() != Class::Bytes {
            return false;
        }
        let last = self.content.len() - 1;
        let (low, high) = fences(self.segment, self.content, last, self.end);
        self.content.leaf_owned(last).skip() > shared(low, high)
            || self.content.skip() > shared(self.segment.low(), self.end)
    }

    /// Replaces the last leaf and the content by ones that are right up to `end`.
    fn rebuild(&self, items: &[Item<'_, E>], guard: &Guard<'_>) {
        let last = self.content.len() - 1;
        let (low, high) = fences(self.segment, self.content, last, self.end);
        let old: Leaf<'_, E> = self.content.leaf_owned(last);
        let leaf = build_leaf::<E, S>(items, old.skip(), shared(low, high), false);
        self.publish(self.content.len(), |at, skip| match at {
            at if at == last => Seed { leaf: leaf.as_raw(), ..self.content.seed(last, skip) },
            at => self.content.seed(at, skip),
        });
        retire_leaf(old, guard);
        retire_content(self.content, guard);
    }

    fn publish(&self, len: usize, seed: impl Fn(usize, usize) -> Seed<E::Key>) {
        let skip = shared(self.segment.low(), self.end);
        self.segment.publish(Content::<E>::build(len, skip, |at| seed(at, skip)));
    }
}

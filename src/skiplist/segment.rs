//! A segment: one node of the skiplist, a stretch of keys with its content and its links.
//!
//! ```text
//! low | dead | lock | content* | tower[0] {hint, next} | tower[1] | ...
//! ```
//!
//! 1. A segment holds the keys from `low` up to the next segment's `low`. The head has no low.
//! 2. `content`, `entries` and the link at level 0 change only under the segment's lock, `dead`
//!    and the links above only under the list's structural mutex. A segment that dies keeps its
//!    links and its (empty) content for those who are still inside.
//! 3. The hint at level 0 is never above the hint of the next segment's low key: it is lowered
//!    before a segment is linked and raised after one was unlinked. Above level 0 hints are only
//!    a filter, and whoever follows a link looks at the key.
//!
//! Used by the rest of `skiplist`.

use super::content::{Content, RawContent};
use super::hint::{Probe, hint};
use super::leaf::Leaf;
use super::shape::{Entry, Shape, Tower};
use crate::epoch::Guard;
use crate::slab::Boxed;
use crate::sync::load_owned;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use std::borrow::Borrow;
use std::ptr::NonNull;

/// A link to the next segment on one level.
pub(super) struct Link<E: Entry, S: Shape> {
    hint: AtomicU64,
    next: AtomicPtr<Segment<E, S>>,
}

/// A node of the skiplist.
#[repr(C, align(64))]
pub(super) struct Segment<E: Entry, S: Shape> {
    dead: AtomicBool,
    lock: Mutex<()>,
    content: AtomicPtr<RawContent>,
    low: Option<E::Key>,
    tower: S::Tower<Link<E, S>>,
    /// Levels above 0 at which the segment is linked; the structural mutex guards it.
    express: AtomicUsize,
    /// Entries in all leaves.
    entries: AtomicUsize,
}

impl<E: Entry, S: Shape> Link<E, S> {
    fn new() -> Self {
        Self { hint: AtomicU64::new(u64::MAX), next: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The hint, for links above level 0.
    #[inline]
    fn filter(&self) -> u64 {
        // Relaxed: a wrong filter costs a step; invariant 3.
        self.hint.load(Ordering::Relaxed)
    }

    /// The hint at level 0.
    #[inline]
    fn bound(&self) -> u64 {
        // Acquire: partner of the releases in `link` and `unlink`, so that `next` is read after.
        self.hint.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn next<'g>(&self, _guard: &'g Guard<'_>) -> Option<&'g Segment<E, S>> {
        // Acquire: partner of the releases in `link` and `unlink`; the segment is built.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: a linked segment is retired only after it was unlinked on every level, through
        // the collector that the guard pins.
        unsafe { next.as_ref() }
    }

    /// The next segment, for whoever holds the lock that guards this link.
    pub(super) fn next_owned<'g>(&self, _guard: &'g Guard<'_>) -> Option<&'g Segment<E, S>> {
        let next = load_owned!(self.next);
        // SAFETY: as in `next`.
        unsafe { next.as_ref() }
    }

    /// The next segment's box, for whoever holds the lock that guards this link.
    pub(super) fn next_raw_owned(&self) -> *mut Segment<E, S> {
        load_owned!(self.next)
    }

    /// Makes this link, of a segment that nobody can reach yet at this level, a copy of another.
    pub(super) fn copy_from(&self, other: &Self) {
        // Relaxed: the link that makes this segment reachable releases both.
        self.hint.store(load_owned!(other.hint), Ordering::Relaxed);
        // Relaxed: as for the hint.
        self.next.store(load_owned!(other.next), Ordering::Relaxed);
    }

    /// Puts a segment behind this link. The caller holds the lock that guards the link.
    pub(super) fn link(&self, segment: NonNull<Segment<E, S>>, low: u64) {
        // Release: partner of the acquire in `bound`. Before `next`: invariant 3.
        self.hint.store(low, Ordering::Release);
        // Release: partner of the acquire in `next`; the segment is built.
        self.next.store(segment.as_ptr(), Ordering::Release);
    }

    /// Takes the next segment out, whose link on this level is `gone`. The caller holds the lock
    /// that guards this link.
    pub(super) fn unlink(&self, gone: &Self) {
        // Release: partner of the acquire in `next`.
        self.next.store(load_owned!(gone.next), Ordering::Release);
        // Release: partner of the acquire in `bound`. After `next`: invariant 3.
        self.hint.store(load_owned!(gone.hint), Ordering::Release);
    }

    /// The hint, for `check`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn hint_owned(&self) -> u64 {
        load_owned!(self.hint)
    }
}

impl<E: Entry, S: Shape> Segment<E, S> {
    pub(super) fn new(low: Option<E::Key>, content: Content<'_, E>, entries: usize) -> Self {
        Self {
            dead: AtomicBool::new(false),
            lock: Mutex::new(()),
            content: AtomicPtr::new(content.as_raw()),
            low,
            tower: S::Tower::make(Link::new),
            express: AtomicUsize::new(0),
            entries: AtomicUsize::new(entries),
        }
    }

    #[inline]
    pub(super) fn low(&self) -> Option<&E::Key> {
        self.low.as_ref()
    }

    /// The hint of the low key; the head's is zero.
    pub(super) fn low_hint(&self) -> u64 {
        self.low.as_ref().map_or(0, |low| hint(low, 0))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock()
    }

    #[inline]
    pub(super) fn link(&self, level: usize) -> &Link<E, S> {
        self.tower.levels().get(level).expect("levels stay below the tower's height")
    }

    pub(super) fn tower(&self) -> &S::Tower<Link<E, S>> {
        &self.tower
    }

    #[inline]
    pub(super) fn is_dead(&self) -> bool {
        // Acquire: partner of the release in `kill`.
        self.dead.load(Ordering::Acquire)
    }

    /// Marks the segment as unlinked. The caller holds its lock, its left neighbour's and the
    /// structural mutex, and the segment is empty and unlinked above level 0.
    pub(super) fn kill(&self) {
        // Release: partner of the acquire in `is_dead`.
        self.dead.store(true, Ordering::Release);
    }

    /// Whether the segment died, for the holder of its lock.
    pub(super) fn is_dead_owned(&self) -> bool {
        load_owned!(self.dead)
    }

    #[inline]
    pub(super) fn content<'g>(&self, _guard: &'g Guard<'_>) -> Content<'g, E> {
        // Acquire: partner of the release in `publish`, and of the one that linked the segment.
        Self::handle(self.content.load(Ordering::Acquire))
    }

    /// The content, for the holder of the lock.
    pub(super) fn content_owned<'g>(&self, _guard: &'g Guard<'_>) -> Content<'g, E> {
        Self::handle(load_owned!(self.content))
    }

    #[inline]
    fn handle<'g>(raw: *mut RawContent) -> Content<'g, E> {
        let raw = NonNull::new(raw).expect("a segment always has a content");
        // SAFETY: the only pointers stored are from `Content::as_raw`; a replaced content is
        // retired through the collector that the caller's guard pins.
        unsafe { Content::from_raw(raw) }
    }

    /// Replaces the content. The caller holds the lock and retires the old one.
    pub(super) fn publish(&self, content: Content<'_, E>) {
        // Release: partner of the acquire in `content`.
        self.content.store(content.as_raw(), Ordering::Release);
    }

    /// The next segment, if the probe's key belongs there or further on. Dead ones are passed.
    ///
    /// A reader calls it after it has read the content: a split moves keys to the right before it
    /// takes them out of here.
    #[inline]
    pub(super) fn right_for<'g, Q>(
        &self,
        probe: &Probe<'_, E::Key, Q>,
        or_equal: bool,
        guard: &'g Guard<'_>,
    ) -> Option<&'g Self>
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let link = self.link(0);
        if probe.is_hinted() && link.bound() > probe.hint(0) {
            return None;
        }
        let next = Self::alive(link.next(guard), guard)?;
        next.begins_before(probe, or_equal).then_some(next)
    }

    /// The first segment from `segment` on that is not dead.
    #[inline]
    pub(super) fn alive<'g>(
        mut segment: Option<&'g Self>,
        guard: &'g Guard<'_>,
    ) -> Option<&'g Self> {
        while let Some(dead) = segment.filter(|segment| segment.is_dead()) {
            segment = dead.link(0).next(guard);
        }
        segment
    }

    /// Whether the low key lies before the probe, or at it if `or_equal`.
    #[inline]
    pub(super) fn begins_before<Q>(&self, probe: &Probe<'_, E::Key, Q>, or_equal: bool) -> bool
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.low.as_ref().is_none_or(|low| probe.is_after(low, or_equal))
    }

    /// Whether a link says already that its segment begins after the probe.
    #[inline]
    pub(super) fn is_filtered<Q>(&self, level: usize, probe: &Probe<'_, E::Key, Q>) -> bool
    where
        E::Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        probe.is_hinted() && self.link(level).filter() > probe.hint(0)
    }

    /// How many entries there are, as of a moment ago.
    pub(super) fn entries(&self) -> usize {
        // Relaxed: a statistic.
        self.entries.load(Ordering::Relaxed)
    }

    /// Counts entries that came or went. The caller holds the lock.
    pub(super) fn count(&self, change: impl FnOnce(usize) -> usize) {
        // Relaxed: a statistic.
        self.entries.store(change(load_owned!(self.entries)), Ordering::Relaxed);
    }

    /// Levels above 0 at which the segment is linked. The caller holds the structural mutex.
    pub(super) fn express_owned(&self) -> usize {
        load_owned!(self.express)
    }

    /// The caller holds the structural mutex and has linked the segment at these levels.
    pub(super) fn set_express(&self, levels: usize) {
        // Relaxed: the structural mutex orders it.
        self.express.store(levels, Ordering::Relaxed);
    }

    /// Frees the content, leaves and separators, and the entries if asked.
    ///
    /// # Safety
    /// Nobody uses anything in the segment any more, and the segment itself is only dropped.
    unsafe fn clear(&mut self, with_entries: bool) {
        let content: Content<'_, E> = Self::handle(load_owned!(self.content));
        // User code runs when these are dropped, each of them whether or not another one panics.
        let (mut entries, mut separators) = (Vec::new(), Vec::new());
        for index in 0..content.len() {
            let leaf = content.leaf_owned(index);
            let places = if with_entries { leaf.state_owned().count } else { 0 };
            for place in 0..places {
                let raw = leaf.item(place).raw();
                // SAFETY: an entry is in one leaf only, came from a box, and is nobody else's.
                entries.push(unsafe { Boxed::from_raw(raw) });
            }
            // SAFETY: the caller's promise; each leaf is met once.
            unsafe { Leaf::<E>::free_raw(leaf.as_raw().cast()) };
            if let Some(separator) = NonNull::new(content.separator_raw(index)) {
                // SAFETY: the newest content owns its separators, which came from boxes.
                separators.push(unsafe { Boxed::from_raw(separator) });
            }
        }
        // SAFETY: the caller's promise.
        unsafe { Content::<E>::free_raw(content.as_raw().cast()) };
    }

    /// Frees a segment that was unlinked, and so is empty.
    ///
    /// # Safety
    /// `raw` came from a box of a segment of this type, and nobody uses the segment any more.
    pub(super) unsafe fn free_unlinked(raw: *mut u8) {
        // SAFETY: the caller's promise.
        let mut segment = unsafe { Box::from_raw(raw.cast::<Self>()) };
        // SAFETY: the caller's promise.
        unsafe { segment.clear(false) }
    }

    /// Frees all that is in this head and in the segments behind it, entries included.
    ///
    /// # Safety
    /// Nobody uses the list any more; the head is only dropped.
    pub(super) unsafe fn free_chain(&mut self) {
        struct Chain<E: Entry, S: Shape>(*mut Segment<E, S>);
        impl<E: Entry, S: Shape> Chain<E, S> {
            fn run(&mut self) {
                while let Some(raw) = NonNull::new(self.0) {
                    // SAFETY: linked segments came from boxes, and the list is nobody else's.
                    let mut segment = unsafe { Box::from_raw(raw.as_ptr()) };
                    self.0 = load_owned!(segment.link(0).next);
                    // SAFETY: as above.
                    unsafe { segment.clear(true) }
                }
            }
        }
        impl<E: Entry, S: Shape> Drop for Chain<E, S> {
            /// Goes on behind a segment in which a destructor panicked.
            fn drop(&mut self) {
                self.run();
            }
        }
        let mut chain = Chain(load_owned!(self.link(0).next));
        // SAFETY: the caller's promise.
        unsafe { self.clear(true) }
        chain.run();
    }
}

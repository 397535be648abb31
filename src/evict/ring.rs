//! A queue of slots in segments: it grows and shrinks by a kilobyte at a time.
//!
//! ```text
//! front  [x y z ..] [.. 128 ..] [.. 128 ..] [a b c ]  back
//!                        ^ cursor of the purge
//! ```
//!
//! 1. `len` and `weight` are the sums over all slots.
//! 2. A purge keeps the order of what stays.
//!
//! Used under a shard's lock.

use super::resident::{Resident, Slot};
use std::collections::VecDeque;

/// Slots of a full segment.
const SEGMENT: usize = 128;
/// An empty segment up to this size is kept for the next slot.
const KEPT: usize = 8;
/// So far ahead of the front residents are brought near.
const AHEAD: usize = 6;
/// How often a random place is looked for.
const TRIES: usize = 64;

#[derive(Debug)]
pub(super) struct Ring<R> {
    segments: VecDeque<VecDeque<Slot<R>>>,
    len: usize,
    weight: u64,
    /// Where the purge goes on; a segment.
    cursor: usize,
}

impl<R> Default for Ring<R> {
    fn default() -> Self {
        Self { segments: VecDeque::new(), len: 0, weight: 0, cursor: 0 }
    }
}

impl<R> Ring<R> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn push_back(&mut self, slot: Slot<R>) {
        self.len += 1;
        self.weight += slot.weight;
        let first = self.segments.is_empty();
        if let Some(last) = self.segments.back_mut().filter(|last| last.len() < SEGMENT) {
            last.push_back(slot);
            return;
        }
        let mut segment = VecDeque::with_capacity(if first { KEPT } else { SEGMENT });
        segment.push_back(slot);
        self.segments.push_back(segment);
    }

    pub(super) fn push_front(&mut self, slot: Slot<R>) {
        self.len += 1;
        self.weight += slot.weight;
        if let Some(first) = self.segments.front_mut().filter(|first| first.len() < SEGMENT) {
            first.push_front(slot);
            return;
        }
        let mut segment = VecDeque::with_capacity(KEPT);
        segment.push_front(slot);
        self.segments.push_front(segment);
        self.cursor += usize::from(self.cursor > 0);
    }

    /// The slot that so many others precede, if they are in one segment.
    pub(super) fn get(&self, at: usize) -> Option<&Slot<R>> {
        self.segments.front()?.get(at)
    }

    pub(super) fn pop_back(&mut self) -> Option<Slot<R>> {
        while self.len > 0 {
            let last = self.segments.back_mut()?;
            let slot = last.pop_back();
            if last.is_empty() && self.may_drop_segment() {
                self.segments.pop_back();
            }
            if let Some(slot) = slot {
                self.take_off(&slot);
                return Some(slot);
            }
        }
        None
    }

    /// Not if a small one is all there is: the next slot goes there. Otherwise gives back room for
    /// segments, as long as it is much more than is needed.
    fn may_drop_segment(&mut self) -> bool {
        let count = self.segments.len();
        if count * 4 < self.segments.capacity() {
            self.segments.shrink_to(count * 2);
        }
        count > 1 || self.segments.front().is_some_and(|only| only.capacity() > KEPT)
    }

    /// Puts all slots of another ring behind those of this one.
    pub(super) fn append(&mut self, mut other: Self) {
        self.len += other.len;
        self.weight += other.weight;
        self.segments.append(&mut other.segments);
    }

    fn take_off(&mut self, slot: &Slot<R>) {
        self.len -= 1;
        self.weight -= slot.weight;
    }

    /// Bytes behind the ring, at most.
    pub(super) fn bytes(&self) -> usize {
        let slots = match self.segments.len() {
            0 => 0,
            1 => self.segments.front().map_or(0, VecDeque::capacity),
            segments => segments * SEGMENT,
        };
        slots * size_of::<Slot<R>>() + self.segments.capacity() * size_of::<VecDeque<Slot<R>>>()
    }
}

impl<R: Resident> Ring<R> {
    /// Takes a slot out of the middle, each with the same chance, and puts the last one in its
    /// place. `pick` gives random numbers below its argument.
    pub(super) fn swap_remove(&mut self, mut pick: impl FnMut(usize) -> usize) -> Option<Slot<R>> {
        for _ in 0..TRIES {
            let count = self.segments.len();
            let segment = pick(count.max(1));
            let first_len = self.segments.front().map_or(0, VecDeque::len);
            let at = pick(if count == 1 { first_len } else { SEGMENT }.max(1));
            if self.segments.get(segment).is_some_and(|segment| at < segment.len()) {
                let last = self.pop_back()?;
                let place = self.segments.get_mut(segment).and_then(|segment| segment.get_mut(at));
                // No place: the last slot was picked.
                let Some(place) = place else { return Some(last) };
                // The last one stays, so its weight is put back, and the taken one's comes off.
                self.len += 1;
                self.weight += last.weight;
                let taken = std::mem::replace(place, last);
                self.take_off(&taken);
                return Some(taken);
            }
        }
        self.pop_front()
    }

    pub(super) fn pop_front(&mut self) -> Option<Slot<R>> {
        while self.len > 0 {
            let first = self.segments.front_mut()?;
            let slot = first.pop_front();
            // Whoever takes one looks behind it, and comes for the next ones soon.
            if let Some(ahead) = first.get(AHEAD) {
                ahead.resident.prefetch();
            }
            if first.is_empty() && self.may_drop_segment() {
                self.segments.pop_front();
                self.cursor = self.cursor.saturating_sub(1);
            }
            if let Some(slot) = slot {
                self.take_off(&slot);
                return Some(slot);
            }
        }
        None
    }

    /// Moves entries that are gone to `gone`, looks at about as many slots as `budget` allows and
    /// takes them off it. True when the end was reached; the next call begins at the front.
    pub(super) fn purge(&mut self, budget: &mut usize, gone: &mut Vec<R>) -> bool {
        let mut kept = None;
        while let Some(mut segment) = self.segments.get_mut(self.cursor).map(std::mem::take) {
            if *budget == 0 {
                self.put_back(self.cursor, segment);
                return false;
            }
            *budget = budget.saturating_sub(segment.len().max(1));
            segment.retain(|slot| {
                let stays = slot.resident.heat().is_some();
                if !stays {
                    gone.push(slot.resident);
                    self.len -= 1;
                    self.weight -= slot.weight;
                }
                stays
            });
            let before = kept.and_then(|kept| self.segments.get_mut(kept));
            match before.filter(|before| before.len() + segment.len() <= SEGMENT) {
                Some(before) => before.append(&mut segment),
                None if segment.is_empty() => {}
                None => {
                    kept = Some(self.cursor);
                    self.put_back(self.cursor, segment);
                }
            }
            self.cursor += 1;
        }
        self.segments.retain(|segment| !segment.is_empty());
        self.segments.shrink_to(self.segments.len() * 2);
        self.cursor = 0;
        true
    }

    fn put_back(&mut self, at: usize, segment: VecDeque<Slot<R>>) {
        if let Some(place) = self.segments.get_mut(at) {
            *place = segment;
        }
    }
}

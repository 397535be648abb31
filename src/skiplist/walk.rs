//! Taking entries from a cursor: one by one from either end, or a stretch at a time.
//!
//! 1. Whatever is given out becomes the limit of the other end before the cursor is used again.
//! 2. While a leaf is given out, entries further on are asked for: its own, and at its end the
//!    first ones of the next leaf, which was asked for when this one began. What is asked for in
//!    vain costs nothing else.
//!
//! Used by `mvcc`, like `cursor` itself.

use super::cursor::{AHEAD, Cursor, End, Limit};
use super::leaf::Leaf;
use super::shape::{Entry, Shape};
use crate::epoch::prefetch::prefetch_object;

impl<'g, E: Entry, S: Shape> Iterator for Cursor<'g, E, S> {
    type Item = &'g E;

    fn next(&mut self) -> Option<&'g E> {
        while !self.is_done {
            let Some(item) = self.front.item(self.front.at) else {
                self.advance();
                continue;
            };
            let entry = item.entry();
            self.front.at += 1;
            self.front.prefetch_one(self.front.at + AHEAD);
            if !self.front.is_clear && self.is_beyond_high(entry) {
                self.is_done = true;
            } else if !entry.is_dead() {
                self.low = Some(Limit { entry, is_included: false });
                self.back.is_clear = false;
                return Some(entry);
            }
        }
        None
    }
}

impl<E: Entry, S: Shape> DoubleEndedIterator for Cursor<'_, E, S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let Some(last) = self.back.at.checked_sub(1) else {
                self.retreat();
                continue;
            };
            self.back.at = last;
            let Some(item) = self.back.item(last) else { continue };
            let entry = item.entry();
            self.back.prefetch_one(last.wrapping_sub(AHEAD));
            if !self.back.is_clear && self.is_beyond_low(entry) {
                self.is_done = true;
            } else if !entry.is_dead() {
                self.high = Some(Limit { entry, is_included: false });
                self.front.is_clear = false;
                return Some(entry);
            }
        }
        None
    }
}

impl<'g, E: Entry, S: Shape> Cursor<'g, E, S> {
    /// Gives out entries at the front until `visit` says no; false if it did.
    ///
    /// What `next` would give, with less to look at for each.
    #[inline]
    pub(crate) fn walk(&mut self, mut visit: impl FnMut(&'g E) -> bool) -> bool {
        loop {
            if self.front.is_clear && !self.is_done && !self.walk_leaf(&mut visit) {
                return false;
            }
            // What is left needs a closer look, or another leaf.
            let Some(entry) = self.next() else { return true };
            if !visit(entry) {
                return false;
            }
        }
    }

    /// Gives out what is left of the front's leaf.
    #[inline]
    fn walk_leaf(&mut self, visit: &mut impl FnMut(&'g E) -> bool) -> bool {
        let behind = self.front.neighbor(true, self.guard);
        let End { leaf: Some(leaf), order, at, .. } = &mut self.front else { return true };
        let places = order.range(*at..order.len());
        let ahead = places.get(AHEAD..).unwrap_or_default();
        let mut last = None;
        let mut ends_with = |place: &u8| give(*leaf, *place, &mut last, visit);
        let ended = places.iter().zip(ahead).position(|(place, ahead)| {
            prefetch_object(leaf.item(usize::from(*ahead)).raw().as_ptr());
            ends_with(place)
        });
        let ended = ended.or_else(|| {
            let late = places.get(ahead.len()..).unwrap_or_default();
            let (first, count) = (AHEAD - late.len(), behind.map_or(0, |leaf| leaf.state().sorted));
            let ended = late.iter().enumerate().position(|(passed, place)| {
                prefetch_run(behind, first + passed, count);
                ends_with(place)
            });
            ended.map(|at| at + ahead.len())
        });
        *at += ended.map_or(places.len(), |at| at + 1);
        if let Some(entry) = last {
            self.low = Some(Limit { entry, is_included: false });
            self.back.is_clear = false;
        }
        ended.is_none()
    }

    /// Gives out entries at the back until `visit` says no; false if it did.
    #[inline]
    pub(crate) fn walk_back(&mut self, mut visit: impl FnMut(&'g E) -> bool) -> bool {
        loop {
            if self.back.is_clear && !self.is_done && !self.walk_leaf_back(&mut visit) {
                return false;
            }
            let Some(entry) = self.next_back() else { return true };
            if !visit(entry) {
                return false;
            }
        }
    }

    /// Gives out what is left of the back's leaf.
    #[inline]
    fn walk_leaf_back(&mut self, visit: &mut impl FnMut(&'g E) -> bool) -> bool {
        let before = self.back.neighbor(false, self.guard);
        let End { leaf: Some(leaf), order, at, .. } = &mut self.back else { return true };
        let places = order.range(0..*at);
        let late = places.len().min(AHEAD);
        let (ahead, _) = places.split_at(places.len() - late);
        let mut last = None;
        let mut ends_with = |place: &u8| give(*leaf, *place, &mut last, visit);
        let ended = places.iter().rev().zip(ahead.iter().rev()).position(|(place, ahead)| {
            prefetch_object(leaf.item(usize::from(*ahead)).raw().as_ptr());
            ends_with(place)
        });
        let ended = ended.or_else(|| {
            let count = before.map_or(0, |leaf| leaf.state().sorted);
            let ended = places.iter().take(late).rev().enumerate().position(|(passed, place)| {
                let number = AHEAD - late + passed + 1;
                prefetch_run(before, count.wrapping_sub(number), count);
                ends_with(place)
            });
            ended.map(|at| at + ahead.len())
        });
        *at -= ended.map_or(places.len(), |at| at + 1);
        if let Some(entry) = last {
            self.high = Some(Limit { entry, is_included: false });
            self.front.is_clear = false;
        }
        ended.is_none()
    }
}

/// Gives out the entry in a place unless it is dead. Whether that was the last one wanted.
#[inline]
fn give<'g, E: Entry>(
    leaf: Leaf<'g, E>,
    place: u8,
    last: &mut Option<&'g E>,
    visit: &mut impl FnMut(&'g E) -> bool,
) -> bool {
    let entry = leaf.item(usize::from(place)).entry();
    if entry.is_dead() {
        return false;
    }
    *last = Some(entry);
    !visit(entry)
}

/// Asks for an entry of the leaf that comes next, if it is one of the `count` in the leaf's run.
#[inline]
fn prefetch_run<E: Entry>(leaf: Option<Leaf<'_, E>>, at: usize, count: usize) {
    if let Some(leaf) = leaf.filter(|_| at < count) {
        prefetch_object(leaf.item(at).raw().as_ptr());
    }
}

//! Taking entries from a cursor: one by one from either end, or a stretch at a time.
//!
//! 1. Whatever is given out becomes the limit of the other end before anyone sees it.
//!
//! Used by `mvcc`, like `cursor` itself.

use super::cursor::{AHEAD, Cursor, End, Limit};
use super::prefetch::prefetch_object;
use super::shape::{Entry, Shape};

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
            let End { leaf, order, at, is_clear, .. } = &mut self.front;
            if let Some(leaf) = leaf.filter(|_| *is_clear && !self.is_done) {
                let places = order.range(*at..order.len());
                for (passed, place) in places.iter().enumerate() {
                    *at += 1;
                    if let Some(ahead) = places.get(passed + AHEAD) {
                        prefetch_object(leaf.item(usize::from(*ahead)).raw());
                    }
                    let entry = leaf.item(usize::from(*place)).entry();
                    if !entry.is_dead() {
                        self.low = Some(Limit { entry, is_included: false });
                        self.back.is_clear = false;
                        if !visit(entry) {
                            return false;
                        }
                    }
                }
            }
            // What is left needs a closer look, or another leaf.
            let Some(entry) = self.next() else { return true };
            if !visit(entry) {
                return false;
            }
        }
    }

    /// Gives out entries at the back until `visit` says no; false if it did.
    #[inline]
    pub(crate) fn walk_back(&mut self, mut visit: impl FnMut(&'g E) -> bool) -> bool {
        loop {
            let End { leaf, order, at, is_clear, .. } = &mut self.back;
            if let Some(leaf) = leaf.filter(|_| *is_clear && !self.is_done) {
                let places = order.range(0..*at);
                for (left, place) in places.iter().enumerate().rev() {
                    *at = left;
                    if let Some(ahead) = places.get(left.wrapping_sub(AHEAD)) {
                        prefetch_object(leaf.item(usize::from(*ahead)).raw());
                    }
                    let entry = leaf.item(usize::from(*place)).entry();
                    if !entry.is_dead() {
                        self.high = Some(Limit { entry, is_included: false });
                        self.front.is_clear = false;
                        if !visit(entry) {
                            return false;
                        }
                    }
                }
            }
            let Some(entry) = self.next_back() else { return true };
            if !visit(entry) {
                return false;
            }
        }
    }
}

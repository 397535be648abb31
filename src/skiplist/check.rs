//! A walk over the whole structure that panics where an invariant of `mod` is broken.
//!
//! For tests, and for whoever suspects a bug. Nobody may write meanwhile.

use super::hint::{Class, class, hint, shared};
use super::insert::fences;
use super::leaf::Leaf;
use super::list::SkipList;
use super::run::precedes;
use super::segment::Segment;
use super::shape::{Entry, Shape, Tower};
use crate::epoch::Guard;

impl<E: Entry, S: Shape> SkipList<E, S> {
    /// Panics with what is wrong if the structure breaks one of its invariants.
    pub(crate) fn check(&self, guard: &Guard<'_>) {
        let mut previous: Option<&E::Key> = None;
        for segment in self.segments(guard) {
            assert!(!segment.is_dead(), "10: a dead segment is linked");
            let next = segment.link(0).next(guard);
            let end = next.and_then(Segment::low);
            if let (Some(low), Some(end)) = (segment.low(), end) {
                assert!(low < end, "1: low keys ascend");
            }
            if let Some(next) = next {
                let bound = segment.link(0).hint_owned();
                let is_hinted = class::<E::Key>() != Class::Opaque;
                assert!(!is_hinted || bound <= next.low_hint(), "8: the hint hides a segment");
            }
            let entries = Self::check_segment(segment, end, &mut previous, guard);
            assert_eq!(segment.entries(), entries, "entries are counted");
        }
        self.check_express(guard);
    }

    fn check_segment<'g>(
        segment: &'g Segment<E, S>,
        end: Option<&'g E::Key>,
        previous: &mut Option<&'g E::Key>,
        guard: &'g Guard<'_>,
    ) -> usize {
        let content = segment.content(guard);
        assert!((1..=S::SEGMENT).contains(&content.len()), "a content has one leaf or more");
        assert!(content.skip() <= shared(segment.low(), end), "7: a content skips too much");
        assert!(content.has_right_samples(), "a sample of a content is wrong");
        let mut entries = 0;
        for child in 0..content.len() {
            let (low, high) = fences(segment, content, child, end);
            assert!(child == 0 || low.is_some(), "2: a separator is missing");
            if let (Some(low), Some(high)) = (low, high) {
                assert!(low < high, "2: separators ascend");
            }
            let leaf = content.leaf(child, guard);
            assert!(leaf.skip() <= shared(low, high), "7: a leaf skips too much");
            Self::check_leaf(leaf);
            let mut run = super::run::Run::new();
            leaf.read_into(leaf.state(), &mut run);
            for item in run.as_slice() {
                let key = item.key();
                assert!(low.is_none_or(|low| low <= key), "3: a key is below its leaf");
                assert!(high.is_none_or(|high| key < high), "3: a key is beyond its leaf");
                assert!(previous.is_none_or(|previous| previous < key), "6: keys ascend");
                *previous = Some(key);
            }
            entries += run.as_slice().len();
        }
        entries
    }

    fn check_leaf(leaf: Leaf<'_, E>) {
        let state = leaf.state();
        assert!(state.sorted <= state.count && state.count <= leaf.capacity(), "4: counts");
        assert!(leaf.capacity() <= S::LEAF, "a leaf is too large");
        for place in 0..state.count {
            let item = leaf.item(place);
            assert_eq!(item.hint, hint(item.key(), leaf.skip()), "5: a hint is wrong");
            if place > 0 && place < state.sorted {
                assert!(precedes(leaf.item(place - 1), item), "5: the run is sorted");
            }
        }
    }

    fn check_express(&self, guard: &Guard<'_>) {
        let at_zero: Vec<_> = self.segments(guard).map(std::ptr::from_ref).collect();
        let edge = self.edge(guard).map(std::ptr::from_ref);
        assert!(edge.is_none_or(|edge| at_zero.contains(&edge)), "10: the edge is not linked");
        for level in 1..self.head.tower().levels().len() {
            let mut walk = Some(&*self.head);
            let mut position = 0;
            while let Some(segment) = walk {
                let found = at_zero.iter().skip(position).position(|at| *at == segment);
                position += found.expect("9: an express link leads to a segment of level 0");
                walk = segment.link(level).next(guard);
            }
        }
    }
}

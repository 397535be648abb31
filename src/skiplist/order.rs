//! The order of a leaf's places: a sorted run, and a tail that lies among it.
//!
//! ```text
//! places   [ 2 5 7 9 | 8 3 ]       run of four, tail of two
//! ranks                3 1         how many of the run lie before each of the tail
//! turns                1 0         the tail in order, as numbers in the tail
//! order    [ 0 5 1 2 4 3 ]         places, merged
//! ```
//!
//! 1. Turns are a permutation of the tail's numbers, whatever `Ord` said.
//! 2. An order names each place of its leaf exactly once, whatever the ranks are.
//!
//! Used by `leaf`, which keeps ranks and turns, by `cursor` and by `walk`.

use super::run::LEAF_MAX;
use std::ops::Range;

/// The most places that a tail has; a turn takes four bits.
pub(super) const TAIL_MAX: usize = 8;

/// The numbers of a tail in the order of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turns(pub(super) u32);

impl Turns {
    /// The number whose turn it is; `turn` is below [`TAIL_MAX`].
    #[inline]
    pub(super) fn get(self, turn: usize) -> usize {
        (self.0 >> (4 * turn)) as usize & 0xf
    }

    /// These turns with one more before the old `turn`, which is below [`TAIL_MAX`].
    pub(super) fn with(self, turn: usize, number: usize) -> Self {
        let before = (1 << (4 * turn)) - 1;
        let number = u32::try_from(number).expect("a tail is short") << (4 * turn);
        Self(self.0 & before | number | (self.0 & !before) << 4)
    }
}

/// Room for the places of a leaf, and for what is written behind them in passing.
const ROOM: usize = LEAF_MAX + TAIL_MAX + LEAF_MAX;

/// The places of a leaf in the order of their keys.
pub(super) struct Order {
    len: usize,
    places: [u8; ROOM],
}

/// The places of a run, and some more that nobody looks at.
const RUN: [u8; 2 * LEAF_MAX] = {
    let mut run = [0; 2 * LEAF_MAX];
    let mut rest: &mut [u8] = &mut run;
    let mut place = 0;
    while let Some((first, others)) = rest.split_first_mut() {
        *first = narrow(place);
        place += 1;
        rest = others;
    }
    run
};

#[expect(clippy::cast_possible_truncation, reason = "all places are below 128")]
const fn narrow(place: usize) -> u8 {
    place as u8
}

impl Order {
    /// The order of no places.
    #[inline]
    pub(super) fn new() -> Self {
        Self { len: 0, places: [0; ROOM] }
    }

    /// Puts a tail, given as ranks and numbers in the order of its keys, among `sorted` places.
    #[inline]
    pub(super) fn merge(&mut self, sorted: usize, tail: impl Iterator<Item = (usize, usize)>) {
        debug_assert!(sorted <= LEAF_MAX, "a leaf is no larger");
        let (mut from, mut len) = (0, 0);
        for (rank, number) in tail {
            // Ranks ascend unless `Ord` is inconsistent.
            let to = rank.clamp(from, sorted);
            self.copy_run(len, from);
            len += to - from;
            if let Some(slot) = self.places.get_mut(len) {
                *slot = narrow(sorted + number);
            }
            (from, len) = (to, len + 1);
        }
        self.copy_run(len, from);
        self.len = len + sorted - from;
    }

    /// Writes the places of the run from `from` on. Always as many, which is one or two moves;
    /// what is too much is overwritten or lies behind the end.
    #[inline]
    fn copy_run(&mut self, at: usize, from: usize) {
        let to = self.places.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<LEAF_MAX>);
        let from = RUN.get(from..).and_then(<[u8]>::first_chunk::<LEAF_MAX>);
        if let (Some(to), Some(from)) = (to, from) {
            *to = *from;
        }
    }

    /// The places of a part of the order; of none if it has no such part.
    #[inline]
    pub(super) fn range(&self, range: Range<usize>) -> &[u8] {
        self.places.get(..self.len).and_then(|places| places.get(range)).unwrap_or_default()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place of the entry with so many before it; below the count that the order was made of.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<usize> {
        self.places.get(at).filter(|_| at < self.len).map(|place| usize::from(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(order: &Order) -> Vec<usize> {
        order.range(0..order.len()).iter().copied().map(usize::from).collect()
    }

    #[test]
    fn turns_take_newcomers_anywhere() {
        let turns = Turns(0).with(0, 0).with(0, 1).with(1, 2).with(3, 3);
        assert_eq!([0, 1, 2, 3].map(|turn| turns.get(turn)), [1, 2, 0, 3]);
    }

    proptest! {
        #[test]
        fn an_order_names_each_place_once(
            sorted in 0..=LEAF_MAX - TAIL_MAX,
            mut ranks in prop::collection::vec(0..=LEAF_MAX, 0..=TAIL_MAX),
            ascend: bool,
        ) {
            if ascend {
                ranks = ranks.iter().map(|rank| rank.min(&sorted)).copied().collect();
                ranks.sort_unstable();
            }
            let mut order = Order::new();
            order.merge(sorted, ranks.iter().enumerate().map(|(number, rank)| (*rank, number)));
            let mut got = places(&order);
            if ascend {
                for (number, rank) in ranks.iter().enumerate() {
                    prop_assert_eq!(got[rank + number], sorted + number);
                }
            }
            got.sort_unstable();
            prop_assert_eq!(got, (0..sorted + ranks.len()).collect::<Vec<_>>());
        }
    }
}

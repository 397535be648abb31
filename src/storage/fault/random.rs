//! Numbers that look random and follow from a seed, so that one number repeats a whole run.

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or zero if `end` is zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is far below what any test could notice.
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// The same for a position in memory.
    pub(super) fn below_usize(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a number of that type")
    }

    /// True once in `times` on average; never if `times` is zero.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }
}

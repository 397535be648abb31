//! A small, fast, seeded generator (`SplitMix64`), so that a failure is repeated by its seed.

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let high = u32::try_from(self.next() >> 32).expect("a u64 shifted right by 32 fits");
        u32::try_from((u64::from(high) * u64::from(bound)) >> 32).expect("is below bound")
    }

    /// A number below `bound`, which is between 1 and 256.
    pub(crate) fn small(&mut self, bound: usize) -> u8 {
        let bound = u32::try_from(bound).expect("bound is at most 256");
        u8::try_from(self.below(bound)).expect("bound is at most 256")
    }

    pub(crate) fn percent(&mut self, share: u32) -> bool {
        self.below(100) < share
    }
}

/// The value of the environment variable `name`, or `default`; for sizes of random runs.
pub(crate) fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| {
        text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

/// The base seed of a random run: `SEED`, or a fixed one so that runs repeat by default.
pub(crate) fn seed() -> u64 {
    env("SEED", 0x5eed_0001)
}

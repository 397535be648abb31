//! Sequences of keys to compare policies on. All are repeated by their seed.

/// A seeded generator (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).expect("is below bound")
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ranks from 0, of which rank `r` comes in proportion to `1 / (r + 1) ^ skew`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    /// So many ranks.
    #[must_use]
    pub(crate) fn new(ranks: u32, skew: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank + 1).powf(-skew);
        let sums = (0..ranks).map(|rank| {
            sum += weight(rank);
            sum
        });
        Self { sums: sums.collect() }
    }

    /// A rank.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        let at = rng.unit() * self.sums.last().copied().unwrap_or(0.0);
        let rank = self.sums.partition_point(|sum| *sum < at);
        rank.min(self.sums.len().saturating_sub(1)) as u64
    }
}

/// A trace of `len` keys out of `keys` by its name.
///
/// # Panics
///
/// If there is no trace of this name.
#[must_use]
pub(crate) fn trace(name: &str, keys: u32, len: usize, seed: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    let zipf = |skew| Zipf::new(keys, skew);
    match name {
        "zipf 0.8" => draws(&zipf(0.8), len, &mut rng),
        "zipf 1.0" => draws(&zipf(1.0), len, &mut rng),
        "zipf 1.2" => draws(&zipf(1.2), len, &mut rng),
        "scans" => scans(keys, len, &mut rng),
        // Larger than a tenth of the keys by a quarter.
        "loop" => (0..len as u64).map(|at| at % u64::from(keys / 8)).collect(),
        "drift" => drift(keys, len, &mut rng),
        "shifts" => shifts(keys, len, &mut rng),
        _ => panic!("there is no trace {name:?}"),
    }
}

fn draws(zipf: &Zipf, len: usize, rng: &mut Rng) -> Vec<u64> {
    (0..len).map(|_| zipf.draw(rng)).collect()
}

/// Zipf 1.0, and every now and then a run through keys that nobody asks for twice in a short time;
/// a third of all.
fn scans(keys: u32, len: usize, rng: &mut Rng) -> Vec<u64> {
    let (zipf, run) = (Zipf::new(keys, 1.0), u64::from(keys / 5));
    let mut cold = 0;
    let mut trace = Vec::with_capacity(len);
    while trace.len() < len {
        trace.extend((0..2 * run).map(|_| zipf.draw(rng)));
        trace.extend((0..run).map(|at| u64::from(keys) + (cold + at) % (20 * u64::from(keys))));
        cold += run;
    }
    trace.truncate(len);
    trace
}

/// Every key is asked for a few times in a short while, and then no more.
fn drift(keys: u32, len: usize, rng: &mut Rng) -> Vec<u64> {
    let while_it_lasts = u64::from(keys / 8);
    (0..len as u64).map(|at| at / 8 + rng.below(while_it_lasts)).collect()
}

/// Zipf 1.0, and ten times during the trace other keys become the favourites.
fn shifts(keys: u32, len: usize, rng: &mut Rng) -> Vec<u64> {
    let (zipf, keys) = (Zipf::new(keys, 1.0), u64::from(keys));
    let shifted = |at: usize, rank| (rank + (10 * at / len.max(1)) as u64 * (keys / 7)) % keys;
    (0..len).map(|at| shifted(at, zipf.draw(rng))).collect()
}

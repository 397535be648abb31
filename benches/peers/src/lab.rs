//! Random numbers, medians, timed threads: the tools of a fair comparison.
//!
//! Contenders are measured in turns, round after round in one process, so that whatever else the
//! machine does falls on all of them alike. Ratios are medians of the ratios within a round.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pace::thread_cpu_ns;

/// A small fast generator (`SplitMix64`); equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose sequence `seed` decides.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `limit`.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of a wide product; the bias is below 2^-32 for the limits used here.
        u64::try_from((u128::from(self.next()) * u128::from(limit)) >> 64).unwrap_or(0)
    }

    /// One of `items`, of which there is at least one.
    #[inline]
    pub fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap_or(0)]
    }

    /// A number from 0 up to, not including, 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Scatters numbers over all 64 bits; different numbers stay different.
#[inline]
pub const fn mix(number: u64) -> u64 {
    let mut bits = number;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Draws ranks from 0, each as often as its rank plus one, to the power of minus `skew`, says.
#[derive(Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Ranks below `count`; `skew` 0 is uniform.
    pub fn new(count: u32, skew: f64) -> Self {
        let mut sum = 0.0;
        let weigh = |rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        };
        Self { cumulative: (1..=count).map(weigh).collect() }
    }

    /// Draws one.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = random.unit() * total;
        self.cumulative.partition_point(|&sum| sum <= at) as u64
    }
}

/// The middle of the values, the mean of two if their number is even; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.get(half) {
        Some(&upper) if sorted.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(upper, sorted[half - 1]),
        None => 0.0,
    }
}

/// The median of the ratios of the pairs: how much more `of` is than `to`.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}

/// Nanoseconds of processor time that each of `count` repetitions of `operation` took, on average.
pub fn nanoseconds(count: u64, mut operation: impl FnMut(u64)) -> f64 {
    let started = thread_cpu_ns();
    (0..count).for_each(&mut operation);
    (thread_cpu_ns() - started) as f64 / count as f64
}

/// How much some threads did together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// A second.
    pub wall: f64,
    /// A second of processor time on each thread. Waiting does not show in it, but neither do
    /// other jobs that keep the processors from the threads.
    pub used: f64,
}

/// Runs `work` on `threads` threads at once for about `span`; each gets its number and the flag
/// that tells it to stop, and returns how much it did.
pub fn rate(threads: u64, span: Duration, work: impl Fn(u64, &AtomicBool) -> u64 + Sync) -> Rate {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(usize::try_from(threads).expect("few threads") + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (stop, start, work) = (&stop, &start, &work);
                scope.spawn(move || {
                    start.wait();
                    let (started, used) = (Instant::now(), thread_cpu_ns());
                    let done = work(number, stop) as f64;
                    let used = (thread_cpu_ns() - used) as f64 / 1e9;
                    (done / started.elapsed().as_secs_f64(), done / used)
                })
            })
            .collect();
        start.wait();
        thread::sleep(span);
        // Relaxed: the flag orders nothing, it only ends the loops soon.
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().fold(Rate::default(), |sum, worker| {
            let (wall, used) = worker.join().expect("a worker does not panic");
            Rate { wall: sum.wall + wall, used: sum.used + used }
        })
    })
}

/// Whether the program was asked for a short run.
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// `long`, or `short` if the program was asked for a short run.
pub fn sized<T>(long: T, short: T) -> T {
    if quick() { short } else { long }
}

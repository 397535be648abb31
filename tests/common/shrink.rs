//! Runs programs on fresh stores, in volume, and makes a failing one small.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::lockstep::{Counts, Lockstep};
use super::program::{Profile, Step, history};
use super::rng::Rng;
use super::store::{Store, Violation};

/// Histories that share one store, so that tombstones, old versions and garbage pile up.
const CHUNK: u64 = 64;

/// A run of random programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volume {
    pub(crate) profile: Profile,
    pub(crate) histories: u64,
    pub(crate) seed: u64,
    pub(crate) jobs: u64,
    /// Judge every so many histories by brute force too.
    pub(crate) brute_every: u64,
}

/// A program that made the store break a rule, as small as it could be made.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// Number of the chunk, which says how the store was opened.
    pub(crate) chunk: u64,
    pub(crate) wrong: Violation,
    pub(crate) steps: Vec<Step>,
    /// Histories run before it was found.
    pub(crate) after: u64,
}

impl Failure {
    pub(crate) fn report(&self) -> String {
        let mut text = format!(
            "{}\nchunk {}, seed {:#x}; smallest program found:\n",
            self.wrong, self.chunk, self.seed
        );
        for step in &self.steps {
            writeln!(text, "  T{} {:?}", step.slot + 1, step.action).expect("a string takes all");
        }
        text
    }
}

/// Runs one program on a fresh store. A panic inside the store is a violation too.
pub(crate) fn run<S: Store>(
    open: impl Fn() -> S,
    steps: &[Step],
    brute_every: u64,
) -> Result<Counts, Violation> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let store = open();
        let mut driver = Lockstep::new(&store, brute_every);
        driver.run(steps).map(|()| driver.counts)
    }));
    attempt.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Violation { rule: "panic", detail: text.to_owned() })
    })
}

/// Leaves out steps, in ever smaller groups, while the program still breaks a rule.
pub(crate) fn shrink<S: Store>(open: impl Fn() -> S, steps: &[Step]) -> (Vec<Step>, Violation) {
    let fails = |steps: &[Step]| run(&open, steps, 1).err();
    let mut best = steps.to_vec();
    let mut wrong = fails(steps).unwrap_or_else(|| Violation {
        rule: "not repeated",
        detail: "the program that failed passes on a fresh store".into(),
    });
    let mut group = best.len().div_ceil(2);
    while group > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + group).min(best.len()));
            match fails(&shorter) {
                Some(found) => (best, wrong) = (shorter, found),
                None => at += group,
            }
        }
        group /= 2;
    }
    (best, wrong)
}

/// Runs `volume` on stores made by `open` from the number of the chunk, on `volume.jobs` threads
/// that share nothing.
pub(crate) fn volume<S: Store>(
    open: impl Fn(u64) -> S + Sync,
    volume: Volume,
) -> Result<Counts, Failure> {
    let chunks = volume.histories.div_ceil(CHUNK);
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        let open = &open;
        let every = usize::try_from(volume.jobs).expect("jobs are few");
        let jobs: Vec<_> = (0..volume.jobs)
            .map(|job| scope.spawn(move || part(open, volume, (job..chunks).step_by(every))))
            .collect();
        outcomes.extend(jobs.into_iter().map(|job| job.join().expect("panics are caught inside")));
    });
    let mut counts = Counts::default();
    for outcome in outcomes {
        counts.add(&outcome?);
    }
    Ok(counts)
}

fn part<S: Store>(
    open: impl Fn(u64) -> S,
    volume: Volume,
    chunks: impl Iterator<Item = u64>,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let mut steps = Vec::new();
    for chunk in chunks {
        let seed = volume.seed.wrapping_add(chunk << 20);
        let mut rng = Rng::new(seed);
        steps.clear();
        for _ in 0..CHUNK {
            history(&mut rng, volume.profile, &mut steps);
        }
        let fresh = || open(chunk);
        let Ok(found) = run(fresh, &steps, volume.brute_every) else {
            let (steps, wrong) = shrink(fresh, &steps);
            return Err(Failure { seed, chunk, wrong, steps, after: counts.histories });
        };
        counts.add(&found);
    }
    Ok(counts)
}

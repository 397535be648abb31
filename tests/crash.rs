//! Crashes of the whole engine on a simulated disk: whatever moment the power goes or the process
//! dies, the next opening finds exactly the first commits, and all that were promised.
//!
//! ```text
//! seed ─► plan ─► life ─► engine ─► disk that loses, tears and refuses
//!           │      │                  │ every call
//!           └──► model ─► window ─► witness: opens crash states while the engine goes on
//! ```
//!
//! Method: one thread drives the database through its public calls, from one seed, over several
//! lives. The model knows each state that the database went through and for which of them some
//! call has returned with a promise. At every call to the disk a crash state is taken, opened and
//! compared: it must be one of the states from the last promise on.
//!
//! `CRASH_STATES` says how many states at least, `SEED` where to begin, `JOBS` how many threads.
//! A failure names its seed; with that as `SEED` and `CRASH_STATES=1` it comes again at once.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "crash/engine.rs"]
mod engine;
#[path = "crash/life.rs"]
mod life;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/plan.rs"]
mod plan;
#[path = "common/rng.rs"]
mod rng;
#[path = "crash/witness.rs"]
mod witness;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use life::{Course, run};
use palisade::testing::{Sabotage, Sabotages};
use witness::Tally;

/// Runs a course on a thread of its name, so that a panic names the seed even if it ends in an
/// abort.
fn run_named(course: Course) -> (Tally, Option<String>) {
    let name = format!("SEED={} {:?}", course.seed, course.scene);
    let ran = std::thread::Builder::new().name(name).spawn(move || run(&course)).unwrap().join();
    ran.unwrap_or_else(|panic| {
        (Tally::default(), Some(format!("panic: {}", engine::said(&*panic))))
    })
}

/// Runs courses, one seed after the other, until enough states were seen or one has failed.
fn runs(states: u64, course: impl Fn(u64) -> Course + Sync) -> (Tally, Option<String>) {
    let (next, seen) = (AtomicU64::new(rng::seed()), AtomicU64::new(0));
    let outcome = Mutex::new((Tally::default(), None));
    let work = || {
        while seen.load(Ordering::Relaxed) < states && outcome.lock().unwrap().1.is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let course = course(seed);
            let (tally, failure) = run_named(course);
            seen.fetch_add(tally.states, Ordering::Relaxed);
            let mut outcome = outcome.lock().unwrap();
            outcome.0.add(&tally);
            if let Some(failure) = failure {
                outcome.1.get_or_insert(format!("SEED={seed} {:?}: {failure}", course.scene));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..rng::env("JOBS", 1) {
            scope.spawn(work);
        }
    });
    outcome.into_inner().unwrap()
}

#[test]
fn every_crash_leaves_a_prefix_with_all_that_was_promised() {
    let begun = Instant::now();
    let states = rng::env("CRASH_STATES", 200_000);
    let (tally, failure) = runs(states, Course::of);
    let seconds = begun.elapsed().as_secs_f64();
    println!("{tally:?} in {seconds:.1} s, {:.0} states/s", tally.states as f64 / seconds);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

#[test]
fn every_sabotage_is_caught() {
    for rule in Sabotage::ALL {
        let begun = Instant::now();
        let course = |seed| Course { sabotages: Sabotages::of(rule), ..Course::of(seed) };
        let (tally, failure) = runs(rng::env("SABOTAGE_STATES", 100_000), course);
        let seconds = begun.elapsed().as_secs_f64();
        println!("{rule:?}: {} states, {seconds:.1} s, {}", tally.states, failure.as_deref().unwrap_or("NOT CAUGHT"));
    }
}

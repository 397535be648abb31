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

#[path = "crash/damage.rs"]
mod damage;
#[path = "crash/engine.rs"]
mod engine;
#[path = "crash/found.rs"]
mod found;
#[path = "crash/life.rs"]
mod life;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/plan.rs"]
mod plan;
#[path = "common/rng.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod rng;
#[path = "crash/short.rs"]
mod short;
#[path = "crash/threads.rs"]
mod threads;
#[path = "crash/witness.rs"]
mod witness;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use palisade::testing::{Sabotage, Sabotages};

use life::{Course, run};
use plan::Scene;
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
    let (next, judged) = (AtomicU64::new(rng::seed()), AtomicU64::new(0));
    let outcome = Mutex::new((Tally::default(), None));
    let work = || {
        while judged.load(Ordering::Relaxed) < states && outcome.lock().unwrap().1.is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let course = course(seed);
            let scene = course.scene;
            let (tally, failure) = run_named(course);
            judged.fetch_add(tally.states, Ordering::Relaxed);
            let mut outcome = outcome.lock().unwrap();
            outcome.0.add(&tally);
            if let Some(failure) = failure {
                outcome.1.get_or_insert(format!("SEED={seed} {scene:?}: {failure}"));
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

/// Prints what was seen, and fails if something went wrong.
fn report(begun: Instant, tally: &Tally, failure: Option<String>) {
    let took = begun.elapsed();
    let rate = tally.states * 1000 / u64::try_from(took.as_millis()).unwrap().max(1);
    println!("{tally:?} in {took:.1?}, {rate} states/s");
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

/// Random work; smaller where the compiler has not optimized.
fn scale(full: u64) -> u64 {
    if cfg!(debug_assertions) { full / 20 } else { full }
}

#[test]
fn every_crash_leaves_a_prefix_with_all_that_was_promised() {
    let begun = Instant::now();
    let (tally, failure) = runs(rng::env("CRASH_STATES", scale(150_000)), Course::of);
    report(begun, &tally, failure);
}

/// The same under a limit to the memory, with larger values, most of which are in the files only.
#[test]
fn every_crash_leaves_a_prefix_while_values_leave_memory_and_come_back() {
    let begun = Instant::now();
    let states = rng::env("CRASH_STATES", scale(300_000));
    let (tally, failure) =
        runs(states, |seed| Course { is_limited: true, ops_max: 150, ..Course::of(seed) });
    report(begun, &tally, failure);
    assert!(tally.departures > tally.lives && tally.fetches > tally.lives, "{tally:?}");
    assert!(tally.refusals * 4 < tally.commits, "too tight: {tally:?}");
}

/// Runs the courses of these numbers, each once.
fn each(numbers: impl Iterator<Item = u64>, course: impl Fn(u64) -> Course) {
    let (begun, mut all) = (Instant::now(), Tally::default());
    for number in numbers {
        let (tally, failure) = run_named(course(number));
        all.add(&tally);
        if let Some(failure) = failure {
            report(begun, &all, Some(format!("number {number}: {failure}")));
        }
    }
    report(begun, &all, None);
}

#[test]
fn every_short_history_survives_a_crash_at_every_call() {
    let length = u32::try_from(rng::env("CRASH_LENGTH", 2)).unwrap();
    let step = usize::try_from(if cfg!(debug_assertions) { 20 } else { 1 }).unwrap();
    each((0..short::sequences(length)).step_by(step), |nth| short::course(nth, length));
}

#[test]
fn every_call_may_fail_once() {
    let histories = rng::env("CRASH_HISTORIES", 2);
    let step = usize::try_from(scale(1).max(1)).unwrap();
    each((0..histories * short::pairs()).step_by(step), short::failing);
}

/// Runs a scenario for many seeds. Says which one failed first, and how.
fn scenario(
    seeds: u64,
    scenario: impl Fn(u64, Sabotages) -> Result<(), String>,
    sabotages: Sabotages,
) -> Option<String> {
    let first = rng::seed();
    (first..first + seeds).find_map(|seed| {
        let what = scenario(seed, sabotages).err()?;
        Some(format!("SEED={seed}: {what}"))
    })
}

#[test]
fn damage_to_what_was_durable_is_told() {
    assert_eq!(scenario(scale(2000), damage::flipped_bit, Sabotages::default()), None);
}

#[test]
fn sectors_in_wrong_places_make_no_commits() {
    assert_eq!(scenario(scale(2000), damage::misplaced_sector, Sabotages::default()), None);
}

#[test]
fn what_lying_syncs_lost_does_not_come_back() {
    assert_eq!(scenario(scale(300), damage::lying_syncs, Sabotages::default()), None);
}

#[test]
fn threads_lose_nothing_that_was_promised() {
    let begun = Instant::now();
    let mut states = 0;
    for round in 0..rng::env("CRASH_ROUNDS", scale(300)) {
        let seed = rng::seed() + round;
        match threads::round(seed, Sabotages::default()) {
            Ok(judged) => states += judged,
            Err(what) => panic!("SEED={seed}: {what}"),
        }
    }
    println!("{states} states of threads in {:.1} s", begun.elapsed().as_secs_f64());
}

/// What catches a broken rule, and in how many seeds at most.
fn catch(rule: Sabotage) -> Option<String> {
    let sabotages = Sabotages::of(rule);
    let course = |scene: Option<Scene>| {
        move |seed| {
            let course = Course::of(seed);
            Course { sabotages, scene: scene.unwrap_or(course.scene), ..course }
        }
    };
    match rule {
        Sabotage::StickWatermark => scenario(100, damage::flipped_bit, sabotages),
        Sabotage::IgnoreLsn => scenario(100, damage::misplaced_sector, sabotages),
        Sabotage::KeepSalt => scenario(100, damage::lying_syncs, sabotages),
        Sabotage::OverlapSyncs => {
            scenario(2000, |seed, sabotages| threads::round(seed, sabotages).map(drop), sabotages)
        }
        Sabotage::RetrySync => runs(300_000, course(Some(Scene::Faults))).1,
        _ => runs(300_000, course(Some(Scene::Calm))).1,
    }
}

#[test]
fn every_sabotage_is_caught() {
    let mut missed = Vec::new();
    for rule in Sabotage::ALL {
        let begun = Instant::now();
        let caught = catch(rule);
        let how: String = caught.as_deref().unwrap_or("not caught").chars().take(200).collect();
        println!("{rule:?}, {:.1} s: {how}", begun.elapsed().as_secs_f64());
        if caught.is_none() {
            missed.push(rule);
        }
    }
    assert_eq!(missed, []);
}

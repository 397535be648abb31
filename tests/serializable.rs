//! Random concurrent transaction programs show no anomaly, and no abort without a reason.
//!
//! Method: programs of points, ranges, prefixes, limits, inserts, removals, absent keys,
//! savepoints, locked reads and read-only snapshots run in two ways. On one thread several
//! transactions are open and their steps interleave; every answer is compared with the state it
//! should show, every commit with the graph of what was read and written, some histories with
//! all serial orders, and every abort must be one that had to be. On eight threads they run for
//! real, and each round is judged from what was observed.
//!
//! Sizes come from the environment: `HISTORIES` for each one-thread run, on `JOBS` threads,
//! `TRANSACTIONS` for each run on real threads, and `SEED`. A failure prints the seed and the
//! smallest program that still fails.

#![allow(clippy::cast_precision_loss, reason = "rates and shares are for people")]
#![allow(clippy::indexing_slicing, reason = "a slot is below four")]

mod common;

use common::engine::Engine;
use common::lockstep::Counts;
use common::program::{Action, Kind, Profile, Step, Window};
use common::rng::{env, seed};
use common::shrink::{self, Volume};
use common::store::{LEVELS, Level, Scan};
use common::threads::{self, Plan};
use proptest::prelude::*;

/// Opens databases whose keys are cut into two buckets at a different place each time.
fn open(level: Level, number: u64) -> Engine {
    Engine::new(level, u8::try_from(number % 9).expect("is below nine"))
}

/// Runs histories of `profile` and prints what happened.
fn histories(name: &str, profile: Profile, share: u64) -> Counts {
    let histories = env("HISTORIES", 8_000).div_ceil(share);
    let start = std::time::Instant::now();
    let volume = Volume { profile, histories, seed: seed(), jobs: env("JOBS", 1), brute_every: 16 };
    let counts =
        shrink::volume(|chunk| open(profile.level, chunk), volume).unwrap_or_else(|failure| {
            panic!("{name}: {}", failure.report());
        });
    let rate = counts.histories as f64 / start.elapsed().as_secs_f64();
    eprintln!("{name}: {rate:.0} histories/s\n{}", table(&counts));
    assert!(counts.histories >= histories);
    counts
}

fn table(counts: &Counts) -> String {
    let percent = |part: u64| 100.0 * part as f64 / counts.commits.max(1) as f64;
    let row = |name: &str, part: u64| format!("  {name:<18}{part:>12} {:>8.3} %\n", percent(part));
    [
        format!("  {:<18}{:>12}\n", "histories", counts.histories),
        row("commits", counts.commits),
        row("snapshots", counts.snapshots),
        row("write conflicts", counts.write_write),
        row("cycles", counts.cycles),
        row("read-only pivots", counts.read_only_pivots),
        row("  real cycles", counts.real_pivots),
        row("windows lost", counts.windows_lost),
        row("search budgets", counts.search_budgets),
    ]
    .concat()
}

#[test]
fn random_histories_at_level_serializable() {
    let counts = histories("serializable", Profile::at(Level::Serializable), 1);
    assert_eq!(counts.idle_cycles, 0, "removing nothing is no write: {counts:?}");
    assert!(counts.cycles > 0, "the programs never met: {counts:?}");
    assert!(
        counts.unforced() * 100 < counts.commits,
        "aborts without a cycle among writers are under 1 % of commits:\n{}",
        table(&counts)
    );
}

#[test]
fn random_histories_at_level_snapshot() {
    let counts = histories("snapshot", Profile::at(Level::Snapshot), 1);
    assert!(counts.write_write > 0 && counts.cycles == 0, "{counts:?}");
}

#[test]
fn random_histories_of_both_levels_in_one_database() {
    let profile = Profile { other_level: 30, ..Profile::at(Level::Serializable) };
    histories("both levels", profile, 4);
}

#[test]
fn random_histories_with_many_read_only_snapshots() {
    let profile = Profile { read_only: 40, ..Profile::at(Level::Serializable) };
    let counts = histories("many snapshots", profile, 4);
    assert!(counts.snapshots > counts.commits / 4, "{counts:?}");
}

#[test]
fn random_histories_of_short_transactions() {
    let profile = Profile { operations: 2, ..Profile::at(Level::Serializable) };
    histories("short transactions", profile, 4);
}

fn real_threads(name: &str, profile: Profile, keys: u8) {
    real_threads_on(Engine::new, name, profile, keys);
}

fn real_threads_on(
    open: impl Fn(Level, u8) -> Engine,
    name: &str,
    profile: Profile,
    keys: u8,
) {
    const THREADS: usize = 8;
    const BATCH: usize = 32;
    let rounds = env("TRANSACTIONS", 12_000).div_ceil((THREADS * BATCH) as u64);
    let window = Window { first: 1, keys };
    let plan = Plan { threads: THREADS, rounds, batch: BATCH, profile, window, seed: seed() };
    // Some keys to either side of the cut.
    let cut = window.first + keys / 2;
    let start = std::time::Instant::now();
    let counts = threads::run(&open(profile.level, cut), plan)
        .unwrap_or_else(|wrong| panic!("{name}, seed {:#x}: {wrong}", plan.seed));
    let total = rounds * (THREADS * BATCH) as u64;
    let rate = total as f64 / start.elapsed().as_secs_f64();
    eprintln!("{name}, {keys} keys: {total} transactions, {rate:.0}/s\n{}", table(&counts));
    assert_eq!(counts.histories, rounds, "every round was judged");
    assert!(counts.commits * 20 > total, "hardly anything commits: {counts:?}");
}

#[test]
fn real_threads_at_both_levels_on_three_keys() {
    for level in LEVELS {
        real_threads(&format!("{level:?}"), Profile::at(level), 3);
    }
}

#[test]
fn real_threads_on_seven_keys_with_many_snapshots() {
    let profile = Profile { read_only: 40, ..Profile::at(Level::Serializable) };
    real_threads("many snapshots", profile, 7);
}

/// Commits that wait for a sync, snapshots behind them, checkpoints beside them.
#[test]
fn real_threads_on_a_durable_database() {
    let profile = Profile { read_only: 40, ..Profile::at(Level::Serializable) };
    real_threads_on(Engine::on_disk, "durable", profile, 4);
}

#[test]
fn real_threads_of_both_levels_in_one_database() {
    let profile = Profile { other_level: 30, ..Profile::at(Level::Serializable) };
    real_threads("both levels", profile, 4);
}

fn action() -> impl Strategy<Value = Action> {
    let key = || 0_u8..4;
    let interval = || (0_u8..5, 0_u8..5).prop_map(|(one, other)| (one.min(other), one.max(other)));
    let some = || prop_oneof![Just(Scan::ALL), 0_u8..3];
    prop_oneof![
        2 => Just(Action::Begin(Kind::ReadWrite(Level::Serializable))),
        1 => Just(Action::Begin(Kind::ReadOnly)),
        5 => Just(Action::Commit),
        4 => key().prop_map(Action::Get),
        4 => key().prop_map(Action::Insert),
        2 => key().prop_map(Action::Remove),
        1 => key().prop_map(Action::Contains),
        1 => key().prop_map(Action::Peek),
        1 => key().prop_map(Action::GetForUpdate),
        1 => key().prop_map(Action::InsertIfAbsent),
        1 => key().prop_map(Action::Update),
        1 => interval().prop_map(|(lo, hi)| Action::RemoveRange(lo, hi)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(last, pop)| Action::End { last, pop }),
        1 => Just(Action::Len),
        1 => (0_u8..2).prop_map(Action::Savepoint),
        1 => (0_u8..2).prop_map(Action::RollBackTo),
        1 => Just(Action::RollBack),
        1 => Just(Action::Vacuum),
        1 => key().prop_map(Action::Look),
        4 => (interval(), some(), some(), any::<bool>()).prop_map(
            |((lo, hi), front, back, prefix)| Action::Scan(Scan { lo, hi, front, back, prefix })
        ),
    ]
}

/// A program of any shape, also such as the generator would never write: up to four slots, each
/// opened serializable at its first step unless it says otherwise.
fn program() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..4, action()), 1..60).prop_map(|steps| {
        let mut open = [false; 4];
        let mut program = Vec::new();
        for (slot, action) in steps {
            let first = !std::mem::replace(&mut open[usize::from(slot)], true);
            if first && !matches!(action, Action::Begin(_)) {
                let begin = Action::Begin(Kind::ReadWrite(Level::Serializable));
                program.push(Step { slot, action: begin });
            }
            program.push(Step { slot, action });
            if matches!(action, Action::Commit | Action::RollBack) {
                open[usize::from(slot)] = false;
            }
        }
        program
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn programs_of_any_shape(steps in program(), cut in 0_u64..9) {
        let outcome = shrink::run(|| open(Level::Serializable, cut), &steps, 1);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

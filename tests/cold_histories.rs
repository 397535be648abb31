//! Values that leave memory and come back make no anomaly, and no transaction is refused because
//! of it.
//!
//! Method: that of `serializable`, over durable buckets under a limit which others nearly fill:
//! between the steps values are asked to leave, others are written, which makes more of them leave,
//! and checkpoints are made. Nothing may ever be missing, and every abort must be justified by
//! transactions alone; but for room, which open transactions may take away.
//!
//! Sizes come from the environment: `HISTORIES` for each one-thread run, `TRANSACTIONS` for each
//! run on real threads, `JOBS` and `SEED`.
#![cfg(feature = "testing")]

mod common;

use common::engine::{Engine, left};
use common::lockstep::Counts;
use common::program::{Profile, Window};
use common::rng::{env, seed};
use common::shrink::{self, Volume};
use common::store::{LEVELS, Level};
use common::threads::{self, Plan};
use palisade::{Durability, EvictionPolicy, Options};

/// The profile of these runs: one is asked to leave, or room is taken, after every fifth step.
fn profile(level: Level) -> Profile {
    Profile { departures: 20, ..Profile::at(level) }
}

fn options(durability: Durability, threads: bool) -> Options {
    Options::new().durability(durability).threads(threads).checkpoint_bytes_per_second(None)
}

fn show(name: &str, counts: &Counts) {
    eprintln!(
        "{name}: {} histories or rounds: {} commits, {} snapshots; refused for writes {}, cycles \
         {}, pivots {}, windows {}, budgets {}, room {}",
        counts.histories,
        counts.commits,
        counts.snapshots,
        counts.write_write,
        counts.cycles,
        counts.read_only_pivots,
        counts.windows_lost,
        counts.search_budgets,
        counts.no_room,
    );
    assert!(counts.no_room * 10 < counts.commits, "{name}: too tight: {counts:?}");
}

/// Runs histories on one thread. The keys are cut into two buckets at a different place each time.
fn histories(name: &str, profile: Profile, durability: Durability, policy: EvictionPolicy) {
    let histories = env("HISTORIES", 1_000);
    let volume = Volume { profile, histories, seed: seed(), jobs: env("JOBS", 1), brute_every: 16 };
    let open = |chunk: u64| {
        let cut = u8::try_from(chunk % 9).expect("is below nine");
        Engine::cold(options(durability, false), profile.level, cut, policy)
    };
    let before = left();
    let counts = shrink::volume(open, volume)
        .unwrap_or_else(|failure| panic!("{name}: {}", failure.report()));
    show(name, &counts);
    assert!(left() - before > histories / 10, "{name}: {} values left", left() - before);
    assert!(counts.histories >= histories);
}

#[test]
fn histories_over_values_that_leave() {
    for level in LEVELS {
        for policy in [EvictionPolicy::S3Fifo, EvictionPolicy::Random] {
            for durability in [Durability::Relaxed, Durability::Full] {
                let name = format!("{policy:?}, {durability:?}, {level:?}");
                histories(&name, profile(level), durability, policy);
            }
        }
    }
}

#[test]
fn histories_of_both_levels_with_many_snapshots_over_values_that_leave() {
    let profile = Profile { other_level: 30, read_only: 30, ..profile(Level::Serializable) };
    histories("both levels", profile, Durability::Relaxed, EvictionPolicy::Lru);
}

/// Runs transactions on eight threads. Some keys lie to either side of the cut.
fn real_threads(name: &str, profile: Profile, keys: u8, options: Options) {
    const THREADS: usize = 8;
    const BATCH: usize = 32;
    let rounds = env("TRANSACTIONS", 3_000).div_ceil((THREADS * BATCH) as u64);
    let window = Window { first: 1, keys };
    let plan = Plan { threads: THREADS, rounds, batch: BATCH, profile, window, seed: seed() };
    let cut = window.first + keys / 2;
    let store = Engine::cold(options, profile.level, cut, EvictionPolicy::S3Fifo);
    let counts = threads::run(&store, plan)
        .unwrap_or_else(|wrong| panic!("{name}, seed {:#x}: {wrong}", plan.seed));
    show(name, &counts);
    store.check();
    assert_eq!(counts.histories, rounds, "every round was judged");
    let (fetches, departures) = store.exchanged();
    eprintln!("{name}: {departures} values left, {fetches} came back");
    assert!(fetches > rounds && departures > rounds, "{name}: nothing leaves: {counts:?}");
}

#[test]
fn real_threads_over_values_that_leave() {
    for level in LEVELS {
        for durability in [Durability::Relaxed, Durability::Full] {
            for threads in [false, true] {
                let name = format!("{durability:?}, threads {threads}, {level:?}");
                real_threads(&name, profile(level), 4, options(durability, threads));
            }
        }
    }
}

#[test]
fn real_threads_with_many_snapshots_over_values_that_leave() {
    let profile = Profile { read_only: 30, ..profile(Level::Serializable) };
    real_threads("many snapshots", profile, 6, options(Durability::Relaxed, true));
}

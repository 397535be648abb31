//! Entries that leave by themselves make no anomaly, and no transaction is refused because of it.
//!
//! Method: that of `serializable`, over buckets whose entries leave all the time: under each policy
//! with room for a few of the eight keys, with room shared by a bucket of others, with entries
//! evicted one by one, with a time to live shorter than a thousandth of a second, and with that and
//! a policy at once; vacuums between the steps. On one thread the listener tells the oracle what
//! left, so that it knows what each snapshot must show, and an abort is justified by transactions
//! alone. On eight threads the judge allows what `leaving` says.
//!
//! Sizes come from the environment: `HISTORIES` for each one-thread run, `TRANSACTIONS` for each
//! run on real threads, `JOBS` and `SEED`.

#![allow(clippy::cast_precision_loss, reason = "rates are for people")]

mod common;

use std::time::{Duration, Instant};

use common::engine::{Cache, Engine, Room};
use common::lockstep::Counts;
use common::policies::POLICIES;
use common::program::{Profile, Window};
use common::rng::{env, seed};
use common::shrink::{self, Volume};
use common::store::{LEVELS, Level};
use common::threads::{self, Plan};
use palisade::EvictionPolicy;

/// Room for a handful of small transactions.
const FORGETFUL: usize = 600;

/// Much shorter than the histories on one store, and much longer than one of them.
const SHORT: Duration = Duration::from_micros(300);

/// The profile of these runs: a departure is asked for after every fifth step.
fn profile(level: Level) -> Profile {
    Profile { departures: 20, ..Profile::at(level) }
}

fn cache(policy: EvictionPolicy, room: Room) -> Cache {
    Cache { policy: Some(policy), room, ..Cache::default() }
}

fn show(name: &str, counts: &Counts, start: Instant) {
    let rate = counts.histories as f64 / start.elapsed().as_secs_f64();
    eprintln!(
        "{name}: {} histories or rounds, {rate:.0}/s: {} commits, {} snapshots; left {}, expired \
         {}; refused for writes {}, cycles {}, pivots {}, windows {}, budgets {}, room {}",
        counts.histories,
        counts.commits,
        counts.snapshots,
        counts.departures,
        counts.expired,
        counts.write_write,
        counts.cycles,
        counts.read_only_pivots,
        counts.windows_lost,
        counts.search_budgets,
        counts.no_room,
    );
}

/// Runs histories on one thread. The keys are cut into two buckets at a different place each time.
fn histories(name: &str, profile: Profile, cache: Cache) -> Counts {
    let histories = env("HISTORIES", 1_500);
    let volume = Volume { profile, histories, seed: seed(), jobs: env("JOBS", 1), brute_every: 16 };
    let start = Instant::now();
    let open = |chunk: u64| {
        let cut = u8::try_from(chunk % 9).expect("is below nine");
        Engine::caching(profile.level, cut, cache)
    };
    let counts = shrink::volume(open, volume)
        .unwrap_or_else(|failure| panic!("{name}: {}", failure.report()));
    show(name, &counts, start);
    assert!(counts.histories >= histories);
    counts
}

fn under_each_policy(room: Room, at_least: u64) {
    for level in LEVELS {
        for policy in POLICIES {
            let name = format!("{policy:?}, {room:?}, {level:?}");
            let counts = histories(&name, profile(level), cache(policy, room));
            let due = counts.histories * at_least / 100;
            assert!(counts.departures > due, "{name}: too few entries left: {counts:?}");
            assert!(room != Room::Unlimited || counts.no_room == 0, "{name}: {counts:?}");
            assert!(counts.no_room < counts.commits, "{name}: too tight: {counts:?}");
        }
    }
}

#[test]
fn histories_over_caches_that_are_full() {
    under_each_policy(Room::Each(4), 50);
}

#[test]
fn histories_over_caches_that_share_their_room() {
    under_each_policy(Room::Shared(9), 50);
}

#[test]
fn histories_whose_entries_are_evicted_one_by_one() {
    under_each_policy(Room::Unlimited, 25);
}

#[test]
fn histories_of_both_levels_with_many_snapshots_over_a_cache() {
    let profile = Profile { other_level: 30, read_only: 30, ..profile(Level::Serializable) };
    histories("both levels", profile, cache(EvictionPolicy::S3Fifo, Room::Each(5)));
}

#[test]
fn histories_whose_entries_expire() {
    for level in LEVELS {
        let cache = Cache { ttl: Some(SHORT), ..Cache::default() };
        let name = format!("time to live, {level:?}");
        let counts = histories(&name, profile(level), cache);
        assert!(counts.expired > 0 && counts.departures > 0 && counts.no_room == 0, "{counts:?}");
    }
}

#[test]
fn histories_whose_entries_expire_or_are_evicted() {
    let profile = profile(Level::Serializable);
    let cache = Cache { ttl: Some(SHORT), ..cache(EvictionPolicy::S3Fifo, Room::Each(4)) };
    let counts = histories("time to live and S3Fifo", profile, cache);
    assert!(counts.expired > 0 && counts.departures > 0, "{counts:?}");
}

/// What would be compared is forgotten all the time, with the records by which it would be.
#[test]
fn histories_whose_windows_are_given_up() {
    for level in LEVELS {
        for policy in [None, Some(EvictionPolicy::Lru), Some(EvictionPolicy::S3Fifo)] {
            let room = policy.map_or(Room::Unlimited, |_| Room::Each(4));
            let cache = Cache { policy, room, memory: Some(FORGETFUL), ..Cache::default() };
            let profile = Profile { read_only: 20, ..profile(level) };
            let counts = histories(&format!("windows, {policy:?}, {level:?}"), profile, cache);
            assert!(counts.windows_lost * 20 > counts.histories, "{counts:?}");
            assert!(policy.is_none() || counts.departures * 2 > counts.histories, "{counts:?}");
        }
    }
}

/// Runs transactions on eight threads. Some keys lie to either side of the cut.
fn real_threads(name: &str, profile: Profile, keys: u8, cache: Cache) -> Counts {
    const THREADS: usize = 8;
    const BATCH: usize = 32;
    let rounds = env("TRANSACTIONS", 3_000).div_ceil((THREADS * BATCH) as u64);
    let window = Window { first: 1, keys };
    let plan = Plan { threads: THREADS, rounds, batch: BATCH, profile, window, seed: seed() };
    let store = Engine::caching(profile.level, window.first + keys / 2, cache);
    let start = Instant::now();
    let counts = threads::run(&store, plan)
        .unwrap_or_else(|wrong| panic!("{name}, seed {:#x}: {wrong}", plan.seed));
    show(name, &counts, start);
    #[cfg(feature = "testing")]
    store.check();
    assert_eq!(counts.histories, rounds, "every round was judged");
    let total = rounds * (THREADS * BATCH) as u64;
    assert!(counts.commits * 20 > total, "{name}: hardly anything commits: {counts:?}");
    counts
}

#[test]
fn real_threads_over_caches_that_are_full() {
    for level in LEVELS {
        for policy in POLICIES {
            let name = format!("{policy:?}, full, {level:?}");
            let counts = real_threads(&name, profile(level), 4, cache(policy, Room::Each(3)));
            assert!(counts.departures > counts.histories, "{name}: {counts:?}");
        }
    }
}

#[test]
fn real_threads_over_caches_that_share_their_room() {
    for policy in POLICIES {
        let profile = Profile { read_only: 30, ..profile(Level::Serializable) };
        let counts = real_threads(
            &format!("{policy:?}, shared"),
            profile,
            6,
            cache(policy, Room::Shared(9)),
        );
        assert!(counts.departures > counts.histories, "{policy:?}: {counts:?}");
    }
}

#[test]
fn real_threads_whose_entries_are_evicted_one_by_one() {
    for level in LEVELS {
        for policy in POLICIES {
            let name = format!("{policy:?}, one by one, {level:?}");
            let counts = real_threads(&name, profile(level), 3, cache(policy, Room::Unlimited));
            assert!(counts.departures > counts.histories, "{name}: {counts:?}");
            assert_eq!(counts.no_room, 0, "{name}: {counts:?}");
        }
    }
}

#[test]
fn real_threads_whose_windows_are_given_up() {
    for level in LEVELS {
        for policy in POLICIES.map(Some).into_iter().chain([None]) {
            let room = policy.map_or(Room::Unlimited, |_| Room::Each(3));
            let cache = Cache { policy, room, memory: Some(FORGETFUL), ..Cache::default() };
            let profile = Profile { read_only: 20, ..profile(level) };
            let name = format!("windows, {policy:?}, {level:?}");
            let counts = real_threads(&name, profile, 3, cache);
            assert!(counts.windows_lost > 0, "{name}: {counts:?}");
        }
    }
}

#[test]
fn real_threads_whose_entries_expire() {
    for level in LEVELS {
        let cache = Cache { ttl: Some(SHORT), ..Cache::default() };
        let name = format!("time to live, {level:?}");
        let counts = real_threads(&name, profile(level), 4, cache);
        assert!(counts.departures > 0 && counts.no_room == 0, "{name}: {counts:?}");
    }
}

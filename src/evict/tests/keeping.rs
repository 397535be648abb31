//! What a keeper promises under any policy: nothing is lost or held twice, weights add up, what is
//! pinned stays, and no call takes long.

use super::super::shard::Census;
use super::super::{Picked, Resident};
use super::bucket::{Bucket, Record, records};
use super::traces::Rng;
use super::{EvictionPolicy, POLICIES};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

const KEYS: u64 = 40;

#[derive(Clone, Copy, Debug)]
enum Call {
    Read(u64),
    Write(u64, u64),
    Delete(u64),
    Pin(u64, bool),
    /// So many bytes; entries of whose keys this is a divisor cannot be evicted this time.
    Pick(u64, u64),
    Purge(usize),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => (0..KEYS).prop_map(Call::Read),
        8 => (0..KEYS, 1..500_u64).prop_map(|(key, weight)| Call::Write(key, weight)),
        3 => (0..KEYS).prop_map(Call::Delete),
        2 => (0..KEYS, any::<bool>()).prop_map(|(key, pinned)| Call::Pin(key, pinned)),
        3 => (1..3000_u64, 2..9_u64).prop_map(|(bytes, refused)| Call::Pick(bytes, refused)),
        1 => (0..60_usize).prop_map(Call::Purge),
    ]
}

fn apply(bucket: &Bucket<'_>, call: Call) {
    match call {
        Call::Read(key) => {
            bucket.read(key);
        }
        Call::Write(key, weight) => bucket.write(key, weight),
        Call::Delete(key) => bucket.delete(key),
        Call::Pin(key, pinned) => bucket.record(key).pinned.store(pinned, SeqCst),
        Call::Pick(bytes, refused) => pick(bucket, bytes, refused),
        Call::Purge(mut budget) => {
            let mut gone = Vec::new();
            bucket.keeper.purge(&mut budget, &mut gone);
            bucket.let_all_go(gone);
        }
    }
}

/// Evicts victims of `bytes`, but not those whose key is a multiple of `refused`.
fn pick(bucket: &Bucket<'_>, bytes: u64, refused: u64) {
    let mut picked = Picked::default();
    bucket.keeper.pick(bytes, &mut picked);
    let weights = picked.victims.iter().map(|victim| victim.weight());
    assert_eq!(picked.bytes, weights.sum::<u64>());
    let without_last = picked.victims.iter().rev().skip(1).map(|victim| victim.weight());
    assert!(without_last.sum::<u64>() < bytes, "more victims than were asked for");
    for victim in picked.victims {
        assert!(victim.weight() > 0 && !victim.is_pinned(), "{victim:?} is no victim");
        if victim.key % refused == 0 {
            bucket.keeper.readmit(victim);
        } else {
            bucket.delete(victim.key);
            bucket.let_go(victim);
        }
    }
    bucket.let_all_go(picked.gone);
}

/// The keeper holds every entry that is marked as held, once.
fn check_count(bucket: &Bucket<'_>) {
    let held = bucket.records.iter().filter(|record| record.held.load(SeqCst)).count();
    let census = bucket.keeper.census();
    assert_eq!(census.entries + census.pinned, held);
    let live = bucket.records.iter().filter(|record| record.weight() > 0);
    assert!(live.clone().all(|record| record.held.load(SeqCst)), "an entry was lost");
}

/// After all was purged, picked and drained nothing is left, and what was picked adds up.
fn check_end(bucket: &Bucket<'_>) {
    bucket.records.iter().for_each(|record| record.pinned.store(false, SeqCst));
    let used: u64 = bucket.records.iter().map(Resident::weight).sum();
    assert_eq!(used, bucket.used.load(SeqCst));
    let mut gone = Vec::new();
    // The first time it goes on where it was.
    while !bucket.keeper.purge(&mut 7, &mut gone) {}
    while !bucket.keeper.purge(&mut 7, &mut gone) {}
    bucket.let_all_go(gone);
    let live = bucket.records.iter().filter(|record| record.weight() > 0).count();
    let census = bucket.keeper.census();
    assert_eq!(census.entries + census.pinned, live, "something gone was not purged");
    let mut picked = Picked::default();
    let mut victims = usize::MAX;
    while picked.victims.len() != victims {
        victims = picked.victims.len();
        bucket.keeper.pick(u64::MAX, &mut picked);
    }
    assert_eq!(picked.bytes, used);
    let Census { entries: 0, weight: 0, pinned: 0, pinned_weight: 0, .. } = bucket.keeper.census()
    else {
        panic!("{:?} is left", bucket.keeper.census());
    };
    for victim in &picked.victims {
        bucket.delete(victim.key);
        bucket.let_go(victim);
    }
    assert!(bucket.records.iter().all(|record| !record.held.load(SeqCst)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is called in whatever order.
    #[test]
    fn nothing_is_lost_or_held_twice(calls in vec(call(), 0..400), shards in 1..4_usize) {
        for (policy, _) in POLICIES {
            let records = records(KEYS);
            let bucket = Bucket::new(policy, shards, u64::MAX, &records);
            for call in &calls {
                apply(&bucket, *call);
                check_count(&bucket);
            }
            check_end(&bucket);
        }
    }
}

#[test]
fn threads_lose_nothing() {
    for (policy, _) in POLICIES {
        let records = records(500);
        let bucket = Bucket::new(policy, 4, 40_000, &records);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let bucket = &bucket;
                scope.spawn(move || live_a_while(bucket, Rng::new(seed)));
            }
        });
        check_count(&bucket);
        check_end(&bucket);
    }
}

fn live_a_while(bucket: &Bucket<'_>, mut rng: Rng) {
    for _ in 0..30_000 {
        let key = rng.below(rng.clone().below(500) + 1);
        match rng.below(40) {
            0..=2 => bucket.delete(key),
            3 => bucket.record(key).pinned.store(rng.below(4) == 0, SeqCst),
            4 => apply(bucket, Call::Purge(50)),
            5 => {
                bucket.make_room(0);
                bucket.write(key, 1 + rng.below(400));
            }
            _ => {
                bucket.access(key, 1 + rng.below(400));
            }
        }
    }
}

#[test]
fn drain_hands_out_everything_once() {
    for (policy, _) in POLICIES {
        let records = records(3000);
        let bucket = filled(policy, &records);

        records.iter().take(900).for_each(|record| record.pinned.store(true, SeqCst));
        bucket.keeper.pick(1000, &mut Picked::default());
        let left = bucket.keeper.census();
        let mut keys = Vec::new();
        bucket.keeper.drain(|record| keys.push(record.key));
        assert_eq!(keys.len(), left.entries + left.pinned);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), left.entries + left.pinned, "{policy:?}: one was handed out twice");
        assert_eq!(bucket.keeper.census().entries, 0);
    }
}

fn filled(policy: EvictionPolicy, records: &[Record]) -> Bucket<'_> {
    let bucket = Bucket::new(policy, 1, u64::MAX, records);
    (0..records.len() as u64).for_each(|key| bucket.write(key, 100));
    bucket
}

#[test]
fn manual_holds_nothing_and_picks_nothing() {
    let records = records(10);
    let bucket = filled(EvictionPolicy::Manual, &records);
    let mut picked = Picked::default();
    bucket.keeper.pick(1, &mut picked);
    assert!(picked.victims.is_empty() && picked.gone.is_empty());
    assert_eq!(bucket.keeper.census().entries, 0);
    assert!(bucket.keeper.purge(&mut 1, &mut Vec::new()));
}

#[test]
fn pinned_entries_are_met_once() {
    for (policy, _) in POLICIES {
        let records = records(100_000);
        let bucket = filled(policy, &records);
        records.iter().skip(1000).for_each(|record| record.pinned.store(true, SeqCst));
        let (mut calls, mut found, mut met) = (0, 0, 0);
        while found < 1000 {
            let mut picked = Picked::default();
            bucket.keeper.pick(1, &mut picked);
            (calls, met) = (calls + 1, met + picked.pinned);
            found += picked.victims.len();
            assert!(picked.victims.iter().all(|victim| !victim.is_pinned()));
            assert!(picked.steps <= 10_000, "{policy:?}: {} steps in one call", picked.steps);
        }
        assert!(calls < 1100 && met <= 99_000, "{policy:?}: {calls} calls, {met} met");
        let census = bucket.keeper.census();
        assert_eq!((census.pinned, census.pinned_weight), (met, 100 * met as u64));
        // Those that are pinned no more can go, wherever they stand.
        let last = records.iter().rev().find(|record| record.held.load(SeqCst)).unwrap();
        last.pinned.store(false, SeqCst);
        let found = (0..100).any(|_| {
            let mut picked = Picked::default();
            bucket.keeper.pick(1, &mut picked);
            picked.victims.first().is_some_and(|victim| victim.key == last.key)
        });
        assert!(found, "{policy:?}: the entry that was unpinned is not found again");
    }
}

#[test]
fn a_victim_is_found_soon_where_everything_is_hot() {
    for (policy, _) in POLICIES {
        let records = records(100_000);
        let bucket = filled(policy, &records);
        for _ in 0..40 {
            (0..100_000).for_each(|key| {
                bucket.read(key);
            });
        }
        let mut picked = Picked::default();
        for _ in 0..100 {
            let (before, victims) = (picked.steps, picked.victims.len());
            bucket.keeper.pick(1, &mut picked);
            assert_eq!(picked.victims.len(), victims + 1, "{policy:?}");
            assert!(picked.steps - before <= 5000, "{policy:?}: {}", picked.steps - before);
        }
    }
}

#[test]
fn a_hot_entry_is_not_written() {
    for (policy, _) in POLICIES {
        let records = records(100);
        let bucket = filled(policy, &records);
        (0..100).for_each(|_| {
            bucket.read(7);
        });
        let heat = bucket.record(7).heat().unwrap();
        assert_eq!(bucket.keeper.touch(heat), None, "{policy:?}");
    }
}

#[test]
fn picks_come_in_batches_and_purges_in_budgets() {
    let records = records(10_000);
    let bucket = filled(EvictionPolicy::S3Fifo, &records);
    let mut picked = Picked::default();
    bucket.keeper.pick(u64::MAX, &mut picked);
    assert_eq!(picked.victims.len(), 64);
    (0..10_000).for_each(|key| bucket.delete(key));
    let (mut gone, mut calls) = (Vec::new(), 1);
    while !bucket.keeper.purge(&mut 1000, &mut gone) {
        assert!(gone.len() <= calls * 1300);
        calls += 1;
    }
    assert!(calls >= 8);
    assert_eq!(gone.len(), 10_000 - 64);
    assert_eq!(bucket.keeper.census().entries, 0);
}

#[test]
fn memory_for_keeping_is_bounded() {
    for (policy, _) in POLICIES {
        let records = records(300_000);
        let bucket = Bucket::new(policy, 1, 3_000_000, &records);
        let mut rng = Rng::new(3);
        let mut most = 0;
        for at in 0..1_000_000_u64 {
            bucket.access(rng.below(300_000), 100);
            if at % 10_000 == 0 {
                most = most.max(bucket.keeper.census().overhead);
            }
        }
        let census = bucket.keeper.census();
        assert!((29_990..=30_000).contains(&census.entries), "{policy:?}: {census:?}");
        // A slot of 16 bytes, ghosts of up to 13 and twice as many for ARC; and what does not grow
        // with the entries: segments that are not full, units.
        assert!(most < 36 * 30_000, "{policy:?}: {most} bytes for 30 000 entries");
        println!("{policy:?}: {most} bytes at most, at the end {census:?}");
    }
}

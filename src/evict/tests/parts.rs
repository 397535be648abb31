//! Rings, ghosts, counts and ticks by themselves.

use super::super::ghosts::Ghosts;
use super::super::resident::{Resident, Slot};
use super::super::ring::Ring;
use super::super::{Picked, adaptive, frequency, recency, s3_fifo};
use super::EvictionPolicy;
use super::bucket::{Bucket, Record, records};
use super::traces::Rng;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

fn slot(record: &Record) -> Slot<&Record> {
    Slot { resident: record, weight: record.key + 1 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A ring is a queue, also while it is purged.
    #[test]
    fn ring_is_a_queue(calls in vec((0..8_u8, 0..2000_u64), 0..3000)) {
        let records = records(2000);
        let bucket = Bucket::new(EvictionPolicy::Manual, 1, u64::MAX, &records);
        let (mut ring, mut model) = (Ring::<&Record>::default(), VecDeque::new());
        let revive = || (0..2000).for_each(|key| bucket.write(key, 1));
        revive();
        for (call, key) in calls {
            let record = bucket.record(key);
            match call {
                0 => prop_assert_eq!(
                    ring.pop_front().map(|slot| slot.resident.key), model.pop_front()),
                1 => prop_assert_eq!(
                    ring.pop_back().map(|slot| slot.resident.key), model.pop_back()),
                2 => {
                    ring.push_front(slot(record));
                    model.push_front(key);
                }
                3 if key % 16 == 0 => {
                    // Some die, and a part of them is purged.
                    (0..500).for_each(|dead| bucket.delete((key + 7 * dead) % 2000));
                    let mut gone = Vec::new();
                    ring.purge(&mut 300, &mut gone);
                    // A key that is in the ring twice is gone twice.
                    ring.purge(&mut 100_000, &mut gone);
                    ring.purge(&mut 100_000, &mut gone);
                    let before = model.len();
                    model.retain(|key| bucket.record(*key).weight() > 0);
                    prop_assert_eq!(before - model.len(), gone.len());
                    revive();
                }
                _ => {
                    ring.push_back(slot(record));
                    model.push_back(key);
                }
            }
            prop_assert_eq!(ring.len(), model.len());
            prop_assert_eq!(ring.weight(), model.iter().map(|key| key + 1).sum::<u64>());
        }
        while let Some(slot) = ring.pop_front() {
            prop_assert_eq!(Some(slot.resident.key), model.pop_front());
        }
        prop_assert!(model.is_empty());
    }
}

#[test]
fn any_slot_is_taken_with_the_same_chance() {
    let records = records(1000);
    let mut rng = Rng::new(1);
    let mut taken = vec![0_u32; 1000];
    for _ in 0..2000 {
        let mut slots = Ring::default();
        for record in &records {
            slots.push_back(slot(record));
        }
        for _ in 0..50 {
            let below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
            let slot = slots.swap_remove(below).unwrap();
            taken[usize::try_from(slot.resident.key).unwrap()] += 1;
        }
        assert_eq!(slots.len(), 950);
    }
    // 100 each, with a deviation of 10; of 1000 none is six deviations away.
    assert!(taken.iter().all(|count| (40..160).contains(count)), "{taken:?}");
}

#[test]
fn ghosts_remember_as_many_bytes_as_they_may() {
    let mut ghosts = Ghosts::default();
    for key in 0..100_000 {
        ghosts.insert(key, 100, 1_000_000, 10_000);
        assert!(ghosts.bytes() <= 1_000_000);
    }
    // A unit is a 256th: 40 entries or fewer.
    assert!((9_960..=10_000).contains(&ghosts.count()), "{}", ghosts.count());
    let young = (90_100..100_000).filter(|key| ghosts.remove(*key, 100)).count();
    assert!(young > 9_800, "{young} of 9900 are remembered");
    let strangers = (0..90_000).filter(|key| ghosts.remove(*key, 100)).count();
    assert!(strangers < 10, "{strangers} of 90 000 strangers are taken for ghosts");
}

#[test]
fn ghosts_forget_what_came_back() {
    let mut ghosts = Ghosts::default();
    let (mut found, mut risen) = (0, 0);
    for key in 0..100_000 {
        ghosts.insert(key, 100, 1_000_000, 10_000);
        if key % 2 == 0 {
            found += u32::from(ghosts.remove(key, 100));
            risen += u32::from(ghosts.remove(key, 100));
        }
    }
    assert_eq!(found, 50_000);
    assert!(risen < 8, "{risen} of 50 000 are still taken for ghosts");
    // Those that came back take no room: the others go back twice as far.
    let old = (81_000..82_000).filter(|key| ghosts.remove(*key, 100)).count();
    assert!(old > 480, "{old} of 500 are remembered");
}

#[test]
fn ghosts_do_not_rise_again() {
    let mut ghosts = Ghosts::default();
    (0..1000).for_each(|key| ghosts.insert(key, 100, 100_000, 1000));
    (1000..3000).for_each(|key| ghosts.insert(key, 100, 100_000, 1000));
    // The names of units come round every 65 thousand ghosts.
    let mut risen = 0;
    for key in 3000..300_000 {
        ghosts.insert(key, 100, 100_000, 1000);
        if key % 1000 == 0 {
            risen += (0..1000).filter(|key| ghosts.remove(*key, 100)).count();
        }
    }
    // In 300 thousand questions a dozen strangers are mistaken.
    assert!(risen < 40, "{risen} ghosts rose again");
    assert!(ghosts.overhead() < 32 * 1024);
}

#[test]
fn ghosts_give_room_back() {
    let mut ghosts = Ghosts::default();
    (0..1_000_000).for_each(|key| ghosts.insert(key, 1, u64::MAX, 1000));
    let large = ghosts.overhead();
    ghosts.trim(1000);
    (0..2000).for_each(|key| ghosts.insert(key, 1, 1000, 1000));
    assert!(ghosts.count() <= 1000);
    assert!(ghosts.overhead() * 10 < large, "{} after {large}", ghosts.overhead());
}

#[test]
fn heat_ends_where_it_should() {
    let end = |touch: &dyn Fn(u8) -> Option<u8>| {
        let (mut heat, mut writes) = (0, 0);
        while let Some(hotter) = touch(heat) {
            (heat, writes) = (hotter, writes + 1);
        }
        (heat, writes)
    };
    assert_eq!(end(&s3_fifo::touch), (3, 3));
    assert_eq!(end(&|heat| recency::touch(heat, 1000)), (104, 1));
    assert_eq!(end(&|heat| frequency::touch(heat, 5)), (5 << 5 | 31, 31));
    assert_eq!(end(&|heat| adaptive::touch(heat, 1000)), (128 + 104, 1));
}

#[test]
fn old_favourites_leave_in_a_few_eras() {
    let records = records(10_000);
    let bucket = Bucket::new(EvictionPolicy::Lfu, 1, 100_000, &records);
    for _ in 0..50 {
        (0..100).for_each(|key| {
            bucket.access(key, 100);
        });
    }
    // 1000 fit; an era is 5000 admissions. New favourites are read now and then.
    let mut rng = Rng::new(5);
    for at in 0..30_000 {
        bucket.access(1000 + rng.below(9000), 100);
        bucket.access(500 + at % 300, 100);
    }
    let left = (0..100).filter(|key| bucket.record(*key).weight() > 0).count();
    assert_eq!(left, 0, "{left} of 100 old favourites are left");
}

#[test]
fn order_of_age_survives_a_long_time_without_evictions() {
    for policy in [EvictionPolicy::Lru, EvictionPolicy::Arc] {
        let records = records(10_000);
        let bucket = Bucket::new(policy, 1, u64::MAX, &records);
        for key in 0..5000 {
            bucket.write(key, 100);
            bucket.read(key);
        }
        // Many ticks pass, far more than a heat can count; what comes goes at once.
        for at in 0..2_000_000 {
            let key = 5000 + at % 1000;
            bucket.write(key, 100);
            bucket.delete(key);
            if at % 1000 == 999 {
                let mut gone = Vec::new();
                while !bucket.keeper.purge(&mut 100_000, &mut gone) {}
                bucket.let_all_go(gone);
            }
        }
        // Then these are read, and the others are to go first.
        (2500..5000).for_each(|key| {
            bucket.read(key);
        });
        let mut picked = Picked::default();
        while picked.victims.len() < 2500 {
            bucket.keeper.pick(u64::MAX, &mut picked);
        }
        let victims = || picked.victims.iter().map(|victim| victim.key).take(2500);
        let right = victims().filter(|key| *key < 2500).count();
        assert!(right > 2400, "{policy:?}: {right} of the first 2500 victims are the old ones");
        let astray = victims().zip(0..).map(|(key, at)| key.abs_diff(at)).sum::<u64>() / 2500;
        assert!(astray < 50, "{policy:?}: victims go {astray} places early or late on average");
    }
}

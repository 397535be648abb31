//! Aim: threads that write and read side by side see each their own keys exactly, and everybody
//! else's in order and at most once.
//! Method: each thread owns the keys of one residue and keeps a model of them; a sweeper removes
//! what the owners gave up.

use super::super::SkipList;
use super::super::shape::{Shape, Wide};
use super::{Record, Tiny, collector, remove_all};
use crate::epoch::Collector;
use crate::sync::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::thread::ScopedJoinHandle;

const THREADS: u64 = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The value of an entry that its owner gave up.
type Mark = AtomicBool;

fn worker<S: Shape>(
    list: &SkipList<Record<u64, Mark>, S>,
    collector: &Collector,
    thread: u64,
    rounds: usize,
    keys: u64,
) {
    let mut random = Random(0x9e37 + thread * 77);
    let mut model = BTreeMap::new();
    for _ in 0..rounds {
        let key = random.below(keys) * THREADS + thread;
        let guard = collector.pin();
        match random.below(10) {
            0..4 => {
                let inserted = list.insert(Record::new(key, Mark::new(false)), &guard);
                if model.get(&key) == Some(&true) {
                    assert!(inserted.is_err(), "{key} is there");
                } else if inserted.is_ok() {
                    model.insert(key, true);
                }
            }
            4..6 => {
                if model.insert(key, false) == Some(true) {
                    let entry = list.get(&key, &guard).expect("it is ours and was not given up");
                    entry.value.store(true, Ordering::Release);
                } else {
                    model.remove(&key);
                }
            }
            6..9 => {
                let found = list.get(&key, &guard);
                if model.get(&key) == Some(&true) {
                    assert!(found.is_some(), "{key} was lost");
                } else if let Some(found) = found {
                    assert!(found.value.load(Ordering::Acquire), "{key} came back");
                }
            }
            _ => scan(list, &model, key, thread, random.below(2) == 0, &guard),
        }
    }
}

fn scan<S: Shape>(
    list: &SkipList<Record<u64, Mark>, S>,
    model: &BTreeMap<u64, bool>,
    from: u64,
    thread: u64,
    forward: bool,
    guard: &crate::epoch::Guard<'_>,
) {
    let to = from + 60;
    let cursor = list.range((Bound::Included(&from), Bound::Excluded(&to)), guard);
    let mut seen: Vec<u64> = if forward {
        cursor.map(|it| it.key).collect()
    } else {
        cursor.rev().map(|it| it.key).collect()
    };
    if !forward {
        seen.reverse();
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.iter().all(|key| (from..to).contains(key)));
    let alive = model.range(from..to).filter(|(_, alive)| **alive).map(|(key, _)| *key);
    for key in alive {
        assert!(seen.binary_search(&key).is_ok(), "{key} was missed by thread {thread}");
    }
}

fn storm<S: Shape>(rounds: usize, keys: u64) {
    let collector = collector();
    let list = SkipList::<Record<u64, Mark>, S>::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (list, collector) = (&list, &collector);
                scope.spawn(move || worker(list, collector, thread, rounds, keys))
            })
            .collect();
        scope.spawn(|| {
            let mut resume = None;
            while !is_over.load(Ordering::Acquire) {
                let guard = collector.pin();
                let gone = |it: &Record<u64, Mark>| it.value.load(Ordering::Acquire);
                let kill = |it: &Record<u64, Mark>| (gone(it) && it.kill()).then_some(0);
                resume = list.sweep(resume, 50, gone, kill, &guard).resume;
                drop(guard);
                collector.collect();
            }
        });
        let results: Vec<_> = workers.into_iter().map(ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Release);
        for result in results {
            result.expect("a worker failed");
        }
    });
    let guard = collector.pin();
    list.check(&guard);
    let given_up =
        |key: &u64| list.get(key, &guard).is_some_and(|it| it.value.load(Ordering::Acquire));
    remove_all(&list, usize::MAX, given_up, &guard);
    list.check(&guard);
}

const ROUNDS: usize = if cfg!(miri) { 60 } else { 40_000 };

#[test]
fn threads_keep_their_keys_in_tiny_segments() {
    storm::<Tiny>(ROUNDS, 60);
    storm::<Tiny>(ROUNDS, 1000);
}

#[test]
fn threads_keep_their_keys_in_wide_segments() {
    storm::<Wide>(ROUNDS, 5000);
}

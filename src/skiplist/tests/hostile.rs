//! Aim: keys that misbehave cause wrong answers or a panic, never worse.
//! Method: orders that contradict themselves; panics from `cmp`, `clone` and `drop` at every
//! moment; counts of what is alive. Run it under a sanitizer to see what "worse" would be.

use super::super::SkipList;
use super::{Record, Tiny, collector, remove_all};
use crate::sync::{Arc, AtomicUsize, Ordering};
use std::cell::Cell;
use std::cmp;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Comparisons, clones or drops left until one of them panics or lies; zero is never.
    static FUSE: Cell<u64> = const { Cell::new(0) };
}

fn burn(what: &str) {
    FUSE.with(|fuse| {
        if fuse.get() > 0 {
            fuse.set(fuse.get() - 1);
            assert!(fuse.get() > 0 || std::thread::panicking(), "{what} panics");
        }
    });
}

/// A key that counts how many of it are alive and panics when the fuse has burnt down.
#[derive(Debug)]
struct Bomb(u64, Arc<AtomicUsize>);

impl Bomb {
    fn new(number: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(number, Arc::clone(alive))
    }
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        burn("clone");
        Self::new(self.0, &self.1)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
        burn("drop");
    }
}

impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bomb {}

impl PartialOrd for Bomb {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bomb {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        burn("cmp");
        self.0.cmp(&other.0)
    }
}

#[test]
fn panics_from_user_code_leave_the_index_whole() {
    const KEYS: u64 = 60;
    let alive = Arc::new(AtomicUsize::new(0));
    let rounds = if cfg!(miri) { 30 } else { 400 };
    for round in 0..rounds {
        let collector = collector();
        let list = SkipList::<Record<Bomb>, Tiny>::new();
        for number in 0..KEYS {
            let key = number * 37 % KEYS;
            // The fuse burns at another place in each round and step.
            FUSE.set((round + number * 7) % 50 + 1);
            let result = catch_unwind(AssertUnwindSafe(|| {
                list.insert(Record::new(Bomb::new(key, &alive), key), &collector.pin()).is_ok()
            }));
            FUSE.set(0);
            let guard = collector.pin();
            list.check(&guard);
            let key = Bomb::new(key, &alive);
            // A panic may come when the entry is in already, but never takes it out again.
            assert!(list.get(&key, &guard).is_some() || result.is_err());
        }
        FUSE.set(round % 200 + 1);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            remove_all(&list, 10, |key| key.0 % 3 > 0, &collector.pin())
        }));
        FUSE.set(0);
        remove_all(&list, 10, |key| key.0 % 3 > 0, &collector.pin());
        list.check(&collector.pin());
        FUSE.set(round % 40);
        let _ = catch_unwind(AssertUnwindSafe(|| collector.collect()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(list)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(collector)));
        FUSE.set(0);
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0, "every key is dropped once");
}

/// A key whose order changes its mind.
#[derive(Clone, Debug)]
struct Liar(u64);

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Liar {}

impl PartialOrd for Liar {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Liar {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        let mood = FUSE.with(|fuse| {
            fuse.set(fuse.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1234_5677));
            fuse.get() >> 33
        });
        match mood % 7 {
            0 => cmp::Ordering::Less,
            1 => cmp::Ordering::Greater,
            2 => other.0.cmp(&self.0),
            _ => self.0.cmp(&other.0),
        }
    }
}

#[test]
fn inconsistent_order_neither_hangs_nor_breaks_memory() {
    let rounds = if cfg!(miri) { 3 } else { 100 };
    for round in 0..rounds {
        let collector = collector();
        let list = SkipList::<Record<Liar, String>, Tiny>::new();
        FUSE.set(round * 99 + 1);
        for number in 0..300 {
            let guard = collector.pin();
            let key = Liar(number * 61 % 300);
            let _ = list.insert(Record::new(key.clone(), format!("{number}")), &guard);
            assert!(list.get(&key, &guard).is_none_or(|it| !it.value.is_empty()));
            if number % 10 == 0 {
                let bounds = (Bound::Included(&key), Bound::Unbounded);
                let total: usize = list.range(bounds, &guard).map(|it| it.value.len()).sum();
                let bounds = (Bound::Unbounded, Bound::Excluded(&key));
                let back: usize = list.range(bounds, &guard).rev().map(|it| it.value.len()).sum();
                assert!(total + back < usize::MAX);
            }
            if number % 50 == 0 {
                remove_all(&list, usize::MAX, |key| key.0 % 4 > 0, &guard);
            }
        }
        drop(list);
        FUSE.set(0);
    }
}

#[test]
fn every_entry_is_dropped_once() {
    let alive = Arc::new(AtomicUsize::new(0));
    let collector = collector();
    let list = SkipList::<Record<Bomb>, Tiny>::new();
    for number in 0..500 {
        let key = Bomb::new(number * 7 % 250, &alive);
        assert_eq!(list.insert(Record::new(key, number), &collector.pin()).is_ok(), number < 250);
    }
    assert_eq!(remove_all(&list, 20, |key| key.0 % 2 == 0, &collector.pin()), 125);
    list.check(&collector.pin());
    drop(list);
    drop(collector);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

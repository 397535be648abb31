//! Models of the index, over the shipped files, with leaves and segments of two.
//!
//! An entry carries a cell that every look at it reads and that its destructor writes: an entry
//! that is seen before it was published, or freed too early, is a data race on the cell. Each
//! role keeps to its own slot of the collector, and nothing is freed before the end: what the
//! epoch does is modelled in `epoch_models`.

use crate::epoch::{Collector, Guard};
use crate::play::{Role, play};
use crate::skiplist::shape::Shape;
use crate::skiplist::{Entry, SkipList};
use crate::slab::Boxed;
use crate::sync::{UnsafeCell, be_the_only_writer};
use std::ops::Bound;
use std::sync::Mutex as Notes;
use std::sync::atomic::{AtomicBool as Flag, Ordering::Relaxed};

enum Two {}

impl Shape for Two {
    const LEAF: usize = 2;
    const TAIL: usize = 1;
    const SEGMENT: usize = 2;
    type Tower<L: Send + Sync> = [L; 2];
}

struct Item {
    key: u64,
    cell: UnsafeCell<()>,
    /// Not part of the model: what it stands for is the owner's own business.
    dead: Flag,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Item {}
// SAFETY: as for `Sync`.
unsafe impl Send for Item {}

impl Entry for Item {
    type Key = u64;

    fn key(&self) -> &u64 {
        self.cell.with(|_| ());
        &self.key
    }

    fn is_dead(&self) -> bool {
        self.cell.with(|_| ());
        self.dead.load(Relaxed)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.cell.with_mut(|_| ());
    }
}

struct Stage {
    // Dropped before the collector: nobody is inside.
    list: SkipList<Item, Two>,
    collector: Collector,
    inserted: Notes<usize>,
}

impl Stage {
    fn new(keys: &[u64]) -> Self {
        let collector = Collector::with_slots(4);
        let list = SkipList::new();
        for key in keys {
            assert!(list.insert(item(*key), &collector.pin()).is_ok());
        }
        Self { list, collector, inserted: Notes::new(0) }
    }

    fn act(&self, work: impl FnOnce(&Guard<'_>)) {
        work(&self.collector.pin());
    }

    fn insert(&self, key: u64) {
        self.act(|guard| {
            let inserted = self.list.insert(item(key), guard).is_ok();
            *self.inserted.lock().unwrap() += usize::from(inserted);
            assert!(self.list.get(&key, guard).is_some(), "{key} was lost at once");
        });
    }

    fn expect(&self, keys: &[u64]) {
        self.act(|guard| {
            for key in keys {
                assert!(self.list.get(key, guard).is_some(), "{key} was lost");
            }
        });
    }

    /// `insert` where nobody else writes.
    fn insert_alone(&self, key: u64) {
        be_the_only_writer();
        self.insert(key);
    }

    /// `remove` where nobody else writes.
    fn remove_alone(&self, gone: fn(u64) -> bool) {
        be_the_only_writer();
        self.remove(gone);
    }

    fn remove(&self, gone: fn(u64) -> bool) {
        self.act(|guard| {
            let dies = |item: &Item| gone(item.key) && !item.dead.swap(true, Relaxed);
            let kill = |item: &Item| dies(item).then_some(0);
            self.list.sweep(None, usize::MAX, |item| gone(item.key), kill, guard);
        });
    }

    fn keys(&self, forward: bool) -> Vec<u64> {
        let mut keys = Vec::new();
        self.act(|guard| {
            let mut cursor = self.list.range::<u64>((Bound::Unbounded, Bound::Unbounded), guard);
            let visit = |item: &Item| {
                keys.push(item.key);
                true
            };
            if forward {
                cursor.walk(visit);
            } else {
                cursor.walk_back(visit);
                keys.reverse();
            }
        });
        keys
    }

    fn ends_with(&self, keys: &[u64]) {
        let guard = &self.collector.pin();
        self.list.check(guard);
        let all = self.list.range::<u64>((Bound::Unbounded, Bound::Unbounded), guard);
        assert_eq!(all.map(|item| item.key).collect::<Vec<_>>(), keys);
    }
}

fn item(key: u64) -> Boxed<Item> {
    Boxed::new(Item { key, cell: UnsafeCell::new(()), dead: Flag::new(false) })
}

/// Keys that come once and in order, with all of `must` among them.
fn seen(keys: &[u64], must: &[u64]) {
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?} are not in order");
    assert!(must.iter().all(|key| keys.contains(key)), "{keys:?} lack some of {must:?}");
}

/// A: a writer appends to a leaf while one reader looks for the new key and one for an old one.
pub fn append_and_find(main: usize) {
    const ROLES: [Role<Stage>; 3] = [
        |stage| stage.insert_alone(40),
        |stage| {
            stage.act(|guard| {
                if let Some(item) = stage.list.get(&40, guard) {
                    assert_eq!(*item.key(), 40);
                    assert!(stage.list.get(&40, guard).is_some(), "40 was there before");
                }
            });
        },
        |stage| stage.expect(&[30]),
    ];
    let stage = || Stage::new(&[10, 20, 30]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 30, 40]));
}

/// A: a key goes into the tail of a leaf, before the rest, while a cursor walks over it.
pub fn append_and_walk(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.insert_alone(5), |stage| seen(&stage.keys(true), &[10, 20, 30])];
    // The split left room beside 10, which nothing bounds below.
    let stage = || Stage::new(&[10, 30, 20]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[5, 10, 20, 30]));
}

/// B: a segment splits while another key goes into its upper half and readers look for old keys.
pub fn split_and_find(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.insert_alone(25), |stage| stage.expect(&[40, 20])];
    let stage = || Stage::new(&[10, 20, 30, 40]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 25, 30, 40]));
}

/// B: two inserters, one of which splits the segment under the other.
pub fn split_and_insert(main: usize) {
    const ROLES: [Role<Stage>; 2] = [|stage| stage.insert(25), |stage| stage.insert(35)];
    let stage = || Stage::new(&[10, 20, 30, 40]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 25, 30, 35, 40]));
}

/// E: a leaf is replaced by a larger one while readers look for its keys.
pub fn replace_and_find(main: usize) {
    const ROLES: [Role<Stage>; 3] = [
        |stage| stage.insert_alone(20),
        |stage| stage.expect(&[10]),
        |stage| {
            stage.act(|guard| {
                stage.list.get(&20, guard);
            });
        },
    ];
    play(3, main, || Stage::new(&[10]), &ROLES, |stage| stage.ends_with(&[10, 20]));
}

/// E: a leaf is split inside its segment while readers look for its keys.
pub fn rebuild_and_find(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.insert_alone(15), |stage| stage.expect(&[20, 10])];
    play(3, main, || Stage::new(&[10, 20]), &ROLES, |stage| stage.ends_with(&[10, 15, 20]));
}

/// F: a key dies while it is inserted anew: one or the other entry is there, and in the end one.
pub fn kill_and_insert(main: usize) {
    const ROLES: [Role<Stage>; 2] = [
        |stage| stage.remove(|key| key == 20),
        |stage| {
            stage.act(|guard| {
                let fresh = stage.list.insert(item(20), guard).is_ok();
                *stage.inserted.lock().unwrap() += usize::from(fresh);
            });
        },
    ];
    play(
        3,
        main,
        || Stage::new(&[10, 20]),
        &ROLES,
        |stage| {
            // The sweep may have killed the new entry as well as the old one, or come first.
            stage.list.check(&stage.collector.pin());
        },
    );
}

/// G: of two insertions of one key one succeeds.
pub fn same_key_twice(main: usize) {
    const ROLES: [Role<Stage>; 2] = [|stage| stage.insert(20), |stage| stage.insert(20)];
    play(
        3,
        main,
        || Stage::new(&[10]),
        &ROLES,
        |stage| {
            assert_eq!(*stage.inserted.lock().unwrap(), 1, "exactly one insertion won");
            stage.ends_with(&[10, 20]);
        },
    );
}

/// G: the same where there is room, and nothing but the leaf's state tells of the first.
pub fn same_key_twice_in_a_tail(main: usize) {
    const ROLES: [Role<Stage>; 2] = [|stage| stage.insert(5), |stage| stage.insert(5)];
    play(
        3,
        main,
        || Stage::new(&[10, 30, 20]),
        &ROLES,
        |stage| {
            assert_eq!(*stage.inserted.lock().unwrap(), 1, "exactly one insertion won");
            stage.ends_with(&[5, 10, 20, 30]);
        },
    );
}

/// B: a new last segment comes up, and another key goes behind all others.
pub fn append_at_the_edge(main: usize) {
    const ROLES: [Role<Stage>; 2] = [|stage| stage.insert(50), |stage| stage.insert(60)];
    let stage = || Stage::new(&[10, 20, 30, 40]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 30, 40, 50, 60]));
}

/// C: a segment is emptied and unlinked while a key of its stretch is inserted.
pub fn unlink_and_insert(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.remove(|key| key == 50), |stage| stage.insert(60)];
    let stage = || Stage::new(&[10, 20, 30, 40, 50]);
    play(2, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 30, 40, 60]));
}

/// C: a segment is emptied and unlinked while readers pass through it.
pub fn unlink_and_find(main: usize) {
    const ROLES: [Role<Stage>; 2] = [
        |stage| stage.remove_alone(|key| (50..=80).contains(&key)),
        |stage| stage.expect(&[90, 40]),
    ];
    let stage = || Stage::new(&[10, 20, 30, 40, 50, 60, 70, 80, 90]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 30, 40, 90]));
}

/// I: a cursor walks forward while a segment splits under it.
pub fn forward_and_split(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.insert_alone(25), |stage| seen(&stage.keys(true), &[10, 20, 30, 40])];
    let stage = || Stage::new(&[10, 20, 30, 40]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 25, 30, 40]));
}

/// J: a cursor walks backward while a segment splits under it.
pub fn backward_and_split(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.insert_alone(25), |stage| seen(&stage.keys(false), &[10, 20, 30, 40, 50])];
    let stage = || Stage::new(&[10, 20, 30, 40, 50]);
    play(3, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 25, 30, 40, 50]));
}

/// J: a cursor walks backward while a segment is unlinked.
pub fn backward_and_unlink(main: usize) {
    const ROLES: [Role<Stage>; 2] = [
        |stage| stage.remove_alone(|key| key == 50),
        |stage| seen(&stage.keys(false), &[10, 20, 30, 40]),
    ];
    let stage = || Stage::new(&[10, 20, 30, 40, 50]);
    play(2, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20, 30, 40]));
}

/// K: two leaves merge while readers look for what is left in them.
pub fn merge_and_find(main: usize) {
    const ROLES: [Role<Stage>; 2] =
        [|stage| stage.remove_alone(|key| key == 30), |stage| stage.expect(&[20, 10])];
    let stage = || Stage::new(&[10, 20, 30]);
    play(2, main, stage, &ROLES, |stage| stage.ends_with(&[10, 20]));
}

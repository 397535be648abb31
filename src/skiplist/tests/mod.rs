//! What the tests of the index share: a tiny shape, an entry, and helpers to remove by key.

mod hostile;
mod model;
mod threads;

use super::shape::Shape;
use super::{Entry, SkipList};
use crate::epoch::{Collector, Guard};
use crate::slab::Boxed;
use crate::sync::{AtomicBool, Ordering};

/// Leaves of four and segments of four, so that every change of structure happens early.
pub(super) enum Tiny {}

impl Shape for Tiny {
    const LEAF: usize = 4;
    const TAIL: usize = 1;
    const SEGMENT: usize = 4;
    type Tower<L: Send + Sync> = [L; 4];
}

/// A key, a value, and a mark of death.
pub(super) struct Record<K, V = u64> {
    pub(super) key: K,
    pub(super) value: V,
    dead: AtomicBool,
}

impl<K, V> Record<K, V> {
    pub(super) fn new(key: K, value: V) -> Boxed<Self> {
        Boxed::new(Self { key, value, dead: AtomicBool::new(false) })
    }

    /// Marks the entry dead; true if this call did it.
    pub(super) fn kill(&self) -> bool {
        !self.dead.swap(true, Ordering::AcqRel)
    }
}

impl<K, V> Entry for Record<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Key = K;

    fn key(&self) -> &K {
        &self.key
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

/// Removes what `gone` names, in sweeps of `budget` entries.
pub(super) fn remove_all<K, V, S>(
    list: &SkipList<Record<K, V>, S>,
    budget: usize,
    gone: impl Fn(&K) -> bool,
    guard: &Guard<'_>,
) -> usize
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Shape,
{
    let (mut removed, mut resume) = (0, None);
    loop {
        let sweep = list.sweep(
            resume,
            budget,
            |it| gone(it.key()),
            |it| (gone(it.key()) && it.kill()).then_some(0),
            guard,
        );
        removed += sweep.removed;
        resume = sweep.resume;
        if resume.is_none() {
            return removed;
        }
    }
}

pub(super) fn collector() -> Collector {
    Collector::new()
}

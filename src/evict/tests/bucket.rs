//! A bucket in miniature: records by number, a keeper, a limit; evicting is a store.

use super::super::{EvictionPolicy, Keeper, Picked, Resident};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};

/// A record, which outlives the keeper.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) key: u64,
    heat: AtomicU8,
    /// Bytes of the value; 0 if there is none.
    weight: AtomicU64,
    pub(super) pinned: AtomicBool,
    /// Whether the keeper holds it, or whoever it was handed to.
    pub(super) held: AtomicBool,
}

pub(super) type Handle<'a> = &'a Record;

impl Resident for Handle<'_> {
    fn heat(self) -> Option<u8> {
        (self.weight.load(SeqCst) > 0).then(|| self.heat.load(SeqCst))
    }

    fn set_heat(self, heat: u8) {
        self.heat.store(heat, SeqCst);
    }

    fn weight(self) -> u64 {
        self.weight.load(SeqCst)
    }

    fn hash(self) -> u64 {
        // As careless as a hash can be.
        self.key
    }

    fn is_pinned(self) -> bool {
        self.pinned.load(SeqCst)
    }
}

#[derive(Debug)]
pub(super) struct Bucket<'a> {
    pub(super) keeper: Keeper<Handle<'a>>,
    pub(super) records: &'a [Record],
    pub(super) used: AtomicU64,
    pub(super) capacity: u64,
    /// Entries that the hand looked at.
    pub(super) steps: AtomicU64,
    pub(super) evicted: AtomicU64,
}

pub(super) fn records(count: u64) -> Vec<Record> {
    (0..count).map(|key| Record { key, ..Record::default() }).collect()
}

impl<'a> Bucket<'a> {
    pub(super) fn new(
        policy: EvictionPolicy,
        shards: usize,
        capacity: u64,
        records: &'a [Record],
    ) -> Self {
        let keeper = Keeper::with_shards(policy, shards);
        let zero = || AtomicU64::new(0);
        Self { keeper, records, used: zero(), capacity, steps: zero(), evicted: zero() }
    }

    pub(super) fn record(&self, key: u64) -> Handle<'a> {
        &self.records[usize::try_from(key).unwrap()]
    }

    /// Reads a key. True if it was there.
    pub(super) fn read(&self, key: u64) -> bool {
        let record = self.record(key);
        let Some(heat) = record.heat() else { return false };
        if let Some(heat) = self.keeper.touch(heat) {
            record.set_heat(heat);
        }
        true
    }

    /// Reads a key, and writes it if it was not there. True for a hit.
    pub(super) fn access(&self, key: u64, weight: u64) -> bool {
        self.read(key) || {
            self.make_room(weight);
            self.write(key, weight);
            false
        }
    }

    pub(super) fn write(&self, key: u64, weight: u64) {
        let record = self.record(key);
        let before = record.weight.swap(weight, SeqCst);
        self.used.fetch_add(weight, SeqCst);
        self.used.fetch_sub(before, SeqCst);
        if !record.held.swap(true, SeqCst) {
            self.keeper.admit(record);
        }
    }

    pub(super) fn delete(&self, key: u64) {
        let before = self.record(key).weight.swap(0, SeqCst);
        self.used.fetch_sub(before, SeqCst);
    }

    /// Evicts until `weight` bytes more would fit. False if nothing more can go.
    pub(super) fn make_room(&self, weight: u64) -> bool {
        let mut picked = Picked::default();
        loop {
            let wanted = self.used.load(SeqCst) + weight;
            if wanted <= self.capacity {
                return true;
            }
            self.keeper.pick(wanted - self.capacity, &mut picked);
            self.steps.fetch_add(picked.steps as u64, SeqCst);
            if picked.victims.is_empty() && picked.gone.is_empty() {
                return false;
            }
            for record in picked.victims.drain(..) {
                self.delete(record.key);
                self.evicted.fetch_add(1, SeqCst);
                self.let_go(record);
            }
            self.let_all_go(std::mem::take(&mut picked.gone));
            picked = Picked::default();
        }
    }

    pub(super) fn let_all_go(&self, records: Vec<Handle<'a>>) {
        for record in records {
            self.let_go(record);
        }
    }

    /// What was handed out is free, unless a value has come again in between.
    pub(super) fn let_go(&self, record: Handle<'a>) {
        assert!(record.held.swap(false, SeqCst), "handed out, and not held");
        if record.heat().is_some() && !record.held.swap(true, SeqCst) {
            self.keeper.readmit(record);
        }
    }
}

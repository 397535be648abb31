//! The eviction policies alone: which keys would be there.

use crate::evict::{EvictionPolicy, Keeper, Picked, Resident};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use std::collections::HashMap;

/// A cache of keys without values, all of the same weight, that evicts by a policy of the engine.
///
/// For comparisons on one thread. It keeps a record of each key that it was ever asked for, also
/// after it is dropped.
#[derive(Debug)]
pub struct KeptKeys {
    keeper: Keeper<Handle>,
    records: HashMap<u64, Handle>,
    capacity: usize,
    len: usize,
}

#[derive(Debug)]
struct Record {
    key: u64,
    // All orderings are relaxed: one thread uses them.
    heat: AtomicU64,
    is_there: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Handle(&'static Record);

impl Resident for Handle {
    fn heat(self) -> Option<u8> {
        let heat = u8::try_from(self.0.heat.load(Ordering::Relaxed)).ok();
        heat.filter(|_| self.0.is_there.load(Ordering::Relaxed))
    }

    fn set_heat(self, heat: u8) {
        self.0.heat.store(heat.into(), Ordering::Relaxed);
    }

    fn weight(self) -> u64 {
        // Not one, so that a small part of the whole is a number of bytes.
        128
    }

    fn hash(self) -> u64 {
        self.0.key
    }

    fn is_pinned(self) -> bool {
        false
    }
}

impl KeptKeys {
    /// For so many keys.
    #[must_use]
    pub fn new(policy: EvictionPolicy, capacity: usize) -> Self {
        let keeper = Keeper::new(policy, capacity as u64 * 128);
        Self { keeper, records: HashMap::new(), capacity, len: 0 }
    }

    /// Reads a key, and keeps it if it was not there. True for a hit.
    pub fn access(&mut self, key: u64) -> bool {
        let record = *self.records.entry(key).or_insert_with(|| {
            let (heat, is_there) = (AtomicU64::new(0), AtomicBool::new(false));
            Handle(Box::leak(Box::new(Record { key, heat, is_there })))
        });
        if let Some(heat) = record.heat() {
            if let Some(hotter) = self.keeper.touch(heat) {
                record.set_heat(hotter);
            }
            return true;
        }
        while self.len >= self.capacity {
            let mut picked = Picked::default();
            self.keeper.pick(1, &mut picked);
            for victim in picked.victims {
                victim.0.is_there.store(false, Ordering::Relaxed);
                self.len -= 1;
            }
        }
        record.0.is_there.store(true, Ordering::Relaxed);
        self.len += 1;
        self.keeper.admit(record);
        false
    }

    /// Bytes that choosing takes, for each key that is there.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.keeper.census().overhead / self.len.max(1)
    }
}

//! The keeper of a bucket's entries: it knows which of them should go when memory is short.
//!
//! ```text
//!   hit ──► touch(heat) ──► a new heat to store, or nothing          no lock, no shared write
//! first value ──► admit ──► [ shard: order, aside ] x n              one short lock
//! over the limit ──► pick ──► victims ──► evict, outside of all locks
//!                      │          └─ could not: readmit
//!                      └──► gone ──► free, or readmit if a value has come again
//! ```
//!
//! 1. An entry that was admitted is held until `pick`, `purge` or `drain` hands it out, each to one
//!    caller. In between the caller keeps valid what is behind the handle, and admits no entry that
//!    is held. (A flag beside the heat says so; whoever is handed the entry clears it or readmits.)
//! 2. A deletion does not come here: the entry is found gone when the hand or a purge meets it.
//! 3. Nothing is measured against a limit but against the bytes that are there, so a limit may
//!    change at any time, and one for many buckets works like one for each.
//!
//! The engine's commit path admits and picks, its vacuum purges.

use super::clock::Clock;
use super::policy::EvictionPolicy;
use super::resident::{Resident, mix};
use super::shard::{Census, Picked, Shard};
use super::{adaptive, frequency, recency, s3_fifo};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crossbeam_utils::CachePadded;

/// Shards of a keeper at most.
const SHARDS_MAX: usize = 8;
/// Bytes for which a shard is worth its while.
const SHARD_BYTES: u64 = 8 << 20;

#[derive(Debug)]
struct Guarded<R> {
    shard: Mutex<Shard<R>>,
    /// The shard's weight when it was last let go. Relaxed: it only guides the choice of a shard.
    weight: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Keeper<R> {
    policy: EvictionPolicy,
    clock: CachePadded<Clock>,
    shards: Vec<CachePadded<Guarded<R>>>,
    /// The shard at which the purge is.
    purging: AtomicU64,
}

impl<R: Resident> Guarded<R> {
    fn take_out(&self, shard: &mut Shard<R>, bytes: u64, clock: &Clock, picked: &mut Picked<R>) {
        shard.take_out(bytes, clock, picked);
        self.weight.store(shard.weight(), Ordering::Relaxed);
    }
}

impl<R: Resident> Keeper<R> {
    /// A keeper for about so many bytes; the number says how many shards there are and limits
    /// nothing.
    pub(crate) fn new(policy: EvictionPolicy, capacity_bytes: u64) -> Self {
        let wanted = usize::try_from(capacity_bytes / SHARD_BYTES).unwrap_or(usize::MAX);
        Self::with_shards(policy, wanted.clamp(1, SHARDS_MAX))
    }

    pub(super) fn with_shards(policy: EvictionPolicy, count: usize) -> Self {
        let count = if policy == EvictionPolicy::Manual { 0 } else { count };
        let guarded = |number| Guarded {
            shard: Mutex::new(Shard::new(policy, number)),
            weight: AtomicU64::new(0),
        };
        let shards = (0..count as u64).map(|number| CachePadded::new(guarded(number))).collect();
        Self { policy, clock: CachePadded::new(Clock::new()), shards, purging: AtomicU64::new(0) }
    }

    /// An entry with this heat was hit: the heat to store, if another.
    #[inline]
    pub(crate) fn touch(&self, heat: u8) -> Option<u8> {
        match self.policy {
            EvictionPolicy::S3Fifo => s3_fifo::touch(heat),
            EvictionPolicy::Lru => recency::touch(heat, self.clock.now()),
            EvictionPolicy::Lfu => frequency::touch(heat, self.clock.now()),
            EvictionPolicy::Arc => adaptive::touch(heat, self.clock.now()),
            EvictionPolicy::Random | EvictionPolicy::Manual => None,
        }
    }

    /// Takes in an entry that has got a value and is not held (keeps 1), and sets its heat.
    pub(crate) fn admit(&self, resident: R) {
        self.with_shard_of(resident, |shard| shard.admit(resident, &self.clock));
    }

    /// Takes back an entry that was handed out and stays.
    pub(crate) fn readmit(&self, resident: R) {
        self.with_shard_of(resident, |shard| shard.readmit(resident, &self.clock));
    }

    fn with_shard_of(&self, resident: R, act: impl FnOnce(&mut Shard<R>)) {
        let guarded = match self.shards.as_slice() {
            [] => return,
            [only] => only,
            many => {
                // Bits of which the ghosts make neither bucket nor fingerprint.
                let bits = usize::try_from(mix(resident.hash()) >> 20 & 0xff).expect("8 bits fit");
                many.get(bits % many.len()).expect("the remainder is less")
            }
        };
        let mut shard = guarded.shard.lock();
        act(&mut shard);
        guarded.weight.store(shard.weight(), Ordering::Relaxed);
    }

    /// Takes out victims that weigh `bytes` together, from one shard; fewer if a bound on the time
    /// of one call is met, none if everything is pinned or the keeper is empty. `picked` tells them
    /// apart, and the caller calls again while it is short of memory and there was progress.
    pub(crate) fn pick(&self, bytes: u64, picked: &mut Picked<R>) {
        let weight = |guarded: &Guarded<R>| guarded.weight.load(Ordering::Relaxed);
        let heaviest = self.shards.iter().enumerate().max_by_key(|(_, guarded)| weight(guarded));
        let Some((first, _)) = heaviest else { return };
        let before = picked.victims.len();
        let from_first = self.shards.iter().cycle().skip(first).take(self.shards.len());
        // A shard in use has its evictor, or someone who admits: another one may serve.
        let mut busy = Vec::new();
        for guarded in from_first {
            match guarded.shard.try_lock() {
                Some(mut shard) => guarded.take_out(&mut shard, bytes, &self.clock, picked),
                None => busy.push(guarded),
            }
            if picked.victims.len() > before {
                return;
            }
        }
        for guarded in busy {
            guarded.take_out(&mut guarded.shard.lock(), bytes, &self.clock, picked);
            if picked.victims.len() > before {
                return;
            }
        }
    }

    /// Takes out entries that are gone, looking at about `budget` entries. True when the end was
    /// reached; the next call begins anew.
    pub(crate) fn purge(&self, budget: &mut usize, gone: &mut Vec<R>) -> bool {
        // Relaxed: two that purge at once may look at the same shard, and skip none for long.
        let at = usize::try_from(self.purging.load(Ordering::Relaxed)).unwrap_or(0);
        for (at, guarded) in self.shards.iter().enumerate().skip(at) {
            let mut shard = guarded.shard.lock();
            let ended = shard.purge(budget, gone);
            guarded.weight.store(shard.weight(), Ordering::Relaxed);
            if !ended {
                self.purging.store(at as u64, Ordering::Relaxed);
                return false;
            }
        }
        self.purging.store(0, Ordering::Relaxed);
        true
    }

    /// Takes out everything, at the end of a bucket, and gives back the memory that rings and
    /// ghosts took.
    pub(crate) fn drain(&self, mut take: impl FnMut(R)) {
        for (number, guarded) in (0..).zip(&self.shards) {
            let mut shard = guarded.shard.lock();
            if shard.is_unused() {
                continue;
            }
            shard.drain(&mut take);
            *shard = Shard::new(self.policy, number);
            guarded.weight.store(0, Ordering::Relaxed);
        }
    }

    /// Counts everything. Takes each shard's lock in turn.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census { overhead: size_of::<Self>(), ..Census::default() };
        for guarded in &self.shards {
            census.overhead += size_of_val(guarded);
            guarded.shard.lock().count(&mut census);
        }
        census
    }
}

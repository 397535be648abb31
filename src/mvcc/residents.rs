//! The entries of a cache, as its keeper asks about them.
//!
//! ```text
//! Keeper ── ring ──► Tenant { record, side }      side: how to hash and weigh, shared by all
//! ```
//!
//! 1. A tenant's record carries the mark ENROLLED for as long as a ring holds the tenant, and so
//!    does not die (record invariant 5). Whoever is handed a tenant takes the mark off, or hands
//!    the tenant back.
//! 2. Whoever calls the keeper holds a pin: tenants look at versions.
//! 3. The side is in a box of the table's, which outlives its keeper.
//!
//! Made by tables and by `departure`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::epoch::Guard;
use crate::epoch::prefetch::prefetch_object;
use crate::evict::{Keeper, Resident};
use crate::mvcc::record::{PINNED, Record};
use crate::mvcc::terms::Retention;
use crate::mvcc::weigh::Weigher;
use crate::mvcc::{Key, Value};
use crate::skiplist::Entry as _;
use crate::sync::Arc;

/// What all tenants of one table share.
pub(crate) struct Side<K, V> {
    pub(crate) weigher: Arc<Weigher<K, V>>,
    pub(crate) retention: Retention<K>,
}

/// An entry of a cache, as a handle.
pub(crate) struct Tenant<K: Key, V: Value> {
    record: NonNull<Record<K, V>>,
    side: NonNull<Side<K, V>>,
}

impl<K: Key, V: Value> Clone for Tenant<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Key, V: Value> Copy for Tenant<K, V> {}

// SAFETY: records and the side are shared between threads; the handle is an address of each.
unsafe impl<K: Key, V: Value> Send for Tenant<K, V> {}

impl<K: Key, V: Value> Tenant<K, V> {
    pub(crate) fn new(record: &Record<K, V>, side: &Side<K, V>) -> Self {
        Self { record: NonNull::from(record), side: NonNull::from(side) }
    }

    /// The record of a tenant that a ring holds, or that a ring has just handed out.
    pub(crate) fn record<'g>(&self, _pinned: &'g Guard<'_>) -> &'g Record<K, V> {
        // SAFETY: a record that carries the mark does not die (1), and one that lost it to the
        // caller just now is retired under a pin later than the caller's.
        unsafe { self.record.as_ref() }
    }

    fn enrolled(&self) -> &Record<K, V> {
        // SAFETY: the ring that asks holds the tenant (1).
        unsafe { self.record.as_ref() }
    }

    fn side(&self) -> &Side<K, V> {
        // SAFETY: the side outlives the keeper that asks (3).
        unsafe { self.side.as_ref() }
    }
}

impl<K: Key, V: Value> Resident for Tenant<K, V> {
    fn heat(self) -> Option<u8> {
        self.enrolled().newest_heat()
    }

    fn set_heat(self, heat: u8) {
        self.enrolled().warm_newest(|old| (old != PINNED && old != heat).then_some(heat));
    }

    fn weight(self) -> u64 {
        let (record, weigher) = (self.enrolled(), &self.side().weigher);
        let versions = record.newest_weight(|version| weigher.version(version));
        (weigher.record(record.key()) + versions) as u64
    }

    fn hash(self) -> u64 {
        let hash = || (self.side().retention.hash)(self.enrolled().key());
        // The user's code, under a lock: a panic in it must not get out.
        catch_unwind(AssertUnwindSafe(hash)).unwrap_or_default()
    }

    fn is_pinned(self) -> bool {
        self.enrolled().newest_heat() == Some(PINNED)
    }

    fn prefetch(self) {
        prefetch_object(self.record.as_ptr());
    }
}

/// The keeper of one table's entries, and what its tenants share. The keeper goes first.
pub(crate) struct Residence<K: Key, V: Value> {
    pub(crate) keeper: Keeper<Tenant<K, V>>,
    pub(crate) side: Box<Side<K, V>>,
}

impl<K: Key, V: Value> Residence<K, V> {
    pub(crate) fn new(retention: Retention<K>, weigher: Arc<Weigher<K, V>>, capacity: u64) -> Self {
        let keeper = Keeper::new(retention.policy, capacity);
        Self { keeper, side: Box::new(Side { weigher, retention }) }
    }

    /// Takes tenants out of the rings that are gone, looking at about `budget`; or all there are.
    /// The caller holds a pin.
    pub(crate) fn let_go(&self, all: bool, mut budget: usize) {
        let mut gone = Vec::new();
        if all {
            self.keeper.drain(|tenant| gone.push(tenant));
            // A table that nobody uses: its records die whatever their marks say.
            return;
        }
        self.keeper.purge(&mut budget, &mut gone);
        self.strike(gone);
    }

    /// Takes the marks off records whose tenants were handed out as gone; a tenant that has a
    /// value again goes back. The caller holds a pin.
    pub(crate) fn strike(&self, gone: Vec<Tenant<K, V>>) {
        for tenant in gone {
            if !tenant.enrolled().strike_enrolled() {
                self.keeper.readmit(tenant);
            }
        }
    }

    pub(crate) fn tenant(&self, record: &Record<K, V>) -> Tenant<K, V> {
        Tenant::new(record, &self.side)
    }
}

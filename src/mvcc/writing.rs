//! What a transaction writes at single keys, on top of its snapshot or of what it wrote before.
//!
//! ```text
//! own write?  ──yes──► on top of that
//!    │no
//! in the snapshot?  ──yes──► into a version for its record     the value before, if it is asked
//!    │no                                                       for, may have to be read back
//! a record of its own
//! ```
//!
//! The invariants are those of the workspace.

use std::borrow::Borrow;
use std::time::Instant;

use crate::mvcc::place::FetchError;
use crate::mvcc::read_log::Access;
use crate::mvcc::view::Met;
use crate::mvcc::workspace::{Workspace, lend};
use crate::mvcc::write_set::Over;
use crate::mvcc::{Key, Lookup, Value};

impl<K: Key, V: Value> Workspace<'_, K, V> {
    pub(crate) fn insert<'t>(
        &'t self,
        access: &Access<'t>,
        key: K,
        value: V,
    ) -> Result<Option<&'t V>, FetchError> {
        self.insert_until(access, key, value, None)
    }

    /// Sets the value of a key, which may be read until the deadline if there is one.
    pub(crate) fn insert_until<'t>(
        &'t self,
        access: &Access<'t>,
        key: K,
        value: V,
        deadline: Option<Instant>,
    ) -> Result<Option<&'t V>, FetchError> {
        let own = self.writes.borrow().get::<K>(&key);
        if let Some(previous) = own {
            self.writes.borrow_mut().put_over::<K>(&key, Some(value), deadline);
            return Ok(previous.map(|value| lend(self, value)));
        }
        if let Some(met) = self.find::<K>(access, &key) {
            let previous = self.value_of::<K>(access, &key, &met)?;
            self.put(access, &met, Some(value), deadline);
            return Ok(previous);
        }
        self.writes.borrow_mut().put_fresh(key, value, deadline);
        Ok(None)
    }

    /// Sets the value of a key, whatever it was before.
    pub(crate) fn set(&self, access: &Access<'_>, key: K, value: V) {
        if self.writes.borrow().get::<K>(&key).is_some() {
            self.writes.borrow_mut().put_over::<K>(&key, Some(value), None);
        } else if let Some(met) = self.find::<K>(access, &key) {
            self.put(access, &met, Some(value), None);
        } else {
            self.writes.borrow_mut().put_fresh(key, value, None);
        }
    }

    pub(crate) fn remove<'t, Q>(
        &'t self,
        access: &Access<'t>,
        key: &Q,
    ) -> Result<Option<&'t V>, FetchError>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        let own = self.writes.borrow().get(key).flatten();
        if let Some(previous) = own {
            self.erase(access, key);
            return Ok(Some(lend(self, previous)));
        }
        let Some(met) = self.find_unwritten(access, key) else { return Ok(None) };
        let previous = self.value_of(access, key, &met)?;
        self.put(access, &met, None, None);
        Ok(previous)
    }

    /// Finds what is about to be removed, which no own write is about; notes that nothing is there.
    fn find_unwritten<'t, Q>(&'t self, access: &Access<'t>, key: &Q) -> Option<Met<'t, K, V>>
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        if self.writes.borrow().get(key).is_some() {
            return None;
        }
        let met = self.find(access, key);
        if met.is_none() && access.tracked {
            self.note_absent(key.to_key());
        }
        met
    }

    /// Removes a key, whatever its value. Answers whether it had one.
    pub(crate) fn erase<Q>(&self, access: &Access<'_>, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        if let Some(previous) = self.writes.borrow().get(key) {
            if previous.is_none() {
                return false;
            }
        } else {
            let met = self.find_unwritten(access, key);
            if let Some(met) = &met {
                self.put(access, met, None, None);
            }
            return met.is_some();
        }
        let over = self.writes.borrow_mut().put_over(key, None, None);
        if over == Over::Vanished && access.tracked {
            self.note_absent(key.to_key());
        }
        true
    }

    /// Sets the value of a key that has one now.
    pub(crate) fn replace<'t, Q>(&'t self, access: &Access<'t>, key: &Q, value: V)
    where
        K: Borrow<Q>,
        Q: Lookup<K> + ?Sized,
    {
        if self.writes.borrow().get(key).is_some() {
            self.writes.borrow_mut().put_over(key, Some(value), None);
        } else if let Some(met) = self.find(access, key) {
            self.put(access, &met, Some(value), None);
        }
    }
}

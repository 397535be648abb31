//! The names of buckets.
//!
//! 1. A name leads to one bucket; a bucket that was dropped has none, and its id is not used
//!    again.
//! 2. Names change under the lock; what a bucket is called now is read under it, too.
//!
//! Creating, renaming and dropping take effect at once and are not part of a transaction. Where
//! they are to be logged, the floor above does so first, one at a time.

use std::any::type_name;
use std::collections::BTreeMap;

use crate::epoch::Guard;
use crate::error::{Error, Result};
use crate::id::BucketId;
use crate::mvcc::account::Bytes;
use crate::mvcc::table::Table;
use crate::mvcc::tables::{AnyTable, Tables};
use crate::mvcc::terms::Terms;
use crate::mvcc::{Key, Value};
use crate::sync::{Arc, RwLock};

/// Every bucket of one database, by name and by id.
pub(crate) struct Catalog {
    names: RwLock<Names>,
    tables: Tables,
}

#[derive(Debug, Default)]
struct Names {
    by_name: BTreeMap<Arc<str>, BucketId>,
    /// The name each bucket has or had last.
    by_id: BTreeMap<BucketId, Arc<str>>,
}

impl Names {
    fn insert(&mut self, id: BucketId, name: &str) {
        let name: Arc<str> = name.into();
        self.by_id.insert(id, Arc::clone(&name));
        self.by_name.insert(name, id);
    }
}

/// A bucket as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketEntry {
    pub(crate) name: Arc<str>,
    pub(crate) key_type: &'static str,
    pub(crate) value_type: &'static str,
    pub(crate) records: usize,
    pub(crate) bytes: Bytes,
}

impl Catalog {
    /// A catalog of buckets that take `limit` bytes together, at most.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { names: RwLock::default(), tables: Tables::new(limit) }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The bucket of this name, if it is there, and a check of its types.
    pub(crate) fn find<K: Key, V: Value>(&self, name: &str) -> Result<Option<BucketId>> {
        let known = self.names.read().by_name.get(name).copied();
        known.map(|id| self.check_types::<K, V>(id, name)).transpose()
    }

    /// The bucket of this name, made if there is none, in memory only.
    pub(crate) fn open<K: Key, V: Value>(&self, name: &str) -> Result<BucketId> {
        if let Some(id) = self.find::<K, V>(name)? {
            return Ok(id);
        }
        let mut names = self.names.write();
        if let Some(&id) = names.by_name.get(name) {
            return self.check_types::<K, V>(id, name);
        }
        let id = self.add_table(Terms::<K, V>::plain())?;
        names.insert(id, name);
        Ok(id)
    }

    /// A new bucket with terms of its own, in memory only.
    pub(crate) fn create<K: Key, V: Value>(
        &self,
        name: &str,
        terms: Terms<K, V>,
    ) -> Result<BucketId> {
        let mut names = self.names.write();
        if names.by_name.contains_key(name) {
            return Err(Error::BucketExists { bucket: name.into() });
        }
        let id = self.add_table(terms)?;
        names.insert(id, name);
        Ok(id)
    }

    /// A table that has no name yet.
    pub(crate) fn add_table<K: Key, V: Value>(&self, terms: Terms<K, V>) -> Result<BucketId> {
        self.tables.add(terms).ok_or(Error::TooManyBuckets { max: Tables::MAX })
    }

    /// Gives a table its name. False if another one has it.
    pub(crate) fn publish(&self, id: BucketId, name: &str) -> bool {
        let mut names = self.names.write();
        let is_free = !names.by_name.contains_key(name);
        if is_free {
            names.insert(id, name);
        }
        is_free
    }

    /// The bucket of this name.
    pub(crate) fn id(&self, name: &str) -> Option<BucketId> {
        self.names.read().by_name.get(name).copied()
    }

    fn check_types<K: Key, V: Value>(&self, id: BucketId, name: &str) -> Result<BucketId> {
        if self.tables.typed::<K, V>(id).is_some() {
            return Ok(id);
        }
        let table = self.tables.get(id);
        Err(Error::TypeMismatch {
            bucket: name.into(),
            stored: format!("{} to {}", table.key_type(), table.value_type()),
            asked: format!("{} to {}", type_name::<K>(), type_name::<V>()),
        })
    }

    /// The bucket's table, unless it was dropped.
    pub(crate) fn table<K: Key, V: Value>(&self, id: BucketId) -> Result<&Table<K, V>> {
        let table = self.tables.typed::<K, V>(id).expect("a handle has its bucket's types");
        if table.is_dropped() {
            return Err(Error::BucketDropped { bucket: self.name(id) });
        }
        Ok(table)
    }

    /// What the bucket is called now, or was last.
    pub(crate) fn name(&self, id: BucketId) -> Arc<str> {
        let names = self.names.read();
        names.by_id.get(&id).map_or_else(|| Arc::from(""), Arc::clone)
    }

    /// Takes the name away, and answers the table that had it.
    pub(crate) fn forget(&self, name: &str) -> Option<&dyn AnyTable> {
        let id = self.names.write().by_name.remove(name)?;
        Some(self.tables.get(id))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut names = self.names.write();
        let missing = || Error::BucketMissing { bucket: from.into() };
        let id = *names.by_name.get(from).ok_or_else(missing)?;
        if from == to {
            return Ok(());
        }
        if names.by_name.contains_key(to) {
            return Err(Error::BucketExists { bucket: to.into() });
        }
        let to: Arc<str> = to.into();
        names.by_name.remove(from);
        names.by_name.insert(Arc::clone(&to), id);
        names.by_id.insert(id, to);
        Ok(())
    }

    /// All buckets that have a name, in the order of their names.
    pub(crate) fn list(&self, guard: &Guard<'_>) -> Vec<BucketEntry> {
        let names = self.names.read();
        let entry = |(name, &id): (&Arc<str>, &BucketId)| {
            let table = self.tables.get(id);
            BucketEntry {
                name: Arc::clone(name),
                key_type: table.key_type(),
                value_type: table.value_type(),
                records: table.records(guard),
                bytes: table.bytes(),
            }
        };
        names.by_name.iter().map(entry).collect()
    }
}

//! Buckets of a durable database: found, made, renamed, dropped.
//!
//! 1. A durable bucket exists from the moment its creation is in the log, and its end is there
//!    before its name is free again.
//! 2. Names of durable and volatile buckets are one space. What is only in the files has a name,
//!    too.
//! 3. Everything here happens under the lock of the state, one change at a time.

use crate::codec::{Decode, Encode, Encoder};
use crate::crc::crc32;
use crate::db::store::archive::Archive;
use crate::db::store::state::{Life, Pending, State};
use crate::error::{Error, Result};
use crate::id::{BucketId, StoredId};
use crate::mvcc::codec::{Codec, Stored};
use crate::mvcc::ops::Types;
use crate::mvcc::terms::Terms;
use crate::mvcc::{Key, Value};
use crate::txn::Engine;

const DURABLE: &str = "durable";
const VOLATILE: &str = "volatile";

/// A durable bucket that is not open, for listings.
#[derive(Clone, Debug)]
pub(in crate::db) struct Unopened {
    pub(in crate::db) name: crate::sync::Arc<str>,
    pub(in crate::db) key_type: String,
    pub(in crate::db) value_type: String,
}

impl Archive {
    /// The durable bucket of this name: loaded if it is not in memory, made if there is none and
    /// the database may be written. Without terms, those of a bucket that is open already stay.
    pub(in crate::db) fn open_bucket<K, V>(
        &self,
        engine: &Engine,
        name: &str,
        terms: Option<Terms<K, V>>,
    ) -> Result<BucketId>
    where
        K: Key + Encode + Decode,
        V: Value + Encode + Decode,
    {
        let already_open = |id| match terms {
            None => Ok(id),
            Some(_) => Err(Error::BucketExists { bucket: name.into() }),
        };
        if let Some(id) = find_open::<K, V>(engine, name)? {
            return already_open(id);
        }
        let mut state = self.state.lock();
        if let Some(id) = find_open::<K, V>(engine, name)? {
            return already_open(id);
        }
        let terms = terms.unwrap_or_else(Terms::plain);
        let is_limited = engine.has_memory_limit() || terms.limit.is_some();
        let terms = terms.shelved(is_limited, hash_of::<K>);
        match state.id(name) {
            Some(stored) => self.load_bucket(engine, &mut state, stored, terms),
            None if engine.backing().is_read_only() => {
                Err(Error::BucketMissing { bucket: name.into() })
            }
            None => create_bucket(engine, &mut state, name, terms),
        }
    }

    fn load_bucket<K, V>(
        &self,
        engine: &Engine,
        state: &mut State,
        stored: StoredId,
        terms: Terms<K, V>,
    ) -> Result<BucketId>
    where
        K: Key + Encode + Decode,
        V: Value + Encode + Decode,
    {
        let bucket = state.buckets.get_mut(&stored).expect("the id was found under the lock");
        let (key_type, value_type) = (K::type_identity(), V::type_identity());
        let types = Types { key: &key_type, value: &value_type, ordered: K::ORDERED };
        if !bucket.takes(types) {
            return Err(Error::TypeMismatch {
                bucket: bucket.name.clone(),
                stored: format!("{} to {}", bucket.key_type, bucket.value_type),
                asked: format!("{key_type} to {value_type}"),
            });
        }
        let codec = Codec::<K, V>::new();
        let id = engine.catalog().add_table(terms.stored(Stored { bucket: stored, codec }))?;
        let table = engine.catalog().tables().get(id);
        if let Err(error) = self.load(engine, stored, bucket, table) {
            engine.retire_table(table);
            return Err(error);
        }
        bucket.adopt(types);
        bucket.life = Life::Open(id);
        let is_free = engine.catalog().publish(id, &bucket.name);
        assert!(is_free, "a name in the files is given to no other bucket");
        tracing::debug!(bucket = &*bucket.name, "bucket loaded");
        Ok(id)
    }

    /// The volatile bucket of this name, made if there is none.
    pub(in crate::db) fn open_volatile<K: Key, V: Value>(
        &self,
        engine: &Engine,
        name: &str,
        terms: Option<Terms<K, V>>,
    ) -> Result<BucketId> {
        let state = self.state.lock();
        if state.id(name).is_some() {
            let bucket = name.into();
            return Err(Error::OtherPersistence { bucket, is: DURABLE, asked: VOLATILE });
        }
        match terms {
            None => engine.catalog().open::<K, V>(name),
            Some(terms) => engine.catalog().create(name, terms),
        }
    }

    /// Drops the bucket of this name. False if there is none.
    pub(in crate::db) fn drop_bucket(&self, engine: &Engine, name: &str) -> Result<bool> {
        let mut state = self.state.lock();
        let stored = state.id(name);
        if let Some(stored) = stored {
            engine.commit_catalog(|ops| ops.drop_bucket(stored))?;
            state.buckets.remove(&stored);
        }
        let table = engine.catalog().forget(name);
        if let Some(table) = table {
            engine.retire_table(table);
        }
        Ok(stored.is_some() || table.is_some())
    }

    /// Gives a bucket another name.
    pub(in crate::db) fn rename(&self, engine: &Engine, from: &str, to: &str) -> Result<()> {
        let mut state = self.state.lock();
        let Some(stored) = state.id(from) else {
            if state.id(to).is_some() {
                return Err(Error::BucketExists { bucket: to.into() });
            }
            return engine.catalog().rename(from, to);
        };
        if from == to {
            return Ok(());
        }
        if state.id(to).is_some() || engine.catalog().id(to).is_some() {
            return Err(Error::BucketExists { bucket: to.into() });
        }
        engine.commit_catalog(|ops| ops.rename(stored, to))?;
        let bucket = state.buckets.get_mut(&stored).expect("the id was found under the lock");
        bucket.name = to.into();
        if matches!(bucket.life, Life::Open(_)) {
            engine.catalog().rename(from, to)?;
        }
        Ok(())
    }

    /// The durable buckets that are not in memory.
    pub(in crate::db) fn unopened(&self) -> Vec<Unopened> {
        let state = self.state.lock();
        let closed = state.buckets.values().filter(|it| matches!(it.life, Life::Closed(_)));
        closed
            .map(|bucket| Unopened {
                name: bucket.name.clone(),
                key_type: bucket.key_type.clone(),
                value_type: bucket.value_type.clone(),
            })
            .collect()
    }
}

impl Life {
    pub(super) fn closed() -> Self {
        Self::Closed(Pending::default())
    }
}

/// A hash of a key by its encoding.
fn hash_of<K: Encode>(key: &K) -> u64 {
    let mut bytes = Vec::new();
    if key.encode(Encoder::new(&mut bytes)).is_err() {
        // It is in no file, so its value does not leave.
        return 0;
    }
    u64::from(crc32(0, &bytes)) << 32 | u64::from(crc32(1, &bytes))
}

/// The bucket, if it is in memory; an error if it is a volatile one.
fn find_open<K: Key, V: Value>(engine: &Engine, name: &str) -> Result<Option<BucketId>> {
    let Some(id) = engine.catalog().find::<K, V>(name)? else { return Ok(None) };
    if engine.catalog().tables().get(id).stored_id().is_none() {
        let bucket = name.into();
        return Err(Error::OtherPersistence { bucket, is: VOLATILE, asked: DURABLE });
    }
    Ok(Some(id))
}

fn create_bucket<K, V>(
    engine: &Engine,
    state: &mut State,
    name: &str,
    terms: Terms<K, V>,
) -> Result<BucketId>
where
    K: Key + Encode + Decode,
    V: Value + Encode + Decode,
{
    let stored = StoredId::from_raw(state.next_bucket);
    let codec = Codec::<K, V>::new();
    let id = engine.catalog().add_table(terms.stored(Stored { bucket: stored, codec }))?;
    let (key, value) = (K::type_identity(), V::type_identity());
    let types = Types { key: &key, value: &value, ordered: K::ORDERED };
    // Used up even if the log fails now: the record may be there all the same.
    state.next_bucket += 1;
    engine.commit_catalog(|ops| ops.create(stored, name, types))?;
    state.create(stored, name, types, Life::Open(id));
    if !engine.catalog().publish(id, name) {
        // A volatile bucket took the name meanwhile.
        engine.commit_catalog(|ops| ops.drop_bucket(stored))?;
        state.buckets.remove(&stored);
        let bucket = name.into();
        return Err(Error::OtherPersistence { bucket, is: VOLATILE, asked: DURABLE });
    }
    Ok(id)
}

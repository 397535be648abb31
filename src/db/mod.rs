//! The database: opening, buckets, transactions, maintenance, statistics.
//!
//! 1. A database lives while a handle, a bucket's handle or a snapshot of it does.
//! 2. It starts no thread that it was not asked for; the one it was asked for ends with the last
//!    handle.

mod background;
mod bucket_options;
mod files;
mod options;
mod stats;
mod store;
mod tools;

use std::fmt;
use std::path::Path;

use crate::codec::{Decode, Encode};
use crate::error::{Error, Result};
use crate::id::BucketId;
use crate::mvcc::{Key, Value};
use crate::sync::{Arc, Mutex};
use crate::txn::{Bucket, Engine, Receipt, Snapshot, Transaction, TransactionOptions, run};

use background::Background;
use store::{Archive, Keeper, Reading, Store};

pub use bucket_options::BucketOptions;
pub use files::RecoveryStep;
pub use options::Options;
pub use stats::{
    Aborts, BucketInfo, BucketMemory, LogStats, MemoryStats, OldestSnapshot, Stats, Vacuumed,
};
pub use store::{BackedUp, Checkpointed, Dropped, Problem, Recovery, Salvaged, Verified};

/// A handle of a database: ordered, typed buckets, and transactions over any of them.
///
/// A handle is cheap to clone and may be shared between threads; all clones are one database.
///
/// ```
/// use palisade::Database;
///
/// # fn main() -> palisade::Result<()> {
/// let db = Database::in_memory();
/// let accounts = db.bucket::<String, u64>("accounts")?;
/// accounts.insert("ada".into(), 100)?;
/// accounts.insert("bob".into(), 20)?;
///
/// // Both changes or neither; run again by itself if another thread interferes.
/// db.write(|tx| {
///     tx.modify(&accounts, "ada", |balance| *balance -= 30)?;
///     tx.modify(&accounts, "bob", |balance| *balance += 30)?;
///     Ok(())
/// })?;
///
/// let snapshot = db.snapshot();
/// assert_eq!(snapshot.get(&accounts, "ada")?, Some(&70));
/// assert_eq!(snapshot.iter(&accounts)?.map(|(_, balance)| balance).sum::<u64>(), 120);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    home: Home,
    /// Dropped with the last handle, which ends the thread.
    vacuum: Mutex<Option<Background>>,
}

/// Where a database is, besides in memory.
#[derive(Debug)]
enum Home {
    Nowhere,
    Files(Arc<Keeper>),
    ReadOnly(Arc<Reading>),
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.vacuum.lock().take());
        if let Home::Files(keeper) = &self.home {
            keeper.let_go(&self.engine);
        }
    }
}

impl Database {
    /// A database that lives in memory, with the default options.
    #[must_use]
    pub fn in_memory() -> Self {
        Options::new().in_memory()
    }

    /// Opens the database in a directory, which is made if it does not exist, with the default
    /// options: serializable, and durable when a commit returns.
    ///
    /// ```
    /// use palisade::Database;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let db = Database::open(path)?;
    /// db.bucket::<String, u64>("visits")?.insert("ada".into(), 1)?;
    /// db.close()?;
    ///
    /// let db = Database::open(path)?;
    /// assert_eq!(db.bucket::<String, u64>("visits")?.get("ada")?, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(directory)
    }

    fn with(engine: Arc<Engine>, home: Home, vacuum: Option<Background>) -> Self {
        Self { shared: Arc::new(Shared { engine, home, vacuum: Mutex::new(vacuum) }) }
    }

    /// The files, if they may be written.
    fn store(&self) -> Option<&Store> {
        match &self.shared.home {
            Home::Files(keeper) => Some(&*keeper.store),
            Home::Nowhere | Home::ReadOnly(_) => None,
        }
    }

    /// The files, if there are any.
    fn archive(&self) -> Option<&Archive> {
        match &self.shared.home {
            Home::Files(keeper) => Some(&keeper.store.archive),
            Home::ReadOnly(reading) => Some(&reading.archive),
            Home::Nowhere => None,
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    // Buckets.

    /// The bucket of this name, made if there is none; as durable as its database.
    ///
    /// In a durable database the first opening of a bucket brings it into memory, O(n).
    ///
    /// # Errors
    ///
    /// [`Error::TypeMismatch`] if it holds other types, [`Error::OtherPersistence`] if it is
    /// volatile; [`Error::TooManyBuckets`]. [`Error::Checkpoint`] if its tables are damaged, and
    /// [`Error::Decode`] if its entries are not what the types make of them. [`Error::Log`] if it
    /// is new and the log cannot take it; [`Error::BucketMissing`] if there is none and the
    /// database is open for reading only; [`Error::Unmeasured`] as in
    /// [`bucket_with`](Self::bucket_with).
    pub fn bucket<K, V>(&self, name: &str) -> Result<Bucket<K, V>>
    where
        K: Key + Encode + Decode,
        V: Value + Encode + Decode,
    {
        self.check_measured::<K, V>(name)?;
        let engine = self.engine();
        let id = match self.archive() {
            Some(archive) => settled(engine, archive.open_bucket::<K, V>(engine, name, None)?),
            None => engine.catalog().open::<K, V>(name)?,
        };
        Ok(Bucket::new(Arc::clone(engine), id))
    }

    /// Like [`bucket`](Self::bucket), with options, which hold as long as the database is open.
    ///
    /// # Errors
    ///
    /// As [`bucket`](Self::bucket); [`Error::BucketExists`] if the bucket is open already;
    /// [`Error::DurableCache`] if the database is durable and the options say that entries expire;
    /// [`Error::Unmeasured`] if there is a limit and nobody knows what the entries own
    /// on the heap.
    pub fn bucket_with<K, V>(
        &self,
        name: &str,
        options: BucketOptions<K, V>,
    ) -> Result<Bucket<K, V>>
    where
        K: Key + Encode + Decode,
        V: Value + Encode + Decode,
    {
        let engine = self.engine();
        let expires = options.expires_entries();
        let terms = options.terms(name, engine.has_memory_limit())?;
        let id = match self.archive() {
            Some(_) if expires => return Err(Error::DurableCache { bucket: name.into() }),
            Some(archive) => settled(engine, archive.open_bucket(engine, name, Some(terms))?),
            None => engine.catalog().create(name, terms)?,
        };
        Ok(Bucket::new(Arc::clone(engine), id))
    }

    /// The bucket of this name, made if there is none, which lives in memory only: of any types,
    /// and empty whenever its database is opened.
    ///
    /// It takes part in transactions like every other bucket.
    ///
    /// # Errors
    ///
    /// [`Error::TypeMismatch`] if it holds other types, [`Error::OtherPersistence`] if it is
    /// durable; [`Error::TooManyBuckets`]; [`Error::Unmeasured`] as in
    /// [`volatile_bucket_with`](Self::volatile_bucket_with).
    pub fn volatile_bucket<K: Key, V: Value>(&self, name: &str) -> Result<Bucket<K, V>> {
        self.check_measured::<K, V>(name)?;
        let engine = self.engine();
        let id = match self.archive() {
            Some(archive) => archive.open_volatile::<K, V>(engine, name, None)?,
            None => engine.catalog().open::<K, V>(name)?,
        };
        Ok(Bucket::new(Arc::clone(engine), id))
    }

    /// Like [`volatile_bucket`](Self::volatile_bucket), with options: a cache, for instance.
    ///
    /// # Errors
    ///
    /// As [`volatile_bucket`](Self::volatile_bucket); [`Error::BucketExists`] if there is a bucket
    /// of this name; [`Error::Unmeasured`] if there is a limit and nobody knows what the entries
    /// own on the heap.
    pub fn volatile_bucket_with<K: Key, V: Value>(
        &self,
        name: &str,
        options: BucketOptions<K, V>,
    ) -> Result<Bucket<K, V>> {
        let engine = self.engine();
        let terms = options.terms(name, engine.has_memory_limit())?;
        let id = match self.archive() {
            Some(archive) => archive.open_volatile(engine, name, Some(terms))?,
            None => engine.catalog().create(name, terms)?,
        };
        Ok(Bucket::new(Arc::clone(engine), id))
    }

    /// Under a limit a bucket of these types must say how they are measured, unless that is known.
    fn check_measured<K: Key, V: Value>(&self, name: &str) -> Result<()> {
        let is_limited = self.engine().has_memory_limit();
        BucketOptions::<K, V>::new().terms(name, is_limited).map(drop)
    }

    /// All buckets, in the order of their names.
    #[must_use]
    pub fn buckets(&self) -> Vec<BucketInfo> {
        let guard = self.engine().collector().pin();
        let listed = self.engine().catalog().list(&guard).into_iter().map(BucketInfo::from);
        let unopened = self.archive().map(Archive::unopened).unwrap_or_default();
        let mut all: Vec<_> = listed.chain(unopened.into_iter().map(BucketInfo::from)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Drops the bucket of this name with all that is in it. Returns whether there was one.
    ///
    /// Takes effect at once: handles of it give [`Error::BucketDropped`], and so does the commit
    /// of a transaction that wrote to it. What transactions and snapshots hold by reference stays
    /// readable; the memory is freed by the vacuum once they have ended.
    ///
    /// # Errors
    ///
    /// [`Error::Log`] if the bucket is durable and the log cannot take it, [`Error::ReadOnly`] if
    /// it is durable and the database is open for reading only.
    pub fn drop_bucket(&self, name: &str) -> Result<bool> {
        let engine = self.engine();
        let dropped = match self.archive() {
            Some(archive) => archive.drop_bucket(engine, name)?,
            None => engine.catalog().forget(name).map(|table| engine.retire_table(table)).is_some(),
        };
        if dropped {
            tracing::debug!(bucket = name, "bucket dropped");
        }
        Ok(dropped)
    }

    /// Gives a bucket another name. Handles stay good.
    ///
    /// # Errors
    ///
    /// [`Error::BucketMissing`] if there is no bucket `from`, [`Error::BucketExists`] if there is
    /// another one named `to`, [`Error::Log`] if the bucket is durable and the log cannot take it,
    /// [`Error::ReadOnly`] if it is durable and the database is open for reading only.
    pub fn rename_bucket(&self, from: &str, to: &str) -> Result<()> {
        match self.archive() {
            Some(archive) => archive.rename(self.engine(), from, to),
            None => self.engine().catalog().rename(from, to),
        }
    }

    // Transactions.

    /// Runs `body` in a transaction and commits it, again and again until it commits.
    ///
    /// After a conflict the transaction is rolled back and `body` runs again from a newer
    /// snapshot: at first at once, then after a short random wait, and from the fourth attempt on
    /// while other commits wait for it, so that it gets through. `body` should do nothing outside
    /// the transaction that must not happen twice. If it returns an error or panics, the
    /// transaction is rolled back and that is the outcome.
    ///
    /// `body` may take its time, use other threads, take snapshots and run other transactions.
    /// See [`try_write`](Self::try_write) for an error type of your own.
    ///
    /// # Errors
    ///
    /// What `body` returns, and what [`Transaction::commit`] returns but conflicts.
    pub fn write<T>(&self, body: impl FnMut(&Transaction<'_>) -> Result<T>) -> Result<T> {
        run(self.engine(), &TransactionOptions::new(), body)
    }

    /// Like [`write`](Self::write), with an error type of the caller's.
    ///
    /// ```
    /// use palisade::{Database, Error};
    ///
    /// #[derive(Debug)]
    /// enum Refused {
    ///     Overdrawn,
    ///     Store(Error),
    /// }
    ///
    /// impl From<Error> for Refused {
    ///     fn from(error: Error) -> Self {
    ///         Self::Store(error)
    ///     }
    /// }
    ///
    /// # fn main() -> palisade::Result<()> {
    /// let db = Database::in_memory();
    /// let accounts = db.bucket::<u32, u64>("accounts")?;
    /// accounts.insert(1, 10)?;
    /// let outcome = db.try_write(|tx| {
    ///     let balance = tx.get(&accounts, &1)?.copied().unwrap_or(0);
    ///     let rest = balance.checked_sub(25).ok_or(Refused::Overdrawn)?;
    ///     tx.insert(&accounts, 1, rest)?;
    ///     Ok(())
    /// });
    /// assert!(matches!(outcome, Err(Refused::Overdrawn)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `body` returns, and what [`Transaction::commit`] returns but conflicts.
    pub fn try_write<T, E: From<Error>>(
        &self,
        body: impl FnMut(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        run(self.engine(), &TransactionOptions::new(), body)
    }

    /// Like [`try_write`](Self::try_write), with options.
    ///
    /// # Errors
    ///
    /// What `body` returns, what [`Transaction::commit`] returns but conflicts, and the last
    /// conflict when [`TransactionOptions::attempts_max`] is used up.
    pub fn write_with<T, E: From<Error>>(
        &self,
        options: &TransactionOptions,
        body: impl FnMut(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        run(self.engine(), options, body)
    }

    /// Calls `body` with a snapshot of now.
    pub fn read<T>(&self, body: impl FnOnce(&Snapshot) -> T) -> T {
        body(&Snapshot::take(self.engine(), false))
    }

    /// A snapshot of now, to keep, clone and share.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self.engine(), true)
    }

    /// Begins a transaction, to be committed by hand.
    pub fn begin(&self) -> Transaction<'_> {
        self.begin_with(&TransactionOptions::new())
    }

    /// Begins a transaction with options, to be committed by hand.
    pub fn begin_with(&self, options: &TransactionOptions) -> Transaction<'_> {
        Transaction::begin(self.engine(), options, true)
    }

    // Maintenance.

    /// Makes everything that was committed so far durable. In a database that lives in memory, or
    /// is open for reading only, it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Log`] if the log has failed: what was committed since the last successful sync is
    /// there or not after the database is opened again.
    pub fn sync(&self) -> Result<()> {
        let Some(store) = self.store() else { return Ok(()) };
        Ok(store.wal().sync_to(store.wal().position())?)
    }

    /// Waits until a commit is durable, and with it all before it.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub fn wait_durable(&self, receipt: &Receipt) -> Result<()> {
        match self.store().zip(receipt.position()) {
            Some((store, position)) => Ok(store.wal().sync_to(position)?),
            None => Ok(()),
        }
    }

    /// Writes what changed since the last checkpoint into tables, and lets go of the log before
    /// it, so that the next opening is fast. Readers and writers go on meanwhile. In a database
    /// that lives in memory it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] and [`Error::Log`]; the checkpoint before and the log stay good.
    /// [`Error::ReadOnly`] if the database is open for reading only.
    pub fn checkpoint(&self) -> Result<Checkpointed> {
        match &self.shared.home {
            Home::Files(keeper) => keeper.store.checkpoint(self.engine()),
            Home::ReadOnly(_) => Err(Error::ReadOnly),
            Home::Nowhere => Ok(Checkpointed::default()),
        }
    }

    /// Ends all threads, makes everything durable and notes that the database was closed.
    ///
    /// From then on other handles of it can read, and commit no writes to durable buckets. The
    /// directory is free when the last handle, bucket and snapshot is gone. Dropping the last
    /// one closes, too, and cannot tell of an error.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync), and [`Error::Checkpoint`] if the note could not be written.
    pub fn close(self) -> Result<()> {
        drop(self.shared.vacuum.lock().take());
        let Home::Files(keeper) = &self.shared.home else { return Ok(()) };
        keeper.stop();
        if keeper.store.has_many_segments() {
            keeper.store.checkpoint(self.engine())?;
        }
        if let Some(journal) = self.engine().journal() {
            journal.close();
        }
        keeper.store.close()
    }

    /// Removes what nobody can read any more: old versions, deleted keys, dropped buckets. Looks at
    /// `budget` records at most and goes on where the last call ended; `usize::MAX` for all.
    ///
    /// Commits do so by themselves for what was written before them; this looks at everything:
    /// also at small old versions of keys that nobody writes, at what expired, and where nobody
    /// commits any more. Readers and writers go on meanwhile.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn vacuum(&self, budget: usize) -> Vacuumed {
        Vacuumed::from(self.engine().vacuum(budget))
    }

    /// Checks the structure of every index; panics with what is wrong. For tests.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn check(&self) {
        let guard = self.engine().collector().pin();
        for table in self.engine().catalog().tables().iter() {
            table.check(&guard);
        }
    }

    /// What happened so far, and what is in memory now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(self.engine())
    }
}

/// A bucket that was opened, and has let values leave for which there was no room.
fn settled(engine: &Engine, bucket: BucketId) -> BucketId {
    engine.settle_in(bucket);
    bucket
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("engine", self.engine()).finish()
    }
}

//! What a database may be told when it is opened.

use std::path::Path;
use std::time::Duration;

use crate::db::background::Background;
use crate::db::files::{Files, RecoveryStep};
use crate::db::store::{self, Keeper, Recovery};
use crate::db::{Database, Home};
use crate::error::{Error, Result};
#[cfg(feature = "testing")]
use crate::storage::{Sabotages, Storage};
use crate::sync::Arc;
use crate::txn::{Durability, Engine, Isolation, Settings};

/// How to open a database.
///
/// The defaults are safe: serializable transactions, and in a durable database commits that are
/// on the device when they return.
///
/// ```
/// use std::time::Duration;
/// use palisade::{Isolation, Options};
///
/// let db = Options::new()
///     .isolation(Isolation::Snapshot)
///     .vacuum_every(Duration::from_secs(1))
///     .in_memory();
/// # drop(db);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Options {
    settings: Settings,
    vacuum_every: Option<Duration>,
    pub(super) files: Files,
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The isolation level of transactions that do not choose one:
    /// [`Isolation::Serializable`] unless set.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Starts a thread that vacuums at this interval. Without it nothing vacuums in the
    /// background: what was overwritten or removed leaves as others commit, and what
    /// [`Database::vacuum`] names besides when that is called.
    pub fn vacuum_every(mut self, interval: Duration) -> Self {
        self.vacuum_every = Some(interval);
        self
    }

    /// The most bytes that the entries of all buckets together may take: keys, values, all
    /// versions, and what the engine needs for them. No limit unless set. See
    /// [`BucketOptions::memory_limit`](crate::BucketOptions::memory_limit).
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = Some(bytes);
        self
    }

    /// How long a snapshot may be read: afterwards it refuses with
    /// [`Error::SnapshotTooOld`](crate::Error::SnapshotTooOld), and whoever drops it then frees
    /// what it held back. No bound unless set.
    pub fn snapshot_age_max(mut self, age: Duration) -> Self {
        self.settings.snapshots.age = Some(age);
        self
    }

    /// How many bytes of old versions may be held back before the snapshot that sees furthest back
    /// refuses with [`Error::SnapshotTooLarge`](crate::Error::SnapshotTooLarge). No bound unless
    /// set.
    pub fn snapshot_retained_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.snapshots.retained_bytes = Some(bytes);
        self
    }

    /// How much memory, in bytes, may be spent on what a transaction that is open and may write is
    /// compared with when it commits: what others committed meanwhile, and what is left of keys
    /// that were removed or evicted since. 64 MiB unless set; what is given up may be there as long
    /// again. A transaction that outlives the memory is refused with
    /// [`ConflictKind::WindowLost`](crate::ConflictKind::WindowLost); until it asks, it reads on
    /// from its snapshot.
    pub fn retained_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.rules.retained_bytes_max = bytes;
        self
    }

    /// How many pairs of transactions a commit may compare while it looks for an order that
    /// explains what they read, before it gives up with
    /// [`ConflictKind::SearchBudget`](crate::ConflictKind::SearchBudget): 262 144 unless set.
    pub fn search_budget(mut self, pairs: usize) -> Self {
        self.settings.rules.search_budget = pairs;
        self
    }

    /// Whether a transaction of which a read was overwritten is let through when no cycle of
    /// conflicts results. Off, it is refused, as most optimistic engines do: a reference to
    /// compare with.
    #[cfg(feature = "testing")]
    pub fn rescue(mut self, rescue: bool) -> Self {
        self.settings.rules.rescue = rescue;
        self
    }

    /// Makes a database that lives in memory and goes with its last handle.
    #[must_use]
    pub fn in_memory(&self) -> Database {
        let engine = Arc::new(Engine::new(&self.settings));
        let vacuum = self.vacuum_thread(&engine);
        Database::with(engine, Home::Nowhere, vacuum)
    }

    fn vacuum_thread(&self, engine: &Arc<Engine>) -> Option<Background> {
        let interval = self.vacuum_every?;
        let engine = Arc::clone(engine);
        Background::every("palisade-vacuum", interval, move || {
            engine.vacuum(usize::MAX);
        })
    }
}

/// Durable databases.
impl Options {
    /// What a commit survives: [`Durability::Full`] unless set. A database in a directory is at
    /// least [`Durability::Relaxed`]; for one that writes nothing there is
    /// [`in_memory`](Self::in_memory).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.files.durability = durability;
        self
    }

    /// At [`Durability::Relaxed`]: syncs the log so long after the last time. Unless one of the
    /// three conditions is set, the log is synced after 50 ms, 10 000 commits or 4 MiB, whichever
    /// comes first.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.files.flush_mut().interval = Some(interval);
        self
    }

    /// At [`Durability::Relaxed`]: syncs the log after so many commits.
    pub fn flush_after_commits(mut self, commits: u64) -> Self {
        self.files.flush_mut().commits = Some(commits);
        self
    }

    /// At [`Durability::Relaxed`]: syncs the log after so many bytes.
    pub fn flush_after_bytes(mut self, bytes: u64) -> Self {
        self.files.flush_mut().bytes = Some(bytes);
        self
    }

    /// The size of a segment of the log in bytes, which is allocated ahead: 64 MiB unless set, and
    /// 8 KiB at least. A transaction may write more than that.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.files.segment_bytes = Some(bytes);
        self
    }

    /// Makes a checkpoint when the log has so many bytes, or so large a part of the data in tables,
    /// in percent, whichever is more: 256 MiB and 100 % unless set. Smaller numbers make opening
    /// faster and write more: for each byte logged, up to one and 100 / `percent_of_data`.
    pub fn checkpoint_after(mut self, log_bytes: u64, percent_of_data: u32) -> Self {
        self.files.checkpoint.log_bytes_min = log_bytes;
        self.files.checkpoint.percent_of_data = percent_of_data;
        self
    }

    /// Makes a checkpoint at this interval, if anything was written since the last one, also when
    /// the log is short.
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.files.checkpoint.every = Some(interval);
        self
    }

    /// How fast a checkpoint may write, so that commits keep their latency: 200 MB/s unless set.
    /// `None` is as fast as it can.
    pub fn checkpoint_bytes_per_second(mut self, bytes: Option<u64>) -> Self {
        self.files.checkpoint.bytes_per_second = bytes;
        self
    }

    /// Whether a durable database has threads of its own: one that syncs the log and prepares
    /// its segments, and one that makes checkpoints. It has unless this says no; then whoever
    /// commits syncs when it is due, and checkpoints are made by [`Database::checkpoint`] alone.
    pub fn threads(mut self, threads: bool) -> Self {
        self.files.has_threads = threads;
        self
    }

    /// Is told how far a recovery has come: now and then while the log is read, and at its end;
    /// and the same for each bucket when it is opened for the first time, then from all threads
    /// that bring it into memory. It must not use the database, which waits for it.
    pub fn on_recovery(mut self, progress: impl Fn(RecoveryStep) + Send + Sync + 'static) -> Self {
        self.files.progress = Some(Arc::new(progress));
        self
    }

    /// Puts the files on another storage: a simulated disk, for instance.
    #[cfg(feature = "testing")]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.files.storage = storage;
        self
    }

    /// Draws everything random from here, so that a run can be repeated.
    #[cfg(feature = "testing")]
    pub fn seed(mut self, seed: u64) -> Self {
        self.files.seed = Some(seed);
        self
    }

    /// The size of a checkpoint's tables in bytes, about.
    #[cfg(feature = "testing")]
    pub fn table_bytes(mut self, bytes: u64) -> Self {
        self.files.checkpoint.table_bytes = bytes;
        self
    }

    /// Breaks a rule of the log or of the checkpoints.
    #[cfg(feature = "testing")]
    pub fn sabotage(mut self, sabotages: Sabotages) -> Self {
        self.files.sabotages = sabotages;
        self
    }

    /// Opens the database in a directory, which is made if it does not exist, and recovers what
    /// was committed.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyOpen`](crate::Error::AlreadyOpen) if another handle has it, in this process
    /// or another one. [`Error::Log`](crate::Error::Log) and
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if its files are damaged or of another
    /// version. [`Error::Io`](crate::Error::Io). [`Error::InMemory`](crate::Error::InMemory) if
    /// [`Durability::InMemory`] was asked for.
    pub fn open(&self, directory: impl AsRef<Path>) -> Result<Database> {
        Ok(self.recover(directory)?.0)
    }

    /// Like [`open`](Self::open), and tells what was found.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn recover(&self, directory: impl AsRef<Path>) -> Result<(Database, Recovery)> {
        if self.files.durability == Durability::InMemory {
            return Err(Error::InMemory);
        }
        let (store, recovery) =
            store::open(directory.as_ref(), self.files.clone().fit(self.settings.memory_limit))?;
        let keeper = Arc::new(Keeper::new(store));
        let engine = store::engine(&keeper, &self.settings);
        keeper.watch(&engine);
        if self.files.has_threads {
            keeper.start(&engine);
        }
        let vacuum = self.vacuum_thread(&engine);
        Ok((Database::with(engine, Home::Files(keeper), vacuum), recovery))
    }

    /// Opens the database in a directory to read it, and writes nothing there: not into the files,
    /// nor any file. It may have been left by a crash, and the directory need not be writable.
    ///
    /// What opening it to write would recover is there. Others may read it at the same time, in
    /// this process or another one; while they do nobody can open it to write. Durable buckets
    /// that exist can be opened and read. A commit that writes to one of them is refused with
    /// [`Error::ReadOnly`](crate::Error::ReadOnly); volatile buckets work as ever.
    ///
    /// ```
    /// use palisade::{Database, Error, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let db = Database::open(path)?;
    /// db.bucket::<String, u64>("visits")?.insert("ada".into(), 1)?;
    /// drop(db);
    ///
    /// let db = Options::new().open_read_only(path)?;
    /// let visits = db.bucket::<String, u64>("visits")?;
    /// assert_eq!(visits.get("ada")?, Some(1));
    /// assert!(matches!(visits.insert("bob".into(), 1), Err(Error::ReadOnly)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no database,
    /// [`Error::AlreadyOpen`](crate::Error::AlreadyOpen) if someone has it open to write; else as
    /// [`open`](Self::open).
    pub fn open_read_only(&self, directory: impl AsRef<Path>) -> Result<Database> {
        let (reading, _) = store::open_read_only(directory.as_ref(), self.files.clone())?;
        let reading = Arc::new(reading);
        let engine = store::reading_engine(&reading, &self.settings);
        let vacuum = self.vacuum_thread(&engine);
        Ok(Database::with(engine, Home::ReadOnly(reading), vacuum))
    }

    /// Says what [`recover`](Self::recover) would find in a directory, and does none of it: a dry
    /// run.
    ///
    /// ```
    /// use palisade::{Database, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let db = Database::open(path)?;
    /// db.bucket::<String, u64>("visits")?.insert("ada".into(), 1)?;
    /// db.close()?;
    ///
    /// let recovery = Options::new().examine(path)?;
    /// assert!(recovery.was_closed);
    /// assert_eq!(recovery.commits, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open_read_only`](Self::open_read_only).
    pub fn examine(&self, directory: impl AsRef<Path>) -> Result<Recovery> {
        store::examine(directory.as_ref(), self.files.clone())
    }
}

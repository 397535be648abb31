//! The database under test, as the model sees it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use palisade::testing::{FaultDisk, Sabotages};
use palisade::{
    Bucket, CheckpointError, Database, Durability, Error, FetchError, Options, Receipt, Recovery,
    Snapshot, Transaction, TransactionOptions, WalError,
};

use crate::model::{Content, Name, Plan, State, Step, Value, name_of};

pub(crate) const DIRECTORY: &str = "/db";
const CACHE: &str = "cache";

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u32,
    pub(crate) table_bytes: u64,
    pub(crate) flush_after_commits: Option<u64>,
    /// Values leave memory for the files above it.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) sabotages: Sabotages,
}

impl Setup {
    pub(crate) fn options(&self, disk: &FaultDisk) -> Options {
        let options = Options::new()
            .storage(Arc::new(disk.clone()))
            .seed(self.seed)
            .sabotage(self.sabotages)
            .durability(self.durability)
            .segment_bytes(self.segment_bytes)
            .table_bytes(self.table_bytes)
            .checkpoint_bytes_per_second(None)
            .threads(false);
        let options = match self.flush_after_commits {
            Some(commits) => options.flush_after_commits(commits),
            None => options,
        };
        match self.memory_limit {
            Some(bytes) => options.memory_limit(bytes),
            None => options,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.durability == Durability::Full
    }
}

/// A durable bucket of one of two types.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Numbers(Bucket<u64, Vec<u8>>),
    Words(Bucket<String, String>),
}

fn word(key: u16) -> String {
    format!("word {key:05}")
}

fn key_of_word(word: &str) -> Option<u16> {
    word.strip_prefix("word ")?.parse().ok()
}

impl Handle {
    pub(crate) fn open(db: &Database, name: Name) -> Result<Self, Error> {
        Ok(if name.starts_with("numbers") {
            Self::Numbers(db.bucket(name)?)
        } else {
            Self::Words(db.bucket(name)?)
        })
    }

    fn insert(&self, tx: &Transaction<'_>, key: u16, value: Value) -> Result<(), Error> {
        match self {
            Self::Numbers(bucket) => {
                tx.insert(bucket, key.into(), value.text().into_bytes()).map(drop)
            }
            Self::Words(bucket) => tx.insert(bucket, word(key), value.text()).map(drop),
        }
    }

    fn remove(&self, tx: &Transaction<'_>, key: u16) -> Result<(), Error> {
        match self {
            Self::Numbers(bucket) => tx.remove(bucket, &u64::from(key)).map(drop),
            Self::Words(bucket) => tx.remove(bucket, word(key).as_str()).map(drop),
        }
    }

    fn remove_range(&self, tx: &Transaction<'_>, low: u16, high: u16) -> Result<(), Error> {
        match self {
            Self::Numbers(bucket) => {
                tx.remove_range(bucket, u64::from(low)..u64::from(high)).map(drop)
            }
            Self::Words(bucket) => tx.remove_range(bucket, word(low)..word(high)).map(drop),
        }
    }

    fn clear(&self, tx: &Transaction<'_>) -> Result<(), Error> {
        match self {
            Self::Numbers(bucket) => tx.clear(bucket).map(drop),
            Self::Words(bucket) => tx.clear(bucket).map(drop),
        }
    }

    /// What the bucket holds; words if that cannot be.
    pub(crate) fn content(&self, snapshot: &Snapshot) -> Result<Content, String> {
        let read = self.read(snapshot);
        // A call to the disk that was made to fail, fails once.
        let is_io = |error: &Error| matches!(error, Error::Fetch(_)) && !blames_the_disk(error);
        let read = if read.as_ref().is_err_and(is_io) { self.read(snapshot) } else { read };
        read.map_err(|error| tell(&error))?
    }

    fn read(&self, snapshot: &Snapshot) -> Result<Result<Content, String>, Error> {
        let (mut content, mut wrong) = (Content::default(), None);
        let mut add = |key: Option<u16>, bytes: &[u8]| {
            match key.zip(Value::parse(bytes)) {
                Some((key, value)) => content.insert(key, value),
                None => wrong = Some((key, bytes.len())),
            }
            ControlFlow::Continue(())
        };
        // What is not in memory is not kept there.
        match self {
            Self::Numbers(bucket) => {
                snapshot.iter(bucket)?.visit(|key, value| add(u16::try_from(*key).ok(), value))?;
            }
            Self::Words(bucket) => snapshot
                .iter(bucket)?
                .visit(|key, value| add(key_of_word(key), value.as_bytes()))?,
        }
        Ok(match wrong {
            None => Ok(content),
            Some((key, length)) => {
                Err(format!("an entry that nobody wrote: key {key:?}, {length} bytes"))
            }
        })
    }
}

/// An open database, with those of its buckets that somebody opened.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) db: Database,
    pub(crate) handles: BTreeMap<Name, Handle>,
    pub(crate) cache: Bucket<u16, u32>,
}

impl Engine {
    pub(crate) fn open(disk: &FaultDisk, setup: &Setup) -> Result<(Self, Recovery), Error> {
        let (db, recovery) = setup.options(disk).recover(DIRECTORY)?;
        let cache = db.volatile_bucket(CACHE)?;
        Ok((Self { db, handles: BTreeMap::new(), cache }, recovery))
    }

    /// Runs a transaction.
    pub(crate) fn transact(&self, plan: &Plan) -> Result<Option<Receipt>, Error> {
        let mut options = TransactionOptions::new();
        if plan.is_raised {
            options = options.durability(Durability::Full);
        }
        let tx = self.db.begin_with(&options);
        for step in &plan.steps {
            self.step(&tx, *step)?;
        }
        if plan.rolls_back {
            tx.rollback();
            return Ok(None);
        }
        tx.commit().map(Some)
    }

    fn step(&self, tx: &Transaction<'_>, step: Step) -> Result<(), Error> {
        let handle = |name: Name| self.handles.get(name).expect("steps name open buckets");
        match step {
            Step::Insert(name, key, value) => handle(name).insert(tx, key, value),
            Step::Remove(name, key) => handle(name).remove(tx, key),
            Step::RemoveRange(name, low, high) => handle(name).remove_range(tx, low, high),
            Step::Clear(name) => handle(name).clear(tx),
            Step::Cache(key, value) => tx.insert(&self.cache, key, value).map(drop),
            Step::Save => {
                tx.savepoint("here");
                Ok(())
            }
            Step::Back => tx.rollback_to("here"),
        }
    }

    /// Why the log takes no more records, if it does not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.db.stats().log.and_then(|log| log.failure)
    }

    /// Whether readers see one of these states in all open buckets, volatile ones included.
    pub(crate) fn shows_one_of(&self, states: &[Arc<State>]) -> Result<(), String> {
        let snapshot = self.db.snapshot();
        let mut contents = Vec::new();
        for (&name, handle) in &self.handles {
            contents.push((name, handle.content(&snapshot)?));
        }
        let cache: BTreeMap<u16, u32> = snapshot
            .iter(&self.cache)
            .map_err(|error| tell(&error))?
            .map(|(key, value)| (*key, *value))
            .collect();
        let fits = |state: &&Arc<State>| {
            let same = |(name, content): &(Name, Content)| {
                state.content(name).is_some_and(|expected| **expected == *content)
            };
            contents.iter().all(same) && *state.cache() == cache
        };
        match states.iter().find(fits) {
            Some(_) => Ok(()),
            None => Err("readers see what was never committed".to_owned()),
        }
    }
}

/// Everything that a database holds.
fn read(db: &Database) -> Result<State, String> {
    let mut state = State::default();
    for bucket in db.buckets() {
        let name = name_of(&bucket.name)
            .ok_or_else(|| format!("a bucket {:?} that nobody made", bucket.name))?;
        let opened = Handle::open(db, name);
        let handle = opened.map_err(|error| format!("bucket {name:?}: {}", tell(&error)))?;
        state.put(name, handle.content(&db.snapshot())?);
    }
    Ok(state)
}

/// Opens the database, and says what it holds. It stays open for as long as what is returned.
pub(crate) fn recover(
    disk: &FaultDisk,
    setup: &Setup,
) -> Result<(State, Recovery, Database), String> {
    let open = || {
        let (db, recovery) =
            setup.options(disk).recover(DIRECTORY).map_err(|error| tell(&error))?;
        Ok((read(&db)?, recovery, db))
    };
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic))))
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// An error with its sources.
pub(crate) fn tell(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Whether an error blames the bytes on the disk.
pub(crate) fn blames_the_disk(error: &Error) -> bool {
    match error {
        Error::Log(error) => !matches!(
            error,
            WalError::Io { .. } | WalError::NoSpace { .. } | WalError::Poisoned { .. }
        ),
        Error::Checkpoint(error) => !matches!(error, CheckpointError::Io { .. }),
        Error::Fetch(FetchError::File(error)) => !matches!(**error, CheckpointError::Io { .. }),
        Error::Io { .. } => false,
        _ => true,
    }
}

/// Whether an error says that a limit leaves no room.
pub(crate) fn wants_room(error: &Error) -> bool {
    matches!(error, Error::MemoryLimit { .. } | Error::Fetch(FetchError::NoRoom { .. }))
}

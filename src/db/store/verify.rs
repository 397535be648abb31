//! Checking everything that a database has in its files.
//!
//! ```text
//! MANIFEST   checksum, catalog; that it is the one that was stored last
//! tables     header, footer, index; blocks, values; keys in order, ranges side by side
//! log        segments, the chain of their links, records, what the records hold
//! ```
//!
//! 1. Nothing is written, and every problem is told, not the first alone.
//! 2. Keys are compared as bytes where the bucket says that they sort so, and else by their type,
//!    if the bucket is open; otherwise nobody knows their order.
//! 3. Of an open database, checkpoints wait, so that tables and log stay what they are.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::table::Table;
use crate::checkpoint::{CheckpointError, TableKind, list_tables};
use crate::db::files::Files;
use crate::db::store::Store;
use crate::db::store::archive::Archive;
use crate::db::store::lock::lock_shared;
use crate::db::store::open::{ahead, each_operation, newest_table, scope_of};
use crate::db::store::read_only::Reading;
use crate::db::store::state::{Life, State};
use crate::error::{Error, Result};
use crate::id::{StoredId, Timestamp};
use crate::mvcc::ops::Op;
use crate::mvcc::tables::AnyTable;
use crate::storage::Storage;
use crate::sync::Arc;
use crate::txn::Engine;
use crate::wal::{Kind, Record, Recovered, Scope, WalError, path_of, read_log};

/// What a check of a database's files has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Tables read.
    pub tables: usize,
    /// Entries in them.
    pub entries: u64,
    /// Their size in bytes.
    pub table_bytes: u64,
    /// Commits in the log.
    pub commits: u64,
    /// What they wrote, in bytes.
    pub log_bytes: u64,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong with a file of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file, or the directory if a file is missing.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)
    }
}

impl Problem {
    pub(super) fn of(error: &Error) -> Self {
        let whole = error.to_string();
        let (path, offset, what) = match error {
            Error::Checkpoint(CheckpointError::Corruption { path, offset, what }) => {
                (path.clone(), *offset, what.to_string())
            }
            Error::Log(WalError::Corruption { path, offset, flaw, durable }) => {
                (path.clone(), *offset, format!("{flaw}; durable up to {durable}"))
            }
            Error::Log(WalError::MissingSegment { directory, .. }) => (directory.clone(), 0, whole),
            Error::Checkpoint(
                CheckpointError::Io { path, .. } | CheckpointError::Version { path, .. },
            )
            | Error::Log(
                WalError::Io { path, .. }
                | WalError::Foreign { path }
                | WalError::Version { path, .. },
            )
            | Error::Io { path, .. } => (path.clone(), 0, whole),
            _ => (PathBuf::new(), 0, whole),
        };
        Self { path, offset, what }
    }
}

/// Checks the database in a directory, which nobody has open to write.
pub(in crate::db) fn verify(directory: &Path, files: &Files) -> Result<Verified> {
    let storage = &*files.storage;
    let _lock = lock_shared(storage, directory)?;
    let mut check = Check { storage, directory, verified: Verified::default() };
    match Manifest::load(storage, directory) {
        Ok(None) => return Err(Error::NotFound { path: directory.to_owned() }),
        Ok(Some(manifest)) => check.all(&manifest, files, &|_| None)?,
        Err(error) => {
            check.wrong(error);
            check.unlisted();
        }
    }
    Ok(check.verified)
}

impl Reading {
    pub(in crate::db) fn verify(&self, engine: &Engine) -> Result<Verified> {
        let (mut check, manifest) = begin(&self.archive)?;
        if let Some(manifest) = manifest {
            check.all(&manifest, &self.files, &|bucket| typed(&self.archive, engine, bucket))?;
        }
        Ok(check.verified)
    }
}

impl Store {
    pub(in crate::db) fn verify(&self, engine: &Engine) -> Result<Verified> {
        let _checkpoints_wait = self.checkpoint.lock();
        let end = self.wal.position();
        let (mut check, manifest) = begin(&self.archive)?;
        let Some(manifest) = manifest else { return Ok(check.verified) };
        check.tables(&manifest, &|bucket| typed(&self.archive, engine, bucket));
        let mut catalog = State::new(manifest.clone());
        let read = self.wal.read::<Error>(manifest.first_needed, end, &mut |record| {
            check.record(&mut catalog, &record);
            Ok(())
        });
        if let Err(error) = read {
            check.wrong(error);
        }
        Ok(check.verified)
    }
}

/// Begins with the manifest of a database that is open.
fn begin(archive: &Archive) -> Result<(Check<'_>, Option<Manifest>)> {
    let Archive { storage, directory, database, state, .. } = archive;
    let (storage, directory) = (&**storage, directory.as_path());
    let mut check = Check { storage, directory, verified: Verified::default() };
    // The lock keeps the next manifest from being stored meanwhile.
    let state = state.lock();
    let manifest = match Manifest::load(storage, directory) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Err(Error::NotFound { path: directory.to_owned() }),
        Err(error) => {
            check.wrong(error);
            return Ok((check, None));
        }
    };
    if (manifest.database, manifest.generation) != (*database, state.generation) {
        check.problem(directory.join("MANIFEST"), 0, "this is not the manifest stored last");
    }
    Ok((check, Some(manifest)))
}

/// The table in memory of a bucket that is open.
fn typed<'e>(archive: &Archive, engine: &'e Engine, id: StoredId) -> Option<&'e dyn AnyTable> {
    let state = archive.state.lock();
    match state.buckets.get(&id)?.life {
        Life::Open(open) => Some(engine.catalog().tables().get(open)),
        Life::Closed(_) => None,
    }
}

/// Finds the table in memory of a bucket, if it is open.
type Typed<'a, 'e> = dyn Fn(StoredId) -> Option<&'e dyn AnyTable> + 'a;

/// A check under way.
struct Check<'a> {
    storage: &'a dyn Storage,
    directory: &'a Path,
    verified: Verified,
}

impl Check<'_> {
    fn wrong(&mut self, error: impl Into<Error>) {
        self.verified.problems.push(Problem::of(&error.into()));
    }

    fn problem(&mut self, path: PathBuf, offset: u64, what: impl Into<String>) {
        self.verified.problems.push(Problem { path, offset, what: what.into() });
    }

    /// Everything that a manifest names, and the log.
    fn all(&mut self, manifest: &Manifest, files: &Files, typed: &Typed<'_, '_>) -> Result<()> {
        self.tables(manifest, typed);
        let scope = Scope { tolerates_damage: true, ..scope_of(manifest) };
        let mut catalog = State::new(manifest.clone());
        let recovered = self.log(files, &scope, &mut catalog)?;
        if recovered.end < newest_table(manifest) {
            self.wrong(ahead(self.directory, newest_table(manifest), recovered.end));
        }
        Ok(())
    }

    fn log(&mut self, files: &Files, scope: &Scope, catalog: &mut State) -> Result<Recovered> {
        let (storage, directory) = (Arc::clone(&files.storage), self.directory);
        let options = files.wal_options();
        let recovered = read_log::<Error>(storage, directory, scope, &options, &mut |record| {
            self.record(catalog, &record);
            Ok(())
        })?;
        recovered.damage.iter().for_each(|damage| self.wrong(damage.clone()));
        Ok(recovered)
    }

    /// What a record of the log holds.
    fn record(&mut self, catalog: &mut State, record: &Record<'_>) {
        if record.kind != Kind::Commit {
            return;
        }
        self.verified.commits += 1;
        self.verified.log_bytes += record.payload.len() as u64;
        let mut stranger = None;
        let read = each_operation(self.directory, record, |op| {
            match *op {
                Op::Put { bucket, .. } | Op::Remove { bucket, .. } => {
                    let is_known = bucket.get() < catalog.next_bucket;
                    stranger = stranger.or(Some(bucket).filter(|_| !is_known));
                }
                _ => catalog.replay(op, Timestamp::ZERO),
            }
            Ok(())
        });
        if let Err(error) = read {
            self.wrong(error);
        }
        if let Some(bucket) = stranger {
            let what = format!("a write to bucket {}, which was never created", bucket.get());
            let (path, offset) = (path_of(self.directory, record.lsn), record.lsn.offset());
            self.problem(path, offset.into(), what);
        }
    }

    /// Without a manifest: every table by itself.
    fn unlisted(&mut self) {
        let tables = match list_tables(self.storage, self.directory) {
            Ok(tables) => tables,
            Err(error) => return self.wrong(error),
        };
        for id in tables {
            match Table::open_unlisted(self.storage, self.directory, id) {
                Ok(table) => self.table(&table, &mut |_, _, _| {}),
                Err(error) => self.wrong(error),
            }
        }
    }

    fn tables(&mut self, manifest: &Manifest, typed: &Typed<'_, '_>) {
        for bucket in &manifest.buckets {
            let order = Order { is_ordered: bucket.is_ordered, table: typed(bucket.id) };
            for (at, record) in bucket.tables.iter().enumerate() {
                let next = bucket.tables.get(at + 1).filter(|next| next.kind == TableKind::Range);
                // The first range has no lower bound, the last one no upper.
                let low = Some(record.lower.as_slice()).filter(|_| at > 0);
                let bounds = (low, next.map(|next| next.lower.as_slice()));
                let (storage, directory) = (self.storage, self.directory);
                match Table::open(storage, directory, manifest.database, bucket.id, record) {
                    Ok(table) if record.kind == TableKind::Range => {
                        self.range(&table, bounds, &order);
                    }
                    Ok(table) => self.table(&table, &mut |_, _, _| {}),
                    Err(error) => self.wrong(error),
                }
            }
        }
    }

    /// The table of a range, whose keys lie between two bounds, the upper one excluded.
    fn range(
        &mut self,
        table: &Table,
        (low, high): (Option<&[u8]>, Option<&[u8]>),
        order: &Order<'_>,
    ) {
        let path = table.path();
        if order.is_ordered && !table.is_sorted() {
            let what = "the keys are not in order, and those of this bucket sort as bytes do";
            self.problem(path.to_owned(), 0, what);
        }
        if low.zip(high).is_some_and(|(low, high)| order.is_wrong(low, high)) {
            self.problem(path.to_owned(), 0, "the range ends before it begins");
        }
        let mut previous: Option<Vec<u8>> = None;
        self.table(table, &mut |check, key, offset| {
            if order.is_outside(key, low, high) {
                check.problem(path.to_owned(), offset, "a key outside of its table's range");
            }
            if previous.as_ref().is_some_and(|previous| order.is_wrong(previous, key)) {
                check.problem(path.to_owned(), offset, "a key that is not in order");
            }
            let kept = previous.get_or_insert_default();
            kept.clear();
            kept.extend_from_slice(key);
        });
    }

    /// The blocks and values of a table; passes on its keys.
    fn table(&mut self, table: &Table, each: &mut dyn FnMut(&mut Self, &[u8], u64)) {
        self.verified.tables += 1;
        self.verified.table_bytes += table.file_length();
        let mut problems = Vec::new();
        let mut entries = 0;
        table.verify(
            &mut |entry| {
                entries += 1;
                each(self, entry.key, entry.position.offset);
            },
            &mut |problem| problems.push(problem),
        );
        self.verified.entries += entries;
        for problem in problems {
            self.wrong(problem);
        }
    }
}

/// How the keys of a bucket compare, as far as that is known (2).
struct Order<'a> {
    is_ordered: bool,
    table: Option<&'a dyn AnyTable>,
}

impl Order<'_> {
    fn compare(&self, one: &[u8], other: &[u8]) -> Option<Ordering> {
        if self.is_ordered {
            return Some(one.cmp(other));
        }
        self.table?.compare_keys(one, other).ok()
    }

    /// Whether two keys that should rise are known not to.
    fn is_wrong(&self, one: &[u8], other: &[u8]) -> bool {
        self.compare(one, other).is_some_and(Ordering::is_ge)
    }

    /// Whether a key is known not to lie between two bounds, the upper one excluded.
    fn is_outside(&self, key: &[u8], low: Option<&[u8]>, high: Option<&[u8]>) -> bool {
        let is =
            |bound: &[u8], wrong: fn(Ordering) -> bool| self.compare(bound, key).is_some_and(wrong);
        low.is_some_and(|low| is(low, Ordering::is_gt))
            || high.is_some_and(|high| is(high, Ordering::is_le))
    }
}

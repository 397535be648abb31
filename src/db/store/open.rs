//! Opening the files of a database, and recovering what was committed.
//!
//! ```text
//! lock ─► manifest ─► log: every check, and its records from `needed` on ─► state, pending
//!           │ none: a new database                                             │
//!           └─► unfinished files go                     buckets are loaded when they are opened
//! ```
//!
//! 1. Nothing is read before the directory is locked.
//! 2. A new database exists from its manifest on; before that the directory may be tried again.
//! 3. Before anything is committed the manifest says that the database is open, and how far the
//!    log had come: its new segment can not go missing without a trace, and what stands behind a
//!    clean end is not taken for nothing.
//! 4. No table is ahead of the log: its end is at or behind the position of each table.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::Manifest;
use crate::db::files::{Files, RecoveryStep};
use crate::db::store::Store;
use crate::db::store::archive::Archive;
use crate::db::store::checkpoint::Progress;
use crate::db::store::lock::lock;
use crate::db::store::state::State;
use crate::error::{Error, Result};
use crate::id::{Lsn, Timestamp};
use crate::mvcc::ops::{Op, Reader};
use crate::storage::Storage;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex};
use crate::wal::{Kind, Record, Recovered, Scope, Wal, unreadable};

/// What opening a database found and did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the database was created just now.
    pub is_new: bool,
    /// Whether it had been closed, so that the log was known to be whole.
    pub was_closed: bool,
    /// The newest commit that was recovered.
    pub newest: Timestamp,
    /// Commits read from the log, those behind the last checkpoint.
    pub commits: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Bytes behind the end of the log that were discarded: of commits that nobody was promised.
    pub discarded_bytes: u64,
    /// Whole records among those.
    pub discarded_records: u64,
    /// Why the log ends where it does.
    pub end: String,
    /// How long it took. Buckets are loaded later, when they are opened.
    pub took: Duration,
}

/// Opens the database in a directory, or makes one.
pub(in crate::db) fn open(directory: &Path, files: Files) -> Result<(Store, Recovery)> {
    let began = Instant::now();
    let storage = Arc::clone(&files.storage);
    let lock = lock(&*storage, directory)?;
    let found = Manifest::load(&*storage, directory)?;
    let is_new = found.is_none();
    let manifest = match found {
        Some(manifest) => manifest,
        None => create(&*storage, directory, &files)?,
    };
    manifest.clean(&*storage, directory, files.sabotages)?;
    let found = Found { directory, manifest, is_new, began };
    let (archive, wal, report) = recover(found, &files, |scope, visit| {
        Wal::open(Arc::clone(&storage), directory, scope, files.wal_options(), visit)
    })?;
    let scanned = wal.position();
    let store = Store {
        archive,
        wal: Arc::new(wal),
        files,
        checkpoint: Mutex::new(Progress { scanned, has_saved: false }),
        is_closed: Mutex::new(false),
        at_work: Mutex::default(),
        is_closing: AtomicBool::new(false),
        saves: AtomicU64::new(0),
        is_short: AtomicU64::new(0),
        _lock: lock,
    };
    // Keeps 3.
    store.store_manifest(&mut store.archive.state.lock(), report.newest, None)?;
    tracing::debug!(?report, directory = %directory.display(), "database opened");
    Ok((store, report))
}

/// A database as its manifest describes it.
pub(super) struct Found<'a> {
    pub(super) directory: &'a Path,
    pub(super) manifest: Manifest,
    pub(super) is_new: bool,
    /// When opening began.
    pub(super) began: Instant,
}

/// Recovers what was committed; `read` passes on the records of the log.
pub(super) fn recover<T>(
    found: Found<'_>,
    files: &Files,
    read: impl FnOnce(&Scope, &mut Visit<'_>) -> Result<(T, Recovered)>,
) -> Result<(Archive, T, Recovery)> {
    let Found { directory, manifest, is_new, began } = found;
    let scope = scope_of(&manifest);
    let newest_table = newest_table(&manifest);
    let last = manifest.last_timestamp;
    let mut state = State::new(manifest);
    let mut replay = Replay { state: &mut state, directory, files, commits: 0, bytes: 0 };
    let (log, recovered) = read(&scope, &mut |record| replay.apply(&record))?;
    replay.tell();
    if recovered.end < newest_table {
        return Err(ahead(directory, newest_table, recovered.end));
    }
    let newest = last.max(recovered.last);
    let archive = Archive {
        storage: Arc::clone(&files.storage),
        directory: directory.to_owned(),
        database: scope.database,
        recovered: newest,
        recovered_end: recovered.end,
        progress: files.progress.clone(),
        state: Mutex::new(state),
    };
    let was_closed = scope.clean_end == Some(recovered.end);
    Ok((archive, log, report(&recovered, is_new, was_closed, newest, began)))
}

/// What of the log belongs to a manifest.
pub(super) fn scope_of(manifest: &Manifest) -> Scope {
    Scope {
        database: manifest.database,
        needed: manifest.first_needed,
        clean_end: manifest.clean_end,
        durable: manifest.durable,
        tolerates_damage: false,
    }
}

/// How far the log had come when the newest of the tables was written.
pub(super) fn newest_table(manifest: &Manifest) -> Lsn {
    manifest.tables().map(|(_, table)| table.lsn).max().unwrap_or(Lsn::ZERO)
}

/// Takes the records of the log.
pub(super) type Visit<'a> = dyn FnMut(Record<'_>) -> Result<()> + 'a;

fn create(storage: &dyn Storage, directory: &Path, files: &Files) -> Result<Manifest> {
    let manifest = Manifest::new(files.database_id());
    let stored = manifest.store(storage, directory, files.sabotages);
    stored.map_err(|error| error.source)?;
    // The name of the directory itself; there is none above the root.
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        storage.sync_dir(parent).map_err(Error::io("sync", parent))?;
    }
    Ok(manifest)
}

/// Commits between two reports of progress.
const REPORT_EVERY: u64 = 10_000;

struct Replay<'a> {
    state: &'a mut State,
    directory: &'a Path,
    files: &'a Files,
    commits: u64,
    bytes: u64,
}

impl Replay<'_> {
    fn apply(&mut self, record: &Record<'_>) -> Result<()> {
        if record.kind != Kind::Commit {
            return Ok(());
        }
        each_operation(self.directory, record, |op| {
            self.state.replay(op, record.timestamp);
            Ok(())
        })?;
        self.commits += 1;
        self.bytes += record.payload.len() as u64;
        if self.commits.is_multiple_of(REPORT_EVERY) {
            self.tell();
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(progress) = &self.files.progress {
            progress(RecoveryStep::Log { commits: self.commits, bytes: self.bytes });
        }
    }
}

/// Passes on what a record holds.
pub(super) fn each_operation(
    directory: &Path,
    record: &Record<'_>,
    mut each: impl FnMut(&Op<'_>) -> Result<()>,
) -> Result<()> {
    let mut count = 0_usize;
    for op in Reader::new(record.payload) {
        each(&op.map_err(|_| unreadable(directory, record.lsn))?)?;
        count += 1;
    }
    if count & usize::from(u16::MAX) != usize::from(record.ops) {
        return Err(unreadable(directory, record.lsn).into());
    }
    Ok(())
}

/// The error for a log that ends before a table that was written from it (4).
pub(super) fn ahead(directory: &Path, table: Lsn, end: Lsn) -> Error {
    let what = format!("a table was written when the log had come to {table}; it ends at {end}");
    Error::Checkpoint(CheckpointError::Corruption {
        path: directory.to_owned(),
        offset: 0,
        what: what.into(),
    })
}

fn report(
    recovered: &Recovered,
    is_new: bool,
    was_closed: bool,
    newest: Timestamp,
    began: Instant,
) -> Recovery {
    Recovery {
        is_new,
        was_closed,
        newest,
        commits: recovered.commits,
        log_bytes: recovered.bytes,
        discarded_bytes: recovered.discarded_bytes,
        discarded_records: recovered.discarded_records,
        end: recovered.flaw.to_string(),
        took: began.elapsed(),
    }
}

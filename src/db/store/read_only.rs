//! Opening the files of a database to read them, and nothing else.
//!
//! 1. Nothing is written: no file is made, changed or removed, not even the lock's. So it works in
//!    a directory that may not be written to, and what a crash left stays for whoever opens it to
//!    write.
//! 2. Everything is checked that opening to write checks, by the same code.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use crate::checkpoint::manifest::Manifest;
use crate::db::files::Files;
use crate::db::store::archive::Archive;
use crate::db::store::lock::lock_shared;
use crate::db::store::open::{Found, Recovery, recover};
use crate::error::{Error, Result};
use crate::storage::Lock;
use crate::sync::Arc;
use crate::txn::{Backing, Engine, Settings};
use crate::wal::read_log;

/// The files of a database that is open for reading.
pub(in crate::db) struct Reading {
    pub(in crate::db) archive: Archive,
    pub(super) files: Files,
    _lock: Option<Box<dyn Lock>>,
}

/// Opens the database in a directory to read it.
pub(in crate::db) fn open_read_only(directory: &Path, files: Files) -> Result<(Reading, Recovery)> {
    let began = Instant::now();
    let storage = Arc::clone(&files.storage);
    let lock = lock_shared(&*storage, directory)?;
    let manifest = Manifest::load(&*storage, directory)?;
    let manifest = manifest.ok_or_else(|| Error::NotFound { path: directory.to_owned() })?;
    let found = Found { directory, manifest, is_new: false, began };
    let (archive, (), recovery) = recover(found, &files, |scope, visit| {
        let options = files.wal_options();
        Ok(((), read_log(Arc::clone(&storage), directory, scope, &options, visit)?))
    })?;
    Ok((Reading { archive, files, _lock: lock }, recovery))
}

/// What opening the database in a directory would find and do. Buckets are not looked at.
pub(in crate::db) fn examine(directory: &Path, files: Files) -> Result<Recovery> {
    open_read_only(directory, files).map(|(_, recovery)| recovery)
}

/// An engine that shows what was recovered, and keeps it.
pub(in crate::db) fn engine(reading: &Arc<Reading>, settings: &Settings) -> Arc<Engine> {
    let kept: Arc<Reading> = Arc::clone(reading);
    let backing = Backing::ReadOnly { _keeper: kept };
    Arc::new(Engine::recovered(settings, reading.archive.recovered, backing))
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("directory", &self.archive.directory)
            .finish_non_exhaustive()
    }
}

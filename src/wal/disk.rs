//! The directory of the log, with errors that say what was tried and where.
//!
//! 1. An interrupted read or write is tried again. A sync never is: its second answer is worth
//!    nothing.
//! 2. A read that fails is a failure to read, never the end of a file.
//! 3. A failed sync of the names poisons the log: another name that waited for the same sync may be
//!    lost with it, and the next sync would not say so.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::{Access, File, Sabotage, Sabotages, Storage};
use crate::sync::Arc;
use crate::wal::error::WalError;
use crate::wal::poison::Poison;

/// Where the files of the log are.
#[derive(Debug)]
pub(super) struct Disk {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    sabotages: Sabotages,
    poison: Poison,
}

impl Disk {
    pub(super) fn new(storage: Arc<dyn Storage>, directory: &Path, sabotages: Sabotages) -> Self {
        Self { storage, directory: directory.to_owned(), sabotages, poison: Poison::new() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether anything failed after which nothing may be written.
    pub(super) fn poison(&self) -> &Poison {
        &self.poison
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn sabotages(&self) -> Sabotages {
        self.sabotages
    }

    pub(super) fn breaks(&self, rule: Sabotage) -> bool {
        self.sabotages.breaks(rule)
    }

    pub(super) fn list(&self) -> Result<Vec<String>, WalError> {
        let listed = self.storage.list(&self.directory);
        listed.map_err(|source| WalError::io("list", &self.directory, source))
    }

    pub(super) fn open(&self, path: &Path, access: Access) -> Result<Box<dyn File>, WalError> {
        self.storage.open(path, access).map_err(|source| WalError::io("open", path, source))
    }

    /// A new file; one of this name left behind by a crash is removed first.
    pub(super) fn create(&self, path: &Path) -> Result<Box<dyn File>, WalError> {
        match self.storage.open(path, Access::Create) {
            Err(refused) if refused.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(path)?;
                self.open(path, Access::Create)
            }
            other => other.map_err(|source| WalError::io("create", path, source)),
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), WalError> {
        self.storage.rename(from, to).map_err(|source| WalError::io("rename", from, source))
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), WalError> {
        self.storage.remove(path).map_err(|source| WalError::io("remove", path, source))
    }

    /// Makes the names durable.
    pub(super) fn sync_names(&self) -> Result<(), WalError> {
        if self.breaks(Sabotage::SkipDirectorySync) {
            return Ok(());
        }
        let synced = self.storage.sync_dir(&self.directory);
        let synced = synced.map_err(|source| WalError::io("sync", &self.directory, source));
        synced.map_err(|failure| self.poison.set_by(failure))
    }

    /// Makes written bytes durable.
    pub(super) fn sync_data(&self, file: &dyn File, path: &Path) -> Result<(), WalError> {
        if self.breaks(Sabotage::SkipSync) {
            return Ok(());
        }
        let mut synced = file.sync_data();
        if synced.is_err() && self.breaks(Sabotage::RetrySync) {
            synced = file.sync_data();
        }
        synced.map_err(|source| WalError::io("sync", path, source))
    }
}

/// Makes bytes, length and blocks durable.
pub(super) fn sync_all(file: &dyn File, path: &Path) -> Result<(), WalError> {
    file.sync_all().map_err(|source| WalError::io("sync", path, source))
}

/// Fills `buffer` from `offset`, as far as the file goes; says how far.
pub(super) fn read_full(
    file: &dyn File,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, WalError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(WalError::io("read", path, source)),
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_all(
    file: &dyn File,
    path: &Path,
    bytes: &[u8],
    offset: u64,
) -> Result<(), WalError> {
    file.write_all_at(bytes, offset).map_err(|source| WalError::io("write", path, source))
}

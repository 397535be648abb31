//! The lock of a database's directory.
//!
//! 1. Who writes holds the lock alone; those who read share it. It is taken before anything else
//!    is read.
//! 2. The file of the lock is never removed: whoever waits for it must wait for the same file.
//! 3. A reader makes no file. Where nobody ever wrote there is none to lock, and nothing to read.

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::storage::{Lock, Storage};

const NAME: &str = "LOCK";

/// Makes the directory, and locks it for one alone.
pub(super) fn lock(storage: &dyn Storage, directory: &Path) -> Result<Box<dyn Lock>> {
    storage.create_dir(directory).map_err(Error::io("create", directory))?;
    let path = directory.join(NAME);
    if let Some(lock) = storage.lock(&path).map_err(Error::io("lock", &path))? {
        return Ok(lock);
    }
    let is_only_read = matches!(storage.lock_shared(&path), Ok(Some(_)));
    let holder =
        if is_only_read { Some("someone who reads it".into()) } else { storage.holder(&path) };
    Err(Error::AlreadyOpen { path: directory.to_owned(), holder })
}

/// Locks the directory together with others who read. None if it has no file to be locked by: a
/// copy that nobody has opened yet.
pub(super) fn lock_shared(
    storage: &dyn Storage,
    directory: &Path,
) -> Result<Option<Box<dyn Lock>>> {
    let path = directory.join(NAME);
    match storage.lock_shared(&path) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            Err(Error::AlreadyOpen { path: directory.to_owned(), holder: storage.holder(&path) })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("lock", &path)(error)),
    }
}

/// Makes a directory that has to be new or empty, and locks it for one alone.
pub(super) fn lock_empty(storage: &dyn Storage, directory: &Path) -> Result<Box<dyn Lock>> {
    check_empty(storage, directory)?;
    let lock = lock(storage, directory)?;
    // Again, now that nobody else can come in between.
    check_empty(storage, directory)?;
    Ok(lock)
}

/// The file of a lock alone does not count: an attempt that failed leaves it (keeps 2).
fn check_empty(storage: &dyn Storage, directory: &Path) -> Result<()> {
    let names = match storage.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    if names.iter().any(|name| name != NAME) {
        return Err(Error::NotEmpty { path: directory.to_owned() });
    }
    Ok(())
}

//! The names of the files, and reads and writes whose errors name the file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use crate::storage::{File, Storage};

/// Names a table; given in rising order, and never twice in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId(u64);

impl TableId {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// The table after this one; `None` when the numbers are used up.
    pub(crate) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    pub(crate) fn path(self, directory: &Path) -> PathBuf {
        directory.join(format!("tab-{self}.tab"))
    }

    /// The name a table has until it is whole.
    pub(super) fn temporary_path(self, directory: &Path) -> PathBuf {
        directory.join(format!("tab-{self}.tmp"))
    }

    /// The table whose file has this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("tab-")?.strip_suffix(".tab")?;
        let id = u64::from_str_radix(digits, 16).ok().map(Self)?;
        // One file, one name: no sign, no other number of digits, no capitals.
        (id.to_string() == digits).then_some(id)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The tables of a directory by their names, in the order in which they were made.
pub(crate) fn list_tables(storage: &dyn Storage, directory: &Path) -> Result<Vec<TableId>> {
    let names = storage.list(directory).map_err(CheckpointError::io("list", directory))?;
    let mut tables: Vec<_> = names.iter().filter_map(|name| TableId::of_name(name)).collect();
    tables.sort_unstable();
    Ok(tables)
}

/// Fills `buffer`. A file that ends before that is damaged: its length was checked.
pub(super) fn read_exact(
    file: &dyn File,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
) -> Result<()> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            CheckpointError::corruption(path, offset, "the file ends before this part does")
        }
        _ => CheckpointError::io("read", path)(error),
    })
}

/// Writes all of `bytes`.
pub(super) fn write_all(file: &dyn File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    file.write_all_at(bytes, offset).map_err(CheckpointError::io("write", path))
}

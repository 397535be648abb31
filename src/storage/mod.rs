//! Everything below the engine that touches files goes through here.
//!
//! ```text
//!   wal, checkpoint, db
//!          │  dyn Storage, dyn File, dyn Map
//!          ▼
//!   disk (real files)      fault (a disk in memory that loses, tears and refuses; for tests)
//! ```
//!
//! What a caller may rely on after a crash, and nothing else:
//!
//! 1. Bytes of a file that `sync_data` or `sync_all` made durable stay as they are until they are
//!    written again. Other bytes written since may be there or not, sector by sector, and a sector
//!    being written may be cut at any byte. What was written while a sync ran is not part of it.
//! 2. A name (created, renamed, removed) is durable once `sync_dir` of its directory returned.
//!    Before that it may have happened or not, each by itself; of two on one name that both did,
//!    the later decides. Names and bytes are independent: a durable name may lead to bytes that are
//!    not, and synced bytes are kept under whichever name their file then has.
//! 3. A file's length and blocks are durable after `sync_all`; `sync_data` keeps them where it is
//!    needed to read the bytes back.
//! 4. A failed sync says nothing about later ones: bytes that it should have written may be gone,
//!    and the next sync may succeed all the same. Whoever sees one fail stops writing. A name that
//!    is seen is still to be made durable by a later `sync_dir`.
//! 5. A store into a map and a write at the same place are one and the same file content.
//!
//! Paths are the caller's; a storage does not know what the files mean.

use crate::sync::Arc;
use std::fmt::Debug;
use std::io;
use std::path::Path;

/// A place that holds files. Shared by every part of one database.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::AlreadyExists`] for [`Access::Create`], and
    /// whatever the system says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;

    /// Gives a file another name in the same directory, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted. Directories in it are left out.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes a directory, and those above it, unless it exists. Unlike the names of files, it is
    /// durable when this returns.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Locks a file, which is made if it does not exist, against every other process and every
    /// other handle in this one, until the lock is dropped. `None` if someone holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// Locks an existing file, together with others who do this, against [`lock`](Self::lock), and
    /// changes nothing. `None` if someone holds the lock for himself.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`], and whatever the system says.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// Who holds the lock of a file, in words, as far as can be said. Ask after
    /// [`lock`](Self::lock) answered `None`; otherwise the answer may be about someone long gone.
    fn holder(&self, _path: &Path) -> Option<String> {
        None
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; fails if the name is taken.
    Create,
}

/// An open file. Reads and writes name their place; there is no cursor.
#[cfg_attr(
    feature = "testing",
    expect(clippy::len_without_is_empty, reason = "asking for the length may fail")
)]
pub trait File: Debug + Send + Sync {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for at the end of the file, or for any reason.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`, growing the file as needed; answers how many bytes, which may be fewer
    /// than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reads until `buffer` is full, however often that takes.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let bytes = match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            buffer = buffer.split_at_mut(bytes).1;
            offset = offset.checked_add(bytes as u64).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    /// Writes all of `bytes`, however often that takes.
    ///
    /// # Errors
    ///
    /// Whatever the system says; a part may be written then.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            bytes = bytes.split_at(written).1;
            offset = offset.checked_add(written as u64).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    /// Gives the file real blocks up to `length` and that length at least; new bytes read as zero.
    /// A failure may leave a part of it done.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes written bytes durable, and what is needed to read them back.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes and metadata durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Asks for bytes to be written back soon, so that a later sync has less to do, and says that
    /// they will not be read soon. Makes nothing durable. May do nothing.
    fn write_back(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Maps the first `length` bytes, all of which have blocks and have been written, so that a
    /// store waits for nothing. Mapping makes nothing dirty. The file must be open for writing.
    fn map(&self, length: usize) -> io::Result<Box<dyn Map>>;
}

/// A file's bytes as memory.
pub trait Map: Debug + Send + Sync {
    /// Copies `bytes` to `offset`. Cannot fail: the blocks are there.
    ///
    /// # Panics
    ///
    /// If the bytes do not lie inside the map.
    fn store(&mut self, offset: usize, bytes: &[u8]);

    /// A way to say what stores are to come; `None` where nothing is gained by it.
    fn pages(&self) -> Option<Arc<dyn Pages>> {
        None
    }
}

/// Advice about a map, beside the stores. It changes no byte, and may be wrong.
pub trait Pages: Debug + Send + Sync {
    /// Stores will come here soon: the pages are made writable ahead. The next sync may write them.
    fn begin(&self, offset: usize, length: usize);

    /// No store will come here any more: the pages need not stay writable. A sync has to take that
    /// from every page by itself, interrupting all threads each time; here it is done at once.
    fn end(&self, offset: usize, length: usize);
}

/// A held lock. Dropping it unlocks.
pub trait Lock: Debug + Send + Sync {}

mod disk;
#[cfg(any(test, feature = "testing"))]
mod fault;
#[expect(unsafe_code, reason = "stores into mapped files, whose bytes others may change")]
mod mmap;
mod platform;
mod sabotage;
#[cfg(test)]
mod tests;

pub use disk::Disk;
#[cfg(any(test, feature = "testing"))]
pub use fault::{Call, Fault, FaultDisk, Moment, Op};
pub use sabotage::{Sabotage, Sabotages};

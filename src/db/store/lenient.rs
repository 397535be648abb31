//! A storage that is only read, and reads on where the device cannot.
//!
//! 1. Nothing can be changed through it.
//! 2. A part of a file that cannot be read is read as zeros, and remembered. Whatever needed it
//!    finds a wrong checksum there, and deals with it as with other damage.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::{Access, File, Lock, Map, Storage};
use crate::sync::{Arc, Mutex};

/// What is read as zeros when a part of it cannot be read: a page of the system's cache.
const PIECE: u64 = 4096;

/// A part of a file that could not be read.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) why: String,
}

/// A storage that is only read.
#[derive(Debug)]
pub(super) struct Lenient {
    storage: Arc<dyn Storage>,
    unreadable: Arc<Mutex<Vec<Unreadable>>>,
}

impl Lenient {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, unreadable: Arc::default() }
    }

    /// What could not be read so far, each part once.
    pub(super) fn unreadable(&self) -> Vec<Unreadable> {
        self.unreadable.lock().clone()
    }
}

/// Invariant 1.
fn refuse<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for Lenient {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        if access != Access::Read {
            return refuse();
        }
        let file = self.storage.open(path, access)?;
        let unreadable = Arc::clone(&self.unreadable);
        Ok(Box::new(LenientFile { file, path: path.to_owned(), unreadable }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.storage.list(directory)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.storage.lock_shared(path)
    }

    fn holder(&self, path: &Path) -> Option<String> {
        self.storage.holder(path)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refuse()
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        refuse()
    }
}

#[derive(Debug)]
struct LenientFile {
    file: Box<dyn File>,
    path: PathBuf,
    unreadable: Arc<Mutex<Vec<Unreadable>>>,
}

impl LenientFile {
    /// Reads a piece at most; zeros if it cannot be read.
    fn read_piece(&self, buffer: &mut [u8], offset: u64, why: io::Error) -> io::Result<usize> {
        let left = self.file.len()?.saturating_sub(offset);
        let piece = (PIECE - offset % PIECE).min(left).min(buffer.len() as u64);
        let length = usize::try_from(piece).expect("it is no longer than the buffer");
        let (buffer, _) = buffer.split_at_mut(length);
        let why = match self.file.read_exact_at(buffer, offset) {
            Ok(()) => return Ok(length),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => why,
            Err(error) => error,
        };
        buffer.fill(0);
        let mut unreadable = self.unreadable.lock();
        if !unreadable.iter().any(|known| (&known.path, known.offset) == (&self.path, offset)) {
            let (path, why) = (self.path.clone(), why.to_string());
            unreadable.push(Unreadable { path, offset, length: piece, why });
        }
        Ok(length)
    }
}

impl File for LenientFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.file.read_at(buffer, offset) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.read_piece(buffer, offset, error)
            }
            other => other,
        }
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        refuse()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        refuse()
    }

    fn sync_data(&self) -> io::Result<()> {
        refuse()
    }

    fn sync_all(&self) -> io::Result<()> {
        refuse()
    }

    fn write_back(&self, _: u64, _: u64) -> io::Result<()> {
        refuse()
    }

    fn map(&self, _: usize) -> io::Result<Box<dyn Map>> {
        refuse()
    }
}

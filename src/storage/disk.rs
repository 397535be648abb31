//! Real files.
//!
//! 1. What a signal interrupted is tried again here; callers never see it.
//! 2. A sync that failed is not tried again, unless by a signal: a second answer proves nothing.
//! 3. Preallocated bytes are really written, in small writes: a store into a merely reserved block
//!    makes the file system change its records at the next sync, and a large write leaves large
//!    units in the page cache, of which each small store then dirties a whole one.
//!
//! Made for Unix. On another system everything that durability rests on answers
//! [`io::ErrorKind::Unsupported`], so that nobody trusts what was never tried there.

use super::mmap::FileMap;
use super::platform;
use crate::storage::{Access, File, Lock, Map, Storage};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// How much is written at once where small units in the page cache matter.
const ZEROS: [u8; 4096] = [0; 4096];

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

/// The directory of a path; of a bare name, the current one.
fn directory_of(path: &Path) -> Option<&Path> {
    path.parent().map(or_here)
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

impl Storage for Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::Create);
        let file = options.open(path)?;
        // A directory opens for reading like a file and refuses only later.
        if file.metadata()?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(ErrorKind::InvalidInput.into());
        }
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(or_here(directory))? {
            let entry = entry?;
            // A name that is not text is nobody's here.
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let parent = directory_of(directory);
        let mut made = fs::create_dir(or_here(directory));
        if let (Err(error), Some(parent)) = (&made, parent)
            && error.kind() == ErrorKind::NotFound
        {
            self.create_dir(parent)?;
            made = fs::create_dir(directory);
        }
        let synced = parent.map_or(Ok(()), |parent| self.sync_dir(parent));
        match made {
            Ok(()) => synced,
            // Whoever made it may have died before the sync, so it was tried; but where a
            // directory is old its parent need not be ours to open.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        platform::sync_dir(or_here(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        if !platform::try_lock(&file)? {
            return Ok(None);
        }
        let file = DiskFile { file };
        // For `holder` only: a disk that is full must not keep a database from being opened.
        let pid = format!("{}\n", std::process::id());
        let _ = file.file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0));
        Ok(Some(Box::new(DiskLock { _file: file })))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = fs::File::open(path)?;
        let is_ours = platform::try_lock_shared(&file)?;
        Ok(is_ours.then(|| Box::new(DiskLock { _file: DiskFile { file } }) as Box<dyn Lock>))
    }

    fn holder(&self, path: &Path) -> Option<String> {
        let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        Some(if pid == std::process::id() {
            "this process".to_owned()
        } else {
            format!("process {pid}")
        })
    }
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
}

/// Tries again what a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| platform::read_at(&self.file, buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| platform::write_at(&self.file, bytes, offset))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut at = self.len()?;
        if length == 0 {
            return Ok(());
        }
        uninterrupted(|| platform::allocate(&self.file, length))?;
        while at < length {
            // Short only where needed to come to a whole unit, or to the end.
            let unit = ZEROS.len() as u64;
            let bytes = (unit - at % unit).min(length - at);
            let zeros = ZEROS.get(..usize::try_from(bytes).unwrap_or(0)).unwrap_or(&ZEROS);
            self.write_all_at(zeros, at)?;
            at += zeros.len() as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn write_back(&self, offset: u64, length: u64) -> io::Result<()> {
        platform::write_back(&self.file, offset, length)
    }

    fn map(&self, length: usize) -> io::Result<Box<dyn Map>> {
        Ok(Box::new(FileMap::new(&self.file, length)?))
    }
}

/// The system unlocks when the file is closed, and so when the process dies.
#[derive(Debug)]
struct DiskLock {
    _file: DiskFile,
}

impl Lock for DiskLock {}

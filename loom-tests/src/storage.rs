//! The twin of the engine's `storage`: the same seam, over files in memory with a durable half.
//!
//! What a file holds is no part of the model, so it lies behind a lock that loom does not see. A
//! sync takes what is written when it begins, lets others run, and makes that durable when it ends.
//! Two syncs of one file at a time fail the model, and so does a sync after one that failed.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[path = "../../src/storage/sabotage.rs"]
mod sabotage;

pub use sabotage::{Sabotage, Sabotages};

pub trait Storage: Debug + Send + Sync + 'static {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Create,
}

pub trait File: Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.read_at(buffer, offset)?;
        if read == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_back(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn sync_all(&self) -> io::Result<()>;
    fn map(&self, length: usize) -> io::Result<Box<dyn Map>>;
}

pub trait Map: Debug + Send + Sync {
    fn store(&mut self, offset: usize, bytes: &[u8]);

    fn pages(&self) -> Option<Arc<dyn Pages>> {
        None
    }
}

pub trait Pages: Debug + Send + Sync {
    fn begin(&self, offset: usize, length: usize);
    fn end(&self, offset: usize, length: usize);
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

impl Bytes {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = self.seen.len().max(offset + bytes.len());
        self.seen.resize(end, 0);
        self.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

type Content = Arc<Mutex<Bytes>>;

/// A disk whose names are durable at once.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    files: Arc<Mutex<BTreeMap<PathBuf, Content>>>,
    plan: Arc<Mutex<Plan>>,
}

/// How syncs of data turn out.
#[derive(Debug, Default)]
struct Plan {
    /// Those that succeed before one fails, if one does.
    left: Option<usize>,
    has_failed: bool,
}

impl Plan {
    fn fails(&mut self) -> bool {
        assert!(!self.has_failed, "a sync after one that failed");
        self.has_failed = self.left == Some(0);
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.has_failed
    }
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { files: Arc::default(), plan: Arc::default() }
    }

    /// Lets the sync after so many fail.
    pub(crate) fn fail_sync(&self, after: usize) {
        self.plan.lock().expect("no model panics inside").left = Some(after);
    }

    /// What is there after a power cut at this moment that takes all it may.
    pub(crate) fn crash(&self) -> Self {
        let crashed = Self::new();
        for (path, content) in &*self.files.lock().expect("no model panics inside") {
            let durable = content.lock().expect("no model panics inside").durable.clone();
            let bytes = Bytes { seen: durable.clone(), durable };
            let mut files = crashed.files.lock().expect("no model panics inside");
            files.insert(path.clone(), Arc::new(Mutex::new(bytes)));
        }
        crashed
    }
}

impl Storage for Memory {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut files = self.files.lock().expect("no model panics inside");
        let content = match (files.get(path), access) {
            (Some(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(content), _) => Arc::clone(content),
            (None, Access::Create) => {
                let content = Content::default();
                files.insert(path.to_owned(), Arc::clone(&content));
                content
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let (plan, syncing) = (Arc::clone(&self.plan), AtomicUsize::new(0));
        Ok(Box::new(MemoryFile { content, plan, syncing }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().expect("no model panics inside");
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.lock().expect("no model panics inside").remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock().expect("no model panics inside");
        Ok(files.keys().map(|path| path.display().to_string()).collect())
    }

    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    content: Content,
    plan: Arc<Mutex<Plan>>,
    syncing: AtomicUsize,
}

impl MemoryFile {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Bytes> {
        self.content.lock().expect("no model panics inside")
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Others run here.
        self.syncing.load(Ordering::Relaxed);
        let bytes = self.bytes();
        let from = usize::try_from(offset).expect("files are small").min(bytes.seen.len());
        let count = buffer.len().min(bytes.seen.len() - from);
        buffer[..count].copy_from_slice(&bytes.seen[from..from + count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Others run here.
        self.syncing.fetch_add(0, Ordering::Relaxed);
        self.bytes().write(bytes, usize::try_from(offset).expect("files are small"));
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).expect("files are small");
        let mut bytes = self.bytes();
        let length = length.max(bytes.seen.len());
        bytes.seen.resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        assert_eq!(self.syncing.fetch_add(1, Ordering::Relaxed), 0, "two syncs of one file");
        let fails = self.plan.lock().expect("no model panics inside").fails();
        let written = self.bytes().seen.clone();
        // Others run here.
        self.syncing.fetch_sub(1, Ordering::Relaxed);
        if fails {
            return Err(io::Error::other("lost"));
        }
        self.bytes().durable = written;
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        // Others run here.
        self.syncing.fetch_add(0, Ordering::Relaxed);
        let mut bytes = self.bytes();
        bytes.durable = bytes.seen.clone();
        Ok(())
    }

    fn map(&self, _length: usize) -> io::Result<Box<dyn Map>> {
        Ok(Box::new(MemoryMap(Arc::clone(&self.content))))
    }
}

#[derive(Debug)]
struct MemoryMap(Content);

impl Map for MemoryMap {
    fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.0.lock().expect("no model panics inside").write(bytes, offset);
    }
}

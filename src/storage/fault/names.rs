//! The names of files, and which of them are durable.
//!
//! A name operation is pending until its directory is synced. In a power cut each pending one is
//! kept or lost by itself; those kept happen in the order in which they were asked for, so of two
//! on one name the later decides. A rename moves the file from wherever it durably is, so a file
//! never has two names. A file's content is no part of this: what was synced under a name that is
//! lost is there under the name that comes back.
//!
//! Directories are durable as soon as they are made: the seam promises it.

use super::random::Random;
use crate::sync::Arc;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeId(pub(super) u64);

type Map = BTreeMap<Arc<str>, InodeId>;

#[derive(Clone, Debug)]
enum Change {
    Bind(Arc<str>, InodeId),
    Move(Arc<str>, InodeId),
    Unbind(Arc<str>),
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Bind(path, _) | Self::Move(path, _) | Self::Unbind(path) => path,
        }
    }

    fn apply(&self, names: &mut Map) {
        match self {
            Self::Bind(path, inode) => drop(names.insert(Arc::clone(path), *inode)),
            Self::Move(path, inode) => {
                names.retain(|_, at| at != inode);
                names.insert(Arc::clone(path), *inode);
            }
            Self::Unbind(path) => drop(names.remove(path)),
        }
    }
}

/// All names of one disk.
#[derive(Clone, Debug)]
pub(super) struct Names {
    seen: Arc<Map>,
    durable: Arc<Map>,
    pending: Vec<Change>,
    directories: Arc<BTreeSet<Arc<str>>>,
}

impl Names {
    pub(super) fn new() -> Self {
        let roots = ["", "/"].map(Arc::from);
        Self {
            seen: Arc::default(),
            durable: Arc::default(),
            pending: Vec::new(),
            directories: Arc::new(BTreeSet::from(roots)),
        }
    }

    pub(super) fn find(&self, path: &str) -> Option<InodeId> {
        self.seen.get(path).copied()
    }

    /// The file of a name, which must be there.
    pub(super) fn existing(&self, path: &str) -> io::Result<InodeId> {
        if self.directories.contains(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.find(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether a new file may have this name.
    pub(super) fn check_free(&self, path: &str) -> io::Result<()> {
        self.check_directory(parent(path))?;
        if self.seen.contains_key(path) || self.directories.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    pub(super) fn check_directory(&self, path: &str) -> io::Result<()> {
        if self.directories.contains(path) {
            return Ok(());
        }
        let file = self.seen.contains_key(path);
        Err(if file { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound }.into())
    }

    pub(super) fn bind(&mut self, path: &Arc<str>, inode: InodeId) {
        self.change(Change::Bind(Arc::clone(path), inode));
    }

    /// Gives the file of `from` the name `to`, which may be another file's.
    pub(super) fn rename(&mut self, from: &str, to: &Arc<str>) -> io::Result<()> {
        let inode = self.check_rename(from, to)?;
        if from != &**to {
            self.change(Change::Move(Arc::clone(to), inode));
        }
        Ok(())
    }

    /// Whether that rename would succeed.
    pub(super) fn check_rename(&self, from: &str, to: &str) -> io::Result<InodeId> {
        if parent(from) != parent(to) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.directories.contains(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.existing(from)
    }

    pub(super) fn remove(&mut self, path: &Arc<str>) -> io::Result<()> {
        self.existing(path)?;
        self.change(Change::Unbind(Arc::clone(path)));
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.seen));
        self.pending.push(change);
    }

    pub(super) fn create_directory(&mut self, path: &Arc<str>) -> io::Result<()> {
        let mut at = &**path;
        while !self.directories.contains(at) {
            if self.seen.contains_key(at) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Arc::make_mut(&mut self.directories).insert(Arc::from(at));
            at = parent(at);
        }
        Ok(())
    }

    /// The last part of each name in a directory, sorted.
    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.check_directory(directory)?;
        let inside = self.seen.keys().filter(|path| parent(path) == directory);
        let mut names: Vec<String> = inside.map(|path| last(path).to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// All names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, InodeId)> {
        self.seen.iter().map(|(path, &inode)| (path, inode))
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync(&mut self, directory: &str) {
        self.write_back(directory, |_| true);
    }

    /// A sync of a directory that fails: of what is pending a part is durable, and the rest is
    /// still pending.
    pub(super) fn fail(&mut self, directory: &str, random: &mut Random) {
        self.write_back(directory, |_| random.once_in(2));
    }

    fn write_back(&mut self, directory: &str, mut written: impl FnMut(&Change) -> bool) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let goes = parent(change.path()) == directory && written(change);
            if goes {
                change.apply(Arc::make_mut(durable));
            }
            !goes
        });
    }

    /// Gives a file a name, durably and at once.
    pub(super) fn place(&mut self, path: &Arc<str>, inode: InodeId) {
        self.forget(path);
        for names in [&mut self.seen, &mut self.durable] {
            Arc::make_mut(names).insert(Arc::clone(path), inode);
        }
    }

    /// Takes a name away, durably and at once.
    pub(super) fn forget(&mut self, path: &str) {
        self.pending.retain(|change| change.path() != path);
        for names in [&mut self.seen, &mut self.durable] {
            Arc::make_mut(names).remove(path);
        }
    }

    /// Makes everything durable.
    pub(super) fn settle(&mut self) {
        self.durable = Arc::clone(&self.seen);
        self.pending.clear();
    }

    /// The names as a power cut may leave them.
    pub(super) fn crash(&self, random: &mut Random) -> Self {
        let mut kept = Arc::clone(&self.durable);
        let (mood, until) = (random.below(4), random.below_usize(self.pending.len() + 1));
        for (at, change) in self.pending.iter().enumerate() {
            let keep = match mood {
                0 => at < until,
                _ => random.once_in(2),
            };
            if keep {
                change.apply(Arc::make_mut(&mut kept));
            }
        }
        let directories = Arc::clone(&self.directories);
        Self { seen: Arc::clone(&kept), durable: kept, pending: Vec::new(), directories }
    }

    /// Whether a file has a name, had one that is durable, or may get one in a power cut.
    pub(super) fn reaches(&self, inode: InodeId) -> bool {
        let pending = self.pending.iter().any(|change| match change {
            Change::Bind(_, at) | Change::Move(_, at) => *at == inode,
            Change::Unbind(_) => false,
        });
        pending || [&self.seen, &self.durable].iter().any(|map| map.values().any(|&at| at == inode))
    }
}

/// A path as one text: its parts with `/` between them.
pub(super) fn normal(path: &Path) -> io::Result<Arc<str>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no plain name");
    let mut text = String::new();
    for part in path.components() {
        match part {
            Component::RootDir => text.push('/'),
            Component::CurDir => {}
            Component::Normal(part) => {
                if !text.is_empty() && !text.ends_with('/') {
                    text.push('/');
                }
                text.push_str(part.to_str().ok_or_else(invalid)?);
            }
            Component::Prefix(_) | Component::ParentDir => return Err(invalid()),
        }
    }
    Ok(Arc::from(text))
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => "",
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

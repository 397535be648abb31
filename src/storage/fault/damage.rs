//! Damage done on purpose: files changed behind everybody's back, durably and at once.
//!
//! Each function panics if the file is not there: the test that asks is wrong then.

use super::FaultDisk;
use super::image::SECTOR;
use super::inode::Inode;
use super::names::{InodeId, normal};
use super::state::State;
use crate::sync::Arc;
use std::path::Path;

fn text(path: &Path) -> Arc<str> {
    normal(path).expect("a plain path")
}

fn find<'s>(state: &'s mut State, path: &Path) -> &'s mut Inode {
    let path = text(path);
    let inode = state.names.find(&path);
    state.inode(inode.unwrap_or_else(|| panic!("no file {path} to damage")))
}

impl FaultDisk {
    /// The paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.state().names.all().map(|(path, _)| path.as_ref().to_owned()).collect()
    }

    /// A file as the process sees it, or `None` if there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let inode = state.names.find(&text(path))?;
        Some(state.inode(inode).content(false))
    }

    /// The part of a file that is durable now.
    #[must_use]
    pub fn durable_content(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let inode = state.names.find(&text(path))?;
        Some(state.inode(inode).content(true))
    }

    /// Puts a file in place, with this content, whether there was one or not.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let path = text(path);
        let mut state = self.state();
        let inode = state.names.find(&path).unwrap_or_else(|| {
            let inode = state.new_inode();
            state.names.place(&path, inode);
            inode
        });
        state.inode(inode).replace(bytes);
    }

    /// Takes a file away. Handles to it go on.
    pub fn delete(&self, path: &Path) {
        let mut state = self.state();
        state.names.forget(&text(path));
        state.forget_unreachable();
    }

    /// Changes the bytes of a file.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = find(&mut state, path);
        let mut bytes = inode.content(false);
        edit(&mut bytes);
        inode.replace(&bytes);
    }

    /// Flips one bit; `bit` counts from the start of the file. False if the file is too short.
    #[must_use = "false if nothing was damaged"]
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mut state = self.state();
        let inode = find(&mut state, path);
        let mut byte = [0];
        if inode.read(&mut byte, bit / 8) == 0 {
            return false;
        }
        inode.overwrite(&byte.map(|byte| byte ^ 1 << (bit % 8)), bit / 8);
        true
    }

    /// Cuts a file off.
    pub fn truncate(&self, path: &Path, length: usize) {
        self.edit(path, |bytes| bytes.truncate(length));
    }

    /// Fills one sector with zeros. False if the file is too short.
    #[must_use = "false if nothing was damaged"]
    pub fn zero_sector(&self, path: &Path, sector: usize) -> bool {
        self.copy_within(path, sector, |_| vec![0; SECTOR])
    }

    /// Replaces one sector by a copy of another. False if the file is too short.
    #[must_use = "false if nothing was damaged"]
    pub fn copy_sector(&self, path: &Path, from: usize, to: usize) -> bool {
        self.copy_within(path, to, |bytes| bytes.get(range(from)).unwrap_or_default().to_vec())
    }

    /// Swaps two sectors. False if the file is too short.
    #[must_use = "false if nothing was damaged"]
    pub fn swap_sectors(&self, path: &Path, one: usize, other: usize) -> bool {
        let content = self.content(path).unwrap_or_default();
        let (Some(first), Some(second)) = (content.get(range(one)), content.get(range(other)))
        else {
            return false;
        };
        self.copy_within(path, one, |_| second.to_vec())
            && self.copy_within(path, other, |_| first.to_vec())
    }

    fn copy_within(&self, path: &Path, to: usize, source: impl FnOnce(&[u8]) -> Vec<u8>) -> bool {
        let mut state = self.state();
        let inode = find(&mut state, path);
        let content = inode.content(false);
        let bytes = source(&content);
        if bytes.len() < SECTOR || content.get(range(to)).is_none() {
            return false;
        }
        inode.overwrite(&bytes, to as u64 * SECTOR as u64);
        true
    }

    /// The files behind two names change places.
    pub fn swap_files(&self, one: &Path, other: &Path) {
        let mut state = self.state();
        let id = |path: &Path| -> InodeId {
            state.names.find(&text(path)).unwrap_or_else(|| panic!("no file {}", path.display()))
        };
        let (first, second) = (id(one), id(other));
        state.names.place(&text(one), second);
        state.names.place(&text(other), first);
    }
}

fn range(sector: usize) -> std::ops::Range<usize> {
    sector.saturating_mul(SECTOR)..sector.saturating_add(1).saturating_mul(SECTOR)
}

//! Open files, maps and locks of the simulated disk.

use super::FaultDisk;
use super::call::{Fault, Moment, Op};
use super::inode::{InFlight, Inode};
use super::names::InodeId;
use super::state::State;
use crate::storage::{File, Lock, Map};
use crate::sync::{Arc, Mutex, MutexGuard};
use std::io;

/// A reference to a file that keeps it in being.
#[derive(Debug)]
pub(super) struct Handle {
    disk: FaultDisk,
    inode: InodeId,
    path: Arc<str>,
}

impl Handle {
    pub(super) fn new(disk: &FaultDisk, state: &mut State, inode: InodeId, path: Arc<str>) -> Self {
        state.inode(inode).handles += 1;
        Self { disk: disk.clone(), inode, path }
    }

    fn call(
        &self,
        op: Op,
        offset: u64,
        length: usize,
    ) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let (state, fault, _) = self.disk.call(op, &self.path, offset, length as u64)?;
        Ok((state, fault))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let inode = state.inode(self.inode);
        inode.handles -= 1;
        if inode.handles == 0 {
            state.forget_unreachable();
        }
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct FaultFile {
    handle: Handle,
    writable: bool,
    /// Failures of write-back that this open file was told of.
    told: Mutex<u64>,
}

impl FaultFile {
    pub(super) fn new(handle: Handle, writable: bool, failures: u64) -> Self {
        Self { handle, writable, told: Mutex::new(failures) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// How many bytes of `length` a fault lets through: a random part, one at least.
    fn part(length: usize, state: &mut State) -> usize {
        length.min(1 + state.random.below_usize(length.saturating_sub(1)))
    }

    fn sync(&self, op: Op) -> io::Result<()> {
        let handle = &self.handle;
        let (mut state, fault, call) = handle.disk.call(op, &handle.path, 0, 0)?;
        match fault {
            Some(Fault::Interrupted) => return Err(Fault::Interrupted.error()),
            Some(Fault::Lie) => return Ok(()),
            _ => {}
        }
        let State { inodes, random, .. } = &mut *state;
        let inode = inodes.get_mut(&handle.inode).expect("this handle keeps it");
        let flight = inode.begin_sync(op == Op::SyncAll);
        if matches!(fault, Some(Fault::Io | Fault::NoSpace)) {
            inode.fail(random);
        }
        drop(state);
        handle.disk.observe_call(&call, Moment::During);
        let mut state = handle.disk.state();
        let off = state.off;
        let inode = state.inode(handle.inode);
        if off {
            return Err(Fault::PowerOff.error());
        }
        self.conclude(inode, flight, fault)
    }

    /// Ends a sync: it fails if a write-back failed that this open file was not told of yet.
    fn conclude(
        &self,
        inode: &mut Inode,
        flight: InFlight,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let mut told = self.told.lock();
        if *told == inode.failures() {
            inode.end_sync(flight);
            return Ok(());
        }
        *told = inode.failures();
        Err(fault.unwrap_or(Fault::Io).error())
    }
}

impl File for FaultFile {
    fn len(&self) -> io::Result<u64> {
        let (mut state, fault) = self.handle.call(Op::Len, 0, 0)?;
        Fault::refusal(fault)?;
        Ok(state.inode(self.handle.inode).length())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.handle.call(Op::Read, offset, buffer.len())?;
        Fault::refusal(fault)?;
        let wanted = match fault {
            Some(Fault::Short) => Self::part(buffer.len(), &mut state),
            _ => buffer.len(),
        };
        let (head, _) = buffer.split_at_mut(wanted);
        Ok(state.inode(self.handle.inode).read(head, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.handle.call(Op::Write, offset, bytes.len())?;
        self.check_writable()?;
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let room = state.room(self.handle.inode, end).saturating_sub(offset);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let length = match fault {
            Some(Fault::Interrupted | Fault::NoSpace) => 0,
            Some(Fault::Io) => state.random.below_usize(fits + 1),
            Some(Fault::Short) => Self::part(fits, &mut state),
            _ => fits,
        };
        let (head, _) = bytes.split_at(length);
        if !head.is_empty() {
            state.inode(self.handle.inode).write(head, offset);
        }
        Fault::refusal(fault)?;
        if head.is_empty() && !bytes.is_empty() {
            return Err(Fault::NoSpace.error());
        }
        Ok(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let (mut state, fault) = self.handle.call(Op::Allocate, 0, 0)?;
        self.check_writable()?;
        let now = state.inode(self.handle.inode).length();
        let mut room = state.room(self.handle.inode, length);
        if matches!(fault, Some(Fault::Io | Fault::NoSpace)) {
            room = now + state.random.below(room.saturating_sub(now) + 1);
        } else if fault == Some(Fault::Interrupted) {
            room = now;
        }
        state.inode(self.handle.inode).grow(room);
        Fault::refusal(fault)?;
        if room < length {
            return Err(Fault::NoSpace.error());
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Op::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Op::SyncAll)
    }

    fn write_back(&self, offset: u64, length: u64) -> io::Result<()> {
        let (mut state, fault) = self.handle.call(
            Op::WriteBack,
            offset,
            usize::try_from(length).unwrap_or(usize::MAX),
        )?;
        Fault::refusal(fault)?;
        let State { inodes, random, .. } = &mut *state;
        if let Some(inode) = inodes.get_mut(&self.handle.inode) {
            inode.write_back((offset, offset.saturating_add(length)), 2, random);
        }
        Ok(())
    }

    fn map(&self, length: usize) -> io::Result<Box<dyn Map>> {
        let (mut state, fault) = self.handle.call(Op::Map, 0, length)?;
        Fault::refusal(fault)?;
        self.check_writable()?;
        let inode = self.handle.inode;
        if length == 0 || length as u64 > state.inode(inode).length() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = Arc::clone(&self.handle.path);
        let handle = Handle::new(&self.handle.disk, &mut state, inode, path);
        drop(state);
        Ok(Box::new(FaultMap { handle, length }))
    }
}

/// A mapped file. A store is a write that cannot fail; without power it changes nothing.
#[derive(Debug)]
struct FaultMap {
    handle: Handle,
    length: usize,
}

impl Map for FaultMap {
    fn store(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.length), "a store outside of the map");
        if let Ok((mut state, _)) = self.handle.call(Op::Store, offset as u64, bytes.len()) {
            state.inode(self.handle.inode).write(bytes, offset as u64);
        }
    }
}

/// A held lock.
#[derive(Debug)]
pub(super) struct FaultLock {
    pub(super) handle: Handle,
}

impl Lock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.handle.disk.state().unlock(self.handle.inode);
    }
}

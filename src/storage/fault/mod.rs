//! A disk in memory that loses, tears and refuses, for tests.
//!
//! ```text
//! FaultDisk ── names   seen | durable | pending      what a crash keeps of them: `names`
//!           └─ inodes  cache | durable | dirty       what a crash keeps of them: `inode`
//!
//! calls ───1───2───3───4───5───►      a fault can be planned for each
//!              │crash   │crash        other disks; this one goes on
//! ```
//!
//! 1. It promises what [`Storage`] promises, and keeps nothing else on purpose: whatever a crash
//!    may lose is lost by some seed.
//! 2. One seed and one order of calls always give the same bytes.
//! 3. [`FaultDisk::crash`] copies no file: images share pages until one of them is written to. So
//!    many crash states can be taken from one run while it goes on.
//! 4. A disk never calls an observer while it is locked.
//!
//! The system is modelled after Linux: a failed write-back leaves the lost sectors clean, and is
//! told once to each open file; a process that dies loses nothing that it wrote
//! ([`FaultDisk::kill`]); a power cut takes what was not synced ([`FaultDisk::crash`]).

mod call;
mod damage;
mod file;
mod image;
mod inode;
mod names;
mod random;
mod state;

pub use call::{Call, Fault, Moment, Op};

use crate::storage::{Access, File, Lock, Storage};
use crate::sync::{Arc, Mutex, MutexGuard};
use file::{FaultFile, FaultLock, Handle};
use names::{InodeId, Names, normal};
use state::State;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

impl FaultDisk {
    /// An empty disk. The seed decides what is written back when, and how faults turn out.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State::new(Names::new(), BTreeMap::new(), seed))
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What a power cut at this moment may leave: another disk, without faults and locks. Each
    /// seed gives one of the many possible answers.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        Self::of(self.state().crash(seed))
    }

    /// What the next process finds if this one dies now and the system goes on: another disk,
    /// without faults and locks, on which everything is as it was seen but no more durable.
    #[must_use]
    pub fn kill(&self, seed: u64) -> Self {
        Self::of(self.state().kill(seed))
    }

    /// Makes everything durable, as an orderly shutdown does.
    pub fn settle(&self) {
        let mut state = self.state();
        state.names.settle();
        state.inodes.values_mut().for_each(inode::Inode::settle);
        state.forget_unreachable();
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The last calls, oldest first.
    #[must_use]
    pub fn trace(&self) -> Vec<Call> {
        self.state().trace.iter().cloned().collect()
    }

    /// Plans a fault for a call by its number; the first call has number 1.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().by_number.insert(call, fault);
    }

    /// Plans a fault for the `nth` call of this kind from now on; 1 is the next one.
    pub fn fail_nth(&self, op: Op, nth: u64, fault: Fault) {
        self.state().by_op.push_back((op, nth.max(1), fault));
    }

    /// Cuts the power now.
    pub fn power_off(&self) {
        self.state().off = true;
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Limits the bytes that all files together may have, in blocks of 4 KiB.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// About one call in so many is preceded by a write-back of some dirty sectors; 0 for none.
    /// Disks made from this one by a crash inherit it. Without this the seed decides.
    pub fn set_write_back(&self, every: u64) {
        self.state().set_write_back(every);
    }

    /// Calls this at every call from now on. The disk is not locked meanwhile, so the observer may
    /// take crash states; whatever it asks of this disk as a storage is observed too.
    pub fn observe(&self, observer: impl Fn(&Self, &Call, Moment) + Send + Sync + 'static) {
        self.state().observer = Some(Arc::new(observer));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Begins a call: counts it, shows it, and says what is to go wrong with it.
    fn call(
        &self,
        op: Op,
        path: &Arc<str>,
        offset: u64,
        length: u64,
    ) -> io::Result<(MutexGuard<'_, State>, Option<Fault>, Call)> {
        let mut state = self.state();
        let call = state.count(op, path, offset, length);
        if state.observer.is_some() {
            drop(state);
            self.observe_call(&call, Moment::Before);
            state = self.state();
        }
        let fault = state.enter(&call)?;
        Ok((state, fault, call))
    }

    fn observe_call(&self, call: &Call, moment: Moment) {
        let observer = self.state().observer.clone();
        if let Some(observer) = observer {
            observer(self, call, moment);
        }
    }

    fn hold(
        &self,
        state: &mut State,
        (inode, path): (InodeId, Arc<str>),
        shared: bool,
    ) -> Option<Box<dyn Lock>> {
        if !state.lock(inode, shared) {
            return None;
        }
        Some(Box::new(FaultLock { handle: Handle::new(self, state, inode, path) }))
    }

    /// The file of a name; made if it is free and `create` says so.
    fn find(state: &mut State, path: &Arc<str>, create: bool) -> io::Result<InodeId> {
        if !create {
            return state.names.existing(path);
        }
        state.names.check_free(path)?;
        let inode = state.new_inode();
        state.names.bind(path, inode);
        Ok(inode)
    }
}

impl Storage for FaultDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let path = normal(path)?;
        let (mut state, fault, _) = self.call(Op::Open, &path, 0, 0)?;
        Fault::refusal(fault)?;
        let inode = Self::find(&mut state, &path, access == Access::Create)?;
        let failures = state.inode(inode).failures();
        let handle = Handle::new(self, &mut state, inode, path);
        Ok(Box::new(FaultFile::new(handle, access != Access::Read, failures)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from)?, normal(to)?);
        let (mut state, fault, _) = self.call(Op::Rename, &from, 0, 0)?;
        state.names.check_rename(&from, &to)?;
        if fault == Some(Fault::Io) && state.random.once_in(2) {
            state.names.rename(&from, &to)?;
        }
        Fault::refusal(fault)?;
        state.names.rename(&from, &to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let (mut state, fault, _) = self.call(Op::Remove, &path, 0, 0)?;
        if fault == Some(Fault::Io) && state.random.once_in(2) {
            state.names.remove(&path)?;
        }
        Fault::refusal(fault)?;
        state.names.remove(&path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = normal(directory)?;
        let (state, fault, _) = self.call(Op::List, &directory, 0, 0)?;
        Fault::refusal(fault)?;
        state.names.list(&directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = normal(directory)?;
        let (mut state, fault, _) = self.call(Op::CreateDir, &directory, 0, 0)?;
        Fault::refusal(fault)?;
        state.names.create_directory(&directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = normal(directory)?;
        let (mut state, fault, _) = self.call(Op::SyncDir, &directory, 0, 0)?;
        state.names.check_directory(&directory)?;
        let State { names, random, .. } = &mut *state;
        match fault {
            Some(Fault::Interrupted) => return Err(Fault::Interrupted.error()),
            Some(Fault::Lie) => return Ok(()),
            Some(fault @ (Fault::Io | Fault::NoSpace)) => {
                names.fail(&directory, random);
                return Err(fault.error());
            }
            _ => names.sync(&directory),
        }
        state.forget_unreachable();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let path = normal(path)?;
        let (mut state, fault, _) = self.call(Op::Lock, &path, 0, 0)?;
        Fault::refusal(fault)?;
        let free = state.names.find(&path).is_none();
        let inode = Self::find(&mut state, &path, free)?;
        Ok(self.hold(&mut state, (inode, path), false))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let path = normal(path)?;
        let (mut state, fault, _) = self.call(Op::LockShared, &path, 0, 0)?;
        Fault::refusal(fault)?;
        let inode = Self::find(&mut state, &path, false)?;
        Ok(self.hold(&mut state, (inode, path), true))
    }
}

//! Everything the simulated disk knows, under its one lock.

use super::call::{Call, Fault, Moment, Op};
use super::inode::Inode;
use super::names::{InodeId, Names};
use super::random::Random;
use super::{FaultDisk, image};
use crate::sync::Arc;
use std::collections::{BTreeMap, VecDeque};
use std::{fmt, io};

/// Calls that are remembered for whoever wants to know what led here.
const TRACE_MAX: usize = 128;

pub(super) type Observer = Arc<dyn Fn(&FaultDisk, &Call, Moment) + Send + Sync>;

/// How the lock of a file is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Alone,
    /// By so many.
    Shared(u64),
}

/// The disk, what is to happen to it, and what has happened.
pub(super) struct State {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    next_inode: u64,
    pub(super) locks: BTreeMap<InodeId, Hold>,
    pub(super) random: Random,
    /// About one call in so many is followed by some write-back; none if zero.
    write_back_every: u64,
    write_back_set: bool,
    pub(super) capacity: Option<u64>,
    pub(super) off: bool,
    pub(super) calls: u64,
    pub(super) by_number: BTreeMap<u64, Fault>,
    pub(super) by_op: VecDeque<(Op, u64, Fault)>,
    pub(super) trace: VecDeque<Call>,
    pub(super) observer: Option<Observer>,
}

impl State {
    pub(super) fn new(names: Names, inodes: BTreeMap<InodeId, Inode>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let write_back_every = [0, 1, 4, 16].get(random.below_usize(4)).copied().unwrap_or(0);
        Self {
            next_inode: inodes.keys().last().map_or(0, |last| last.0 + 1),
            names,
            inodes,
            locks: BTreeMap::new(),
            random,
            write_back_every,
            write_back_set: false,
            capacity: None,
            off: false,
            calls: 0,
            by_number: BTreeMap::new(),
            by_op: VecDeque::new(),
            trace: VecDeque::new(),
            observer: None,
        }
    }

    pub(super) fn set_write_back(&mut self, every: u64) {
        self.write_back_every = every;
        self.write_back_set = true;
    }

    /// What holds for this disk and for those made from it.
    fn inherit(mut self, before: &Self) -> Self {
        self.capacity = before.capacity;
        if before.write_back_set {
            self.set_write_back(before.write_back_every);
        }
        self
    }

    /// Takes the lock of a file. False if it is held in a way that this does not go with.
    pub(super) fn lock(&mut self, inode: InodeId, shared: bool) -> bool {
        let hold = match (self.locks.get(&inode), shared) {
            (None, false) => Hold::Alone,
            (None, true) => Hold::Shared(1),
            (Some(Hold::Shared(others)), true) => Hold::Shared(others + 1),
            (Some(_), _) => return false,
        };
        self.locks.insert(inode, hold);
        true
    }

    /// Gives one holding of a lock back.
    pub(super) fn unlock(&mut self, inode: InodeId) {
        match self.locks.get_mut(&inode) {
            Some(Hold::Shared(others)) if *others > 1 => *others -= 1,
            _ => drop(self.locks.remove(&inode)),
        }
    }

    /// Gives a call its number.
    pub(super) fn count(&mut self, op: Op, path: &Arc<str>, offset: u64, length: u64) -> Call {
        self.calls += 1;
        let call = Call { number: self.calls, op, path: Arc::clone(path), offset, length };
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(call.clone());
        call
    }

    /// What goes wrong at this call; an error if there is no power.
    pub(super) fn enter(&mut self, call: &Call) -> io::Result<Option<Fault>> {
        if self.off {
            return Err(Fault::PowerOff.error());
        }
        let fault = self.by_number.remove(&call.number).or_else(|| self.take_by_op(call.op));
        match fault {
            Some(Fault::PowerOff) => {
                self.off = true;
                return Err(Fault::PowerOff.error());
            }
            Some(Fault::WriteBack) => {
                for inode in self.inodes.values_mut().filter(|inode| inode.is_dirty()) {
                    inode.fail(&mut self.random);
                }
            }
            _ => {}
        }
        if self.random.once_in(self.write_back_every) {
            self.write_back();
        }
        Ok(fault)
    }

    fn take_by_op(&mut self, op: Op) -> Option<Fault> {
        for planned in &mut self.by_op {
            if planned.0 == op {
                planned.1 = planned.1.saturating_sub(1);
            }
        }
        let due = self.by_op.iter().position(|planned| planned.0 == op && planned.1 == 0)?;
        self.by_op.remove(due).map(|(_, _, fault)| fault)
    }

    /// The system writes a little of what is dirty, as it may at any time.
    fn write_back(&mut self) {
        let dirty = self.inodes.values().filter(|inode| inode.is_dirty()).count();
        let nth = self.random.below_usize(dirty);
        if let Some(inode) = self.inodes.values_mut().filter(|inode| inode.is_dirty()).nth(nth) {
            inode.write_back((0, u64::MAX), 4, &mut self.random);
        }
    }

    /// A new file without a name.
    pub(super) fn new_inode(&mut self) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(id, Inode::default());
        id
    }

    pub(super) fn inode(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("a file lives as long as a handle or a name of it")
    }

    /// How long a file may become that wants to be `length` long.
    pub(super) fn room(&self, id: InodeId, length: u64) -> u64 {
        let Some(capacity) = self.capacity else { return length };
        let blocks = |length: u64| length.div_ceil(image::PAGE as u64) * image::PAGE as u64;
        let counts = |id: InodeId, inode: &Inode| {
            inode.handles > 0 || self.names.all().any(|(_, named)| named == id)
        };
        let others =
            self.inodes.iter().filter(|&(&other, inode)| other != id && counts(other, inode));
        let used: u64 = others.map(|(_, inode)| blocks(inode.length())).sum();
        let left = capacity.saturating_sub(used) / image::PAGE as u64 * image::PAGE as u64;
        let own = self.inodes.get(&id).map_or(0, Inode::length);
        length.min(left).max(own.min(length))
    }

    /// Forgets files that nothing leads to any more.
    pub(super) fn forget_unreachable(&mut self) {
        let names = &self.names;
        self.inodes.retain(|&id, inode| inode.handles > 0 || names.reaches(id));
    }

    /// The disk as a power cut may leave it.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let names = self.names.crash(&mut random);
        let survive = |(_, id): (&Arc<str>, InodeId)| {
            let inode = self.inodes.get(&id).expect("a name leads to a file");
            (id, inode.crash(&mut random))
        };
        let inodes = names.all().map(survive).collect();
        Self::new(names, inodes, random.next()).inherit(self)
    }

    /// The disk as the death of the process leaves it.
    pub(super) fn kill(&self, seed: u64) -> Self {
        let inodes = self.inodes.iter().map(|(&id, inode)| (id, inode.reopened())).collect();
        let mut next = Self::new(self.names.clone(), inodes, seed).inherit(self);
        next.forget_unreachable();
        next
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.all().map(|(path, _)| &**path).collect();
        f.debug_struct("State")
            .field("names", &names)
            .field("calls", &self.calls)
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}

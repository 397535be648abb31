//! A read-write transaction: its place in the registry and its workspaces.
//!
//! 1. A transaction holds nothing that others wait for while the user's code runs: no lock, no
//!    version head, no pin. It may be kept, moved to another thread, or forgotten.
//! 2. Workspaces are only added; a reference into one is good until the transaction ends.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::time::Instant;

use crate::epoch::Participant;
use crate::error::{Error, Result};
use crate::id::{BucketId, Timestamp};
use crate::mvcc::charge::Excess;
use crate::mvcc::footprint::Footprint;
use crate::mvcc::read_log::{Access, ReadLog};
use crate::mvcc::view::ReadView;
use crate::mvcc::workspace::{AnyWorkspace, Workspace};
use crate::mvcc::{Key, Value};
use crate::ssi::{Kind, Patience, Registration, Tag};
use crate::sync::Arc;
use crate::txn::bucket::Bucket;
use crate::txn::counters::Count;
use crate::txn::engine::Engine;
use crate::txn::options::{Durability, Isolation, TransactionOptions};

/// A read-write transaction over any number of buckets of one database.
///
/// It reads from one snapshot, taken when it began, and sees its own writes over it. Nothing of it
/// is visible to others before [`commit`](Self::commit) returns; dropping it rolls it back.
///
/// All methods take `&self`, and what they return by reference lives as long as that borrow, also
/// when the transaction overwrites it later. A transaction may be sent to another thread, and is
/// used by one at a time. It makes nobody wait: reads and writes take no locks, and a transaction
/// that is kept open costs memory only.
///
/// Most code does not need this type by name: [`Database::write`](crate::Database::write) lends
/// one to a closure, commits it, and runs the closure again after a conflict.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'db> {
    pub(super) participant: Participant<'db>,
    pub(super) workspaces: Workspaces<'db>,
    pub(super) log: ReadLog,
    pub(super) savepoints: RefCell<Vec<Savepoint>>,
    pub(super) isolation: Isolation,
    pub(super) label: Option<Arc<str>>,
    pub(super) durability: Option<Durability>,
    pub(super) seat: Seat<'db>,
}

/// A moment in a transaction: how far each workspace's log of writes had come.
pub(super) struct Savepoint {
    pub(super) name: String,
    pub(super) marks: Vec<(BucketId, usize)>,
}

/// A transaction's registration, given back when it ends, however it ends.
pub(super) struct Seat<'db> {
    engine: &'db Engine,
    registration: Option<Registration<Footprint>>,
}

impl<'db> Seat<'db> {
    pub(super) fn engine(&self) -> &'db Engine {
        self.engine
    }

    pub(super) fn registration(&self) -> &Registration<Footprint> {
        self.registration.as_ref().expect("a seat is given up only at the end")
    }

    /// Gives the registration to a commit that succeeded.
    pub(super) fn give_up(&mut self) -> Registration<Footprint> {
        self.registration.take().expect("a seat is given up only once")
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            self.engine.log().leave(registration);
            self.engine.counters().add(Count::Rollbacks, 1);
        }
    }
}

impl<'db> Transaction<'db> {
    pub(crate) fn begin(engine: &'db Engine, options: &TransactionOptions, named: bool) -> Self {
        Self::start(engine, options, named, None)
    }

    /// Begins a transaction that nobody overtakes while the patience lasts.
    pub(super) fn begin_gated(
        engine: &'db Engine,
        options: &TransactionOptions,
        patience: Patience,
    ) -> Self {
        Self::start(engine, options, false, Some(patience))
    }

    fn start(
        engine: &'db Engine,
        options: &TransactionOptions,
        named: bool,
        patience: Option<Patience>,
    ) -> Self {
        let participant = engine.collector().participant();
        let label = options.label.clone();
        // Reading the wall clock costs as much as a small transaction, so only a transaction that
        // the user holds, or named, can be found in the statistics with its age.
        let tag =
            (named || label.is_some()).then(|| Tag { label: label.clone(), since: Instant::now() });
        let registration = {
            let guard = participant.pin();
            match patience {
                Some(patience) => engine.log().begin_gated(patience, tag, &guard),
                None => engine.log().begin(Kind::Tracked, tag, &guard),
            }
        };
        Self {
            participant,
            workspaces: Workspaces::new(),
            log: ReadLog::default(),
            savepoints: RefCell::default(),
            isolation: options.isolation.unwrap_or(engine.isolation()),
            label,
            durability: options.durability,
            seat: Seat { engine, registration: Some(registration) },
        }
    }

    /// Discards everything the transaction wrote. The same as dropping it.
    pub fn rollback(self) {
        drop(self);
    }

    /// The moment that the transaction reads at: it sees what was committed at or before it.
    #[must_use]
    pub fn snapshot_timestamp(&self) -> Timestamp {
        self.seat.registration().snapshot()
    }

    /// The isolation level the transaction runs at.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub(super) fn tracked(&self) -> bool {
        self.isolation == Isolation::Serializable
    }

    /// What an operation on the workspace's bucket works with.
    #[inline]
    pub(super) fn access<'t, K: Key, V: Value>(
        &'t self,
        workspace: &'t Workspace<'db, K, V>,
    ) -> Access<'t> {
        let view = ReadView::of_transaction(
            self.seat.registration(),
            &self.participant,
            self.seat.engine(),
            workspace.expired(),
        );
        Access { view, log: &self.log, tracked: self.tracked() }
    }

    /// The transaction's side of a bucket, made at the first touch.
    #[inline]
    pub(super) fn workspace<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
    ) -> Result<&Workspace<'db, K, V>> {
        if !std::ptr::eq(self.seat.engine(), Arc::as_ptr(bucket.engine())) {
            return Err(Error::ForeignBucket { bucket: bucket.name() });
        }
        let workspace = match self.workspaces.find(bucket.id()) {
            Some(workspace) => workspace,
            None => self.first_touch(bucket)?,
        };
        let workspace = workspace.typed().expect("a handle has its bucket's types");
        let fits = workspace.count_reads(&self.log);
        fits.map_err(|excess| self.no_room(excess, workspace))?;
        Ok(workspace)
    }

    /// The same, to write: what was written before is counted where there is a limit.
    #[inline]
    pub(super) fn writer<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
    ) -> Result<&Workspace<'db, K, V>> {
        let workspace = self.workspace(bucket)?;
        workspace.count_private().map_err(|excess| self.no_room(excess, workspace))?;
        Ok(workspace)
    }

    /// On its own: spread out in every operation, it would be most of each.
    #[inline(never)]
    fn first_touch<K: Key, V: Value>(
        &self,
        bucket: &Bucket<K, V>,
    ) -> Result<&(dyn AnyWorkspace<'db> + 'db)> {
        let table = self.seat.engine().catalog().table::<K, V>(bucket.id())?;
        Ok(self.workspaces.add(bucket.id(), || Workspace::new(table)))
    }

    #[cold]
    fn no_room<K: Key, V: Value>(
        &self,
        excess: Excess<'_>,
        workspace: &Workspace<'db, K, V>,
    ) -> Error {
        self.seat.engine().no_room(excess.0, workspace.typed_table(), excess.1)
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("snapshot", &self.snapshot_timestamp())
            .field("isolation", &self.isolation)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

const INLINE: usize = 4;

type Held<'db> = (BucketId, Box<dyn AnyWorkspace<'db> + 'db>);

/// The workspaces of a transaction, in the order of first touch. Grows only.
pub(super) struct Workspaces<'db> {
    slots: [OnceCell<Held<'db>>; INLINE],
    more: OnceCell<Box<Workspaces<'db>>>,
}

impl<'db> Workspaces<'db> {
    fn new() -> Self {
        Self { slots: [const { OnceCell::new() }; INLINE], more: OnceCell::new() }
    }

    #[inline]
    pub(super) fn find(&self, id: BucketId) -> Option<&(dyn AnyWorkspace<'db> + 'db)> {
        let mut chunk = self;
        loop {
            for slot in &chunk.slots {
                let held = slot.get()?;
                if held.0 == id {
                    return Some(&*held.1);
                }
            }
            chunk = chunk.more.get()?;
        }
    }

    fn held(&self) -> impl Iterator<Item = &Held<'db>> {
        std::iter::successors(Some(self), |chunk| chunk.more.get().map(|more| &**more))
            .flat_map(|chunk| chunk.slots.iter())
            .map_while(OnceCell::get)
    }

    fn add<W: AnyWorkspace<'db> + 'db>(
        &self,
        id: BucketId,
        make: impl FnOnce() -> W,
    ) -> &(dyn AnyWorkspace<'db> + 'db) {
        let Some(slot) = self.slots.iter().find(|slot| slot.get().is_none()) else {
            return self.more.get_or_init(|| Box::new(Self::new())).add(id, make);
        };
        // Made where it will be: moved, it would wait for its own parts.
        let held = slot.get_or_init(|| {
            let workspace: Box<W> = Box::write(Box::new_uninit(), make());
            (id, workspace)
        });
        &*held.1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(dyn AnyWorkspace<'db> + 'db)> {
        self.held().map(|held| &*held.1)
    }

    pub(super) fn for_each_mut(
        &mut self,
        mut visit: impl FnMut(&mut (dyn AnyWorkspace<'db> + 'db)),
    ) {
        let mut chunk = Some(self);
        while let Some(Workspaces { slots, more }) = chunk {
            for slot in slots {
                let Some(workspace) = slot.get_mut() else { return };
                visit(&mut *workspace.1);
            }
            chunk = more.get_mut().map(|more| &mut **more);
        }
    }

    pub(super) fn of(&mut self, id: BucketId) -> &mut (dyn AnyWorkspace<'db> + 'db) {
        let mut chunk = self;
        loop {
            let at =
                chunk.slots.iter().position(|slot| slot.get().is_some_and(|held| held.0 == id));
            match at {
                Some(at) => {
                    let slot = chunk.slots.get_mut(at).and_then(OnceCell::get_mut);
                    return &mut *slot.expect("the slot was found just now").1;
                }
                None => chunk = chunk.more.get_mut().expect("a write is in some workspace"),
            }
        }
    }
}

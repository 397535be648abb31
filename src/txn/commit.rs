//! Committing: from private writes to visible ones, or back.
//!
//! ```text
//! 1 encode    what goes to the log                   user `Encode`; nothing held
//! 2 place     a record for each key in the index     user `Ord`; nothing held
//! 3 freeze    what was read and written              user `Ord`; nothing held
//! 4 take      version heads, by address              waits for those who are at 4 to 6 already
//! 5 certify   and link: the commit point             the conflict graph decides; the log's lock
//! 6 stamp     versions carry the commit time         cannot fail
//! 7 acknowledge                                      waits for a sync; nothing held
//! ```
//!
//! 1. Heads are taken in the order of their addresses, so two commits never wait for each other.
//! 2. Whatever goes wrong before the link, a panic in the user's `Ord` included, takes every
//!    version off its head again.
//! 3. The guard outlives the node: while a version of ours may still be found on a head, the pin
//!    keeps the status that it points at.

use std::time::Instant;

use crossbeam_utils::Backoff;

use crate::epoch::Guard;
use crate::error::{ConflictKind, Error, Evidence, Result};
use crate::id::{Lsn, Timestamp};
use crate::mvcc::account::Reserved;
use crate::mvcc::footprint::{Footprint, WriteRef};
use crate::mvcc::record::TakeError;
use crate::mvcc::tables::key_of;
use crate::mvcc::workspace::AnyWorkspace;
use crate::ssi::{Footprint as _, Pending, Refusal, Status};
use crate::sync::Arc;
use crate::txn::counters::Count;
use crate::txn::engine::Engine;
use crate::txn::pledge::{Failed, Logged, Pledge, Receipt};
use crate::txn::transaction::{Seat, Transaction, Workspaces};
use crate::wal::Payload;

/// Writes after which a commit tidies up at once, and overwritten bytes.
const LARGE: usize = 1024;
const LARGE_BYTES: usize = 32 << 10;

impl Transaction<'_> {
    /// Makes everything the transaction wrote visible at once, at the returned moment; or nothing.
    ///
    /// A transaction that wrote nothing returns a moment at which everything it read was current.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the isolation level would be broken: nothing was written, and the
    /// transaction may be run again from its beginning. [`Error::BucketDropped`] if it wrote to a
    /// bucket that has been dropped. [`Error::MemoryLimit`] if there is no room for what it wrote.
    /// [`Error::Fetch`] if an iterator of the transaction ended early because a value could not be
    /// read. [`Error::ReadOnly`] if it wrote to a durable bucket and the
    /// database is open for reading only.
    pub fn commit(mut self) -> Result<Receipt> {
        let engine = self.seat.engine();
        let pledge = self.conclude()?;
        drop(self);
        engine.acknowledge(pledge)
    }

    /// Everything but the acknowledgement, which is for when the transaction is no more.
    pub(super) fn conclude(&mut self) -> Result<Pledge> {
        let raised = self.durability;
        let (commit, end) = self.commit_unacknowledged()?;
        Ok(Pledge { commit, end, raised })
    }

    /// Commits, and answers when, and where its record ends if it has one.
    fn commit_unacknowledged(&mut self) -> Result<(Timestamp, Option<Lsn>)> {
        let failed = self.workspaces.iter().find(|it| it.has_failed());
        if let Some(failure) = failed.and_then(AnyWorkspace::failure) {
            return Err(failure.into());
        }
        let mut payload = self.encode()?;
        let reserved = self.reserve_memory()?;
        let Self { participant, workspaces, log, label, seat, .. } = self;
        let engine = seat.engine();
        let guard = participant.pin();

        let (reads, locks) = log.take();
        let mut footprint = Footprint::of_addresses(reads, locks);
        let mut dropped = None;
        workspaces.for_each_mut(|workspace| {
            if let Some(expiry) = workspace.table().expiry() {
                expiry.mark(Instant::now(), || engine.log().now(&guard));
            }
            if !workspace.freeze(&guard, &mut footprint) {
                dropped = Some(workspace.bucket());
            }
        });
        if let Some(bucket) = dropped {
            return Err(Error::BucketDropped { bucket: engine.catalog().name(bucket) });
        }
        footprint.freeze();

        if !footprint.has_writes() && !footprint.has_locks() {
            return Ok((finish_reads(seat, label.take(), footprint, &guard)?, None));
        }
        // Before the first address is followed.
        let has_window = engine.log().check_window(seat.registration());
        has_window.map_err(|refusal| Evidence::of(kind_of(&refusal)))?;
        let is_large = footprint.writes().len() > LARGE;
        let label = label.take();
        let pending = engine.log().prepare(seat.registration(), label, footprint, &guard);
        engine.log().admit(seat.registration());
        let (linked, end) = link(workspaces, pending, payload.as_mut(), seat, &guard)?;
        let commit = linked.timestamp();
        let horizon = engine.horizon();
        let counters = engine.counters();
        let (mut retained, mut is_long, mut over) = (0_u64, false, 0);
        workspaces.for_each_mut(|workspace| {
            let settled = workspace.settle(commit, horizon, &guard);
            retained = retained.wrapping_add(settled.superseded as u64);
            retained = retained.wrapping_sub(settled.pruned as u64);
            is_long |= settled.is_long;
            over += settled.superseded_bytes;
        });
        drop(reserved);
        engine.finish(linked, seat.give_up(), &guard);
        if is_large || over >= LARGE_BYTES {
            engine.tidy_now(&guard);
        }
        if is_long {
            let needed = engine.log().needed(&guard);
            workspaces.iter().for_each(|workspace| {
                retained = retained.wrapping_sub(workspace.thin(&needed, &guard) as u64);
            });
        }
        counters.add(Count::Commits, 1);
        counters.add(Count::VersionsRetained, retained);
        Ok((commit, end?))
    }

    /// Reserves what the commit will take, wherever there is a limit. From here on the transaction
    /// reads nothing, so making room may cut off what it could have read, and it follows no address
    /// before it has checked its window under a pin.
    fn reserve_memory(&self) -> Result<Vec<Reserved>> {
        let engine = self.seat.engine();
        let limited = || self.workspaces.iter().filter(|it| it.is_limited());
        if limited().next().is_none() {
            return Ok(Vec::new());
        }
        let needs: Vec<_> = limited().map(|it| (it.table(), it.needs())).collect();
        engine.log().done_reading(self.seat.registration());
        let mut reserved = Vec::new();
        for (table, needs) in needs {
            engine.reserve(table, needs, &mut reserved)?;
        }
        Ok(reserved)
    }

    /// The record for the log, if there is a log and anything to write to it.
    fn encode(&self) -> Result<Option<Payload>> {
        self.seat.engine().backing().payload(|ops| {
            self.workspaces.iter().try_for_each(|workspace| Ok(workspace.encode(ops)?))
        })
    }
}

/// Ends a transaction that wrote nothing.
fn finish_reads(
    seat: &mut Seat<'_>,
    label: Option<Arc<str>>,
    footprint: Footprint,
    guard: &Guard<'_>,
) -> Result<Timestamp> {
    let engine = seat.engine();
    let commit = if footprint.has_reads() {
        match engine.log().commit_reads(seat.registration(), label, footprint, guard) {
            Ok(commit) => commit,
            Err(refusal) => return Err(Evidence::of(kind_of(&refusal)).into()),
        }
    } else {
        seat.registration().snapshot()
    };
    engine.log().leave(seat.give_up());
    engine.counters().add(Count::Commits, 1);
    Ok(commit)
}

/// The version heads a commit has taken. Dropped before the link, it takes them off again.
struct Heads<'w, 'db, 'g> {
    workspaces: &'w mut Workspaces<'db>,
    guard: &'g Guard<'g>,
    linked: bool,
}

impl Drop for Heads<'_, '_, '_> {
    fn drop(&mut self) {
        if !self.linked {
            let guard = self.guard;
            self.workspaces.for_each_mut(|workspace| workspace.release(guard));
        }
    }
}

/// Takes the heads, certifies, links, and writes the record.
fn link<'g>(
    workspaces: &mut Workspaces<'_>,
    pending: Pending<'g, Footprint>,
    payload: Option<&mut Payload>,
    seat: &Seat<'_>,
    guard: &'g Guard<'g>,
) -> Result<Logged<'g>> {
    let engine = seat.engine();
    let mut pending = pending;
    let mut heads = Heads { workspaces, guard, linked: false };
    if let Err(lost) = heads.take(&mut pending, seat) {
        pending.abort();
        // Before the report: it copies a key, which is the user's code.
        drop(heads);
        return Err(evidence_of_lost(engine, seat, lost, guard).into());
    }
    match engine.commit_and_log(pending, payload, seat.registration(), guard) {
        Ok(logged) => {
            heads.linked = true;
            Ok(logged)
        }
        Err(Failed::Refused(refused)) => {
            drop(heads);
            let footprint = refused.pending.footprint();
            Err(evidence_of(engine, seat, &refused.refusal, footprint, guard).into())
        }
        Err(Failed::Log { error, pending }) => {
            drop(heads);
            drop(pending);
            Err(error)
        }
    }
}

/// Why not all heads were taken.
enum Lost {
    /// A key was lost to another transaction; and when that one committed, if it did.
    Write(WriteRef, Option<Timestamp>),
    /// The window was given up, and a record that the snapshot sees has left the index.
    Window(Refusal),
}

impl Heads<'_, '_, '_> {
    fn take(
        &mut self,
        pending: &mut Pending<'_, Footprint>,
        seat: &Seat<'_>,
    ) -> std::result::Result<(), Lost> {
        let owner: *const Status = pending.status();
        let snapshot = seat.registration().snapshot();
        let mut moved = Vec::new();
        for at in 0..pending.footprint().writes().len() {
            let Some(&write) = pending.footprint().writes().get(at) else { break };
            match self.take_one(write, owner, snapshot) {
                Ok(leaves) if leaves => pending.footprint_mut().note_leaving(at),
                Ok(_) => {}
                Err(TakeError::Newer(newer)) => return Err(Lost::Write(write, Some(newer))),
                Err(_) => moved.push(write),
            }
        }
        // A sweep removed these records since they were found. Their successors come out of
        // order, so nothing is waited for (keeps 1).
        for write in moved {
            let mut to = write;
            loop {
                let workspace = self.workspaces.of(write.bucket);
                to.record = workspace.place_again(write.index(), self.guard);
                match workspace.take(write.index(), owner, snapshot, self.guard) {
                    Ok(leaves) => {
                        to = if leaves { to.leaving() } else { to };
                        break;
                    }
                    // One that the snapshot sees has no successor, and dies only after its window.
                    Err(TakeError::Dead) => {
                        let log = seat.engine().log();
                        log.check_window(seat.registration()).map_err(Lost::Window)?;
                    }
                    Err(TakeError::Newer(newer)) => return Err(Lost::Write(to, Some(newer))),
                    Err(TakeError::Busy) => return Err(Lost::Write(to, None)),
                }
            }
            pending.footprint_mut().move_write(write, to);
        }
        Ok(())
    }

    /// Takes one head, waiting while another transaction is deciding about it: that one is past
    /// all user code, and waits only for heads at higher addresses.
    fn take_one(
        &mut self,
        write: WriteRef,
        owner: *const Status,
        snapshot: Timestamp,
    ) -> std::result::Result<bool, TakeError> {
        let backoff = Backoff::new();
        loop {
            let workspace = self.workspaces.of(write.bucket);
            match workspace.take(write.index(), owner, snapshot, self.guard) {
                Err(TakeError::Busy) => backoff.snooze(),
                outcome => return outcome,
            }
        }
    }
}

fn kind_of(refusal: &Refusal) -> ConflictKind {
    match refusal {
        Refusal::Overwritten { .. } | Refusal::Cycle(_) => ConflictKind::Cycle,
        Refusal::ReadOnlyPivot { .. } => ConflictKind::ReadOnlyPivot,
        Refusal::WindowLost => ConflictKind::WindowLost,
        Refusal::SearchBudget => ConflictKind::SearchBudget,
        Refusal::Locked { .. } => ConflictKind::WriteWrite,
    }
}

/// Names what `write` is about.
fn name(engine: &Engine, evidence: &mut Evidence, write: WriteRef, guard: &Guard<'_>) {
    let table = engine.catalog().tables().get(write.bucket);
    evidence.bucket = Some(engine.catalog().name(write.bucket));
    evidence.key = Some(key_of(write, table, guard));
}

fn evidence_of_lost(engine: &Engine, seat: &Seat<'_>, lost: Lost, guard: &Guard<'_>) -> Evidence {
    let (write, newer) = match lost {
        Lost::Write(write, newer) => (write, newer),
        Lost::Window(refusal) => return Evidence::of(kind_of(&refusal)),
    };
    engine.counters().add(Count::WriteConflicts, 1);
    let mut evidence = Evidence::of(ConflictKind::WriteWrite);
    name(engine, &mut evidence, write, guard);
    let met = newer.and_then(|at| engine.log().met(at, seat.registration(), guard));
    evidence.other = met.and_then(|met| met.label);
    evidence
}

fn evidence_of(
    engine: &Engine,
    seat: &Seat<'_>,
    refusal: &Refusal,
    footprint: &Footprint,
    guard: &Guard<'_>,
) -> Evidence {
    let mut evidence = Evidence::of(kind_of(refusal));
    let peer = match refusal {
        Refusal::Overwritten { by } | Refusal::Locked { by } => Some(by),
        Refusal::Cycle(witness) => {
            evidence.cycle = witness.steps.iter().map(|step| step.peer.timestamp).collect();
            witness.steps.first().map(|step| &step.peer)
        }
        _ => None,
    };
    let Some(peer) = peer else { return evidence };
    evidence.other.clone_from(&peer.label);
    if let Some(met) = engine.log().met(peer.timestamp, seat.registration(), guard)
        && let Some(write) = footprint.overlap(met.footprint)
    {
        name(engine, &mut evidence, write, guard);
    }
    evidence
}

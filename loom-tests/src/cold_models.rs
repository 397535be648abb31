//! Models of values that leave memory for a file and come back, over the shipped files.
//!
//! The stage, and what happens to records otherwise, is that of `record_models`.

use crate::checkpoint::table::Table;
use crate::checkpoint::writer::TableWriter;
use crate::checkpoint::{Origin, TableId, TableKind, ValuePosition};
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::mvcc::footprint::Footprint;
use crate::mvcc::place::Place;
use crate::mvcc::version::Version;
use crate::play::{Role, play};
use crate::record_models::{Stage, Value, commit, free_everything, quitter, stage, thinner, write};
use crate::ssi::Kind;
use crate::storage::Memory;
use std::path::Path;
use std::sync::Arc;

/// A file that somebody may have written; its content is not part of the model.
fn place() -> Place {
    let (storage, directory) = (Memory::new(), Path::new(""));
    let (database, table) = (DatabaseId::from_raw(1), TableId::FIRST);
    let origin = Origin { database, bucket: StoredId::from_raw(1), table };
    let writer = TableWriter::create(&storage, directory, origin, TableKind::Range, 0, |_| ());
    let mut writer = writer.expect("the storage takes everything");
    writer.push(b"7", b"1").expect("the storage takes everything");
    writer.finish(Timestamp::from_raw(1), Lsn::ZERO).expect("the storage takes everything");
    let file = Table::open_unlisted(&storage, directory, table).expect("it was written just now");
    Place { file: Arc::new(file), position: ValuePosition { offset: 0, length: 1 } }
}

/// Lets the value leave memory, and the versions below it, if nobody reads them.
fn chill(stage: &Stage, place: Place) {
    let Stage { log, collector, record, .. } = stage;
    let guard = collector.pin();
    let registration = log.begin(Kind::Untracked, None, &guard);
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    let newest = record.newest_value(&guard).filter(|newest| !newest.is_cold());
    let stub = newest.and_then(|newest| {
        let stub = Version::cold(record.newest_written(&guard)?, place);
        // SAFETY: leaked just now.
        unsafe { stub.as_ref() }.mark_pending(pending.status());
        if record.depart(newest, stub, true, &guard) {
            return Some(stub);
        }
        // SAFETY: nobody else has seen it.
        unsafe { Version::free(stub.as_ptr()) };
        None
    });
    let Some(stub) = stub else {
        drop(pending);
        log.leave(registration);
        return;
    };
    let linked = log.commit(pending, &registration, &guard).expect("nothing was read");
    let at = linked.timestamp();
    // SAFETY: linked under the guard.
    unsafe { stub.as_ref() }.settle(at, 0);
    let _ = log.finish(linked, registration, &guard);
    record.thin(&log.needed(&guard), |_| 0, &guard);
}

/// A value, 1, that has left memory at 2.
fn stage_with_cold() -> Stage {
    let stage = stage();
    chill(&stage, place());
    stage
}

/// The same, and somebody who began before still sees the value where it was.
fn stage_with_parted() -> Stage {
    let stage = stage();
    let guard = stage.collector.pin();
    *stage.early.lock().unwrap() = Some(stage.log.begin(Kind::Tracked, None, &guard));
    drop(guard);
    chill(&stage, place());
    stage
}

/// The same, and nobody does any more; what is below has not been cut off yet.
fn stage_with_history() -> Stage {
    let stage = stage_with_parted();
    let early = stage.early.lock().unwrap().take().expect("it began");
    stage.log.leave(early);
    stage
}

/// The same, and it was written over at 3 while somebody still sees it.
fn stage_with_cold_below() -> Stage {
    let stage = stage_with_cold();
    let guard = stage.collector.pin();
    *stage.early.lock().unwrap() = Some(stage.log.begin(Kind::Tracked, None, &guard));
    drop(guard);
    assert!(write(&stage, Some(3)));
    stage
}

/// What a snapshot sees, brought back into memory if need be, and read twice.
fn fetch(stage: &Stage, snapshot: Timestamp) -> u64 {
    let Stage { collector, record, .. } = stage;
    let place = record.place_at(snapshot, &collector.pin());
    if place.is_some() {
        let guard = collector.pin();
        drop(record.land(snapshot, Value::new(1), false, |_| 0, &guard));
    }
    let look = || {
        let guard = collector.pin();
        let seen = record.visible_at(snapshot, &guard).and_then(Version::value);
        seen.expect("what came back stays while somebody sees it").read()
    };
    let first = look();
    assert_eq!(first, look(), "a snapshot does not change");
    first
}

fn fetcher(stage: &Stage) {
    let guard = stage.collector.pin();
    let registration = stage.log.begin(Kind::Untracked, None, &guard);
    drop(guard);
    let snapshot = registration.snapshot();
    let value = fetch(stage, snapshot);
    assert_eq!(value, if snapshot.get() < 3 { 1 } else { 3 });
    stage.log.leave(registration);
}

/// The transaction that began before the value was written over.
fn early_fetcher(stage: &Stage) {
    let registration = stage.early.lock().unwrap().take().expect("one fetches");
    assert_eq!(fetch(stage, registration.snapshot()), 1);
    stage.log.leave(registration);
}

fn writer(stage: &Stage) {
    assert!(write(stage, Some(3)), "nobody else writes");
}

/// May be refused: the early transaction has ended by then, or not.
fn rival(stage: &Stage) {
    write(stage, Some(4));
}

fn chiller(stage: &Stage) {
    chill(stage, place());
}

/// Points cold versions elsewhere.
fn mover(stage: &Stage) {
    let place = place();
    let is_old = |old: &Place| !Arc::ptr_eq(&old.file, &place.file);
    stage.record.repoint(&place, is_old, &stage.collector.pin());
}

/// What the early transaction sees, before and after.
fn early_reader(stage: &Stage) {
    let registration = stage.early.lock().unwrap().take().expect("one reads");
    let snapshot = registration.snapshot();
    assert_eq!((fetch(stage, snapshot), fetch(stage, snapshot)), (1, 1));
    stage.log.leave(registration);
}

/// A transaction that has seen the value before it left writes it afterwards.
fn early_writer(stage: &Stage) {
    let registration = stage.early.lock().unwrap().take().expect("one writes");
    let written = commit(stage, registration, Some(3), false);
    assert!(written.is_some(), "nobody is refused because a value left or came back");
}

/// Two bring the same value back: one of them does.
pub fn fetch_and_fetch(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, fetcher];
    play(3, main, stage_with_cold, ROLES, free_everything);
}

/// A value comes back while it is written over.
pub fn fetch_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, writer];
    play(3, main, stage_with_cold, ROLES, free_everything);
}

/// A value comes back below one that is on top, beside a commit that cuts the chain.
pub fn fetch_below_and_write(main: usize) {
    const ROLES: &[Role<Stage>] = &[early_fetcher, rival];
    play(3, main, stage_with_cold_below, ROLES, free_everything);
}

/// The same beside a sweep.
pub fn fetch_below_and_thin(main: usize) {
    const ROLES: &[Role<Stage>] = &[early_fetcher, thinner];
    play(3, main, stage_with_cold_below, ROLES, free_everything);
}

/// A value comes back while somebody takes the head and gives up.
pub fn fetch_and_give_up(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, quitter];
    play(3, main, stage_with_cold, ROLES, free_everything);
}

/// A value comes back, and leaves again.
pub fn fetch_and_leave(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, chiller];
    play(3, main, stage_with_cold, ROLES, free_everything);
}

/// A value comes back while its place moves.
pub fn fetch_and_move(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, mover];
    play(3, main, stage_with_cold, ROLES, free_everything);
}

/// What was read before it left is written while it comes back.
pub fn fetch_and_write_early(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, early_writer];
    play(3, main, stage_with_parted, ROLES, free_everything);
}

/// A value comes back above one that somebody still reads.
pub fn fetch_and_read_below(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, early_reader];
    play(3, main, stage_with_parted, ROLES, free_everything);
}

/// A value comes back above old ones, which a commit cuts off meanwhile.
pub fn fetch_and_cut(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, writer];
    play(3, main, stage_with_history, ROLES, free_everything);
}

/// The same, and a sweep takes them out.
pub fn fetch_and_thin(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, thinner];
    play(3, main, stage_with_history, ROLES, free_everything);
}

/// The same, and somebody takes the head meanwhile and gives up.
pub fn fetch_and_thin_and_give_up(main: usize) {
    const ROLES: &[Role<Stage>] = &[fetcher, thinner, quitter];
    play(3, main, stage_with_history, ROLES, free_everything);
}

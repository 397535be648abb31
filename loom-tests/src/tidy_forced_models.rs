//! Models of tidying where the log has no room: it gives up windows of transactions that still run,
//! and goes on to the newest commit, even if that is not settled.

use crate::id::BucketId;
use crate::mvcc::footprint::{Footprint, WriteRef};
use crate::mvcc::record::TakeError;
use crate::mvcc::version::Version;
use crate::play::{Role, play};
use crate::record_models::Value;
use crate::ssi::Refusal;
use crate::tidy_models::{
    Lost, Stage, begin, commit_to, free_everything, stage_of, sweeper, undertaker, write,
};
use std::ptr::NonNull;

/// A value that a transaction sees.
fn stage_with_early_writer() -> Stage {
    let stage = stage_of(0);
    *stage.early_writer.lock().unwrap() = Some(begin(&stage));
    stage
}

/// A value over an older one in the record, which whoever writes next cuts off.
fn stage_with_older() -> Stage {
    let mut stage = stage_of(0);
    stage.prunes = true;
    assert!(write(&stage, Some(2)).is_ok());
    // Tells everybody how far back others look.
    let _ = stage.log.horizons(&stage.collector.pin());
    stage
}

/// The transaction that began before writes what others remove. It reads no more, so the record may
/// be gone before it is pinned, and die later.
fn early_writer(stage: &Stage) {
    let Stage { log, collector, index, .. } = stage;
    let registration = stage.early_writer.lock().unwrap().take().expect("one writes");
    let snapshot = registration.snapshot();
    log.done_reading(&registration);
    let guard = collector.pin();
    if log.check_window(&registration).is_err() {
        log.leave(registration);
        return;
    }
    let record = index.follow(&guard);
    let version = Version::boxed(Some(Value::new(3)));
    let written = commit_to(stage, registration, version, || Some(record), &guard);
    if written == Err(Lost::Record(TakeError::Dead)) {
        assert!(log.passed() > snapshot, "what it sees dies after its window");
    }
}

/// The same, but it found the record in the index, or has found none and made another.
fn early_inserter(stage: &Stage) {
    let Stage { log, collector, index, .. } = stage;
    let registration = stage.early_writer.lock().unwrap().take().expect("one writes");
    log.done_reading(&registration);
    let guard = collector.pin();
    if let Some(record) = index.find(&guard) {
        let version = Version::boxed(Some(Value::new(3)));
        let _ = commit_to(stage, registration, version, || Some(record), &guard);
        return;
    }
    let write = WriteRef::new(NonNull::dangling(), BucketId::from_raw(0), 0);
    let mut footprint = Footprint::default();
    footprint.add_write(write);
    let pending = log.prepare(&registration, None, footprint, &guard);
    log.admit(&registration);
    let refused = log.commit(pending, &registration, &guard).expect_err("others wrote the key");
    assert_eq!(refused.refusal, Refusal::WindowLost);
    drop(refused);
    log.leave(registration);
}

/// Removes the key.
fn remover(stage: &Stage) {
    let _ = write(stage, None);
}

/// The same, and a sweep comes by.
fn swept_remover(stage: &Stage) {
    remover(stage);
    sweeper(stage);
}

/// Of two that write one record, the later one to commit began after the other had.
fn first_committer_won(stage: &Stage) {
    let written = stage.written.lock().unwrap();
    for (snapshot, later) in &*written {
        let mut rivals = written.iter().filter(|(_, at)| snapshot < at && at < later);
        assert_eq!(rivals.next(), None, "unseen by who wrote at {later}");
    }
    drop(written);
    free_everything(stage);
}

/// Nothing is in the way of a sweep.
fn key_is_removed(stage: &Stage) {
    let guard = stage.collector.pin();
    let _ = stage.log.trim(&guard);
    drop(guard);
    free_everything(stage);
    sweeper(stage);
    assert!(stage.index.find(&stage.collector.pin()).is_none(), "a removed key leaves");
    free_everything(stage);
}

/// A record is removed beside a transaction that may write it, and that the log cannot wait for.
pub fn kill_and_write_early(main: usize) {
    const ROLES: &[Role<Stage>] = &[swept_remover, early_writer];
    play(2, main, stage_with_early_writer, ROLES, first_committer_won);
}

/// The same, and the transaction writes to another record where this one has left.
pub fn kill_and_insert_early(main: usize) {
    const ROLES: &[Role<Stage>] = &[swept_remover, early_inserter];
    play(2, main, stage_with_early_writer, ROLES, first_committer_won);
}

/// Who passes a removal finds it committed while its owner has yet to cut the chain and settle it.
pub fn kill_and_settle(main: usize) {
    const ROLES: &[Role<Stage>] = &[remover, undertaker];
    play(2, main, stage_with_older, ROLES, key_is_removed);
}

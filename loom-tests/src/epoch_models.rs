//! Models of epoch reclamation, over the shipped files.
//!
//! An object carries a cell that readers read and that freeing writes. The object's memory itself
//! stays until the stage is cleared, so that a free that comes too early is a data race on the cell
//! or a flag found set, and never a crash.

use crate::epoch::{Collector, Guard};
use crate::play::{Role, play};
use crate::sync::{AtomicPtr, Ordering, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

/// Something that is linked, read, unlinked and freed.
struct Object {
    cell: UnsafeCell<()>,
    /// Not part of the model.
    frees: Count,
}

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Object {}
// SAFETY: as for `Sync`.
unsafe impl Send for Object {}

impl Object {
    fn read(&self) {
        assert_eq!(self.frees.load(Relaxed), 0, "read after it was freed");
        self.cell.with(|_| ());
    }

    /// # Safety
    /// `raw` came from an `Arc` of the stage.
    unsafe fn free(raw: *mut u8) {
        // SAFETY: the stage keeps all objects until its end.
        let object = unsafe { &*raw.cast::<Object>() };
        object.cell.with_mut(|_| ());
        assert_eq!(object.frees.fetch_add(1, Relaxed), 0, "freed twice");
    }
}

struct Stage {
    collector: Collector,
    link: AtomicPtr<Object>,
    object: Arc<Object>,
}

fn stage() -> Stage {
    let object = Arc::new(Object { cell: UnsafeCell::new(()), frees: Count::new(0) });
    let link = AtomicPtr::new(Arc::as_ptr(&object).cast_mut());
    Stage { collector: Collector::with_slots(3), link, object }
}

fn look(stage: &Stage, _guard: &Guard<'_>) {
    let object = stage.link.load(Ordering::Acquire);
    // SAFETY: the stage keeps all objects until its end.
    if let Some(object) = unsafe { object.as_ref() } {
        object.read();
    }
}

fn reader(stage: &Stage) {
    let guard = stage.collector.pin();
    look(stage, &guard);
}

fn reader_twice(stage: &Stage) {
    let participant = stage.collector.participant();
    look(stage, &participant.pin());
    let guard = participant.pin();
    look(stage, &guard);
}

fn reader_nested(stage: &Stage) {
    let participant = stage.collector.participant();
    let outer = participant.pin();
    let object = stage.link.load(Ordering::Acquire);
    drop(participant.pin());
    // SAFETY: the stage keeps all objects until its end.
    if let Some(object) = unsafe { object.as_ref() } {
        object.read();
    }
    drop(outer);
}

fn unlink(stage: &Stage) {
    let guard = stage.collector.pin();
    let object = stage.link.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the object is unlinked, and only this role does so.
    unsafe { guard.defer(object.cast(), Object::free, 1) }
}

fn unlinker(stage: &Stage) {
    unlink(stage);
    stage.collector.collect();
}

fn advancer(stage: &Stage) {
    stage.collector.collect();
}

fn freed_in_the_end(stage: &Stage) {
    stage.collector.collect();
    assert_eq!(stage.object.frees.load(Relaxed), 1, "nobody is pinned, so all is freed");
}

/// A reader and a writer that frees what it unlinked as soon as it may.
pub fn pin_and_retire(main: usize) {
    const ROLES: [Role<Stage>; 2] = [reader, unlinker];
    play(3, main, stage, &ROLES, freed_in_the_end);
}

/// A reader that pins again against a thread that unlinks, moves the epoch and frees.
pub fn pin_again(main: usize) {
    const ROLES: [Role<Stage>; 2] = [reader_twice, unlinker];
    play(3, main, stage, &ROLES, freed_in_the_end);
}

/// A guard inside another one does not end the outer one's protection.
pub fn nested_pin(main: usize) {
    const ROLES: [Role<Stage>; 2] = [reader_nested, unlinker];
    play(3, main, stage, &ROLES, freed_in_the_end);
}

/// What one thread retired and left behind, others find and free once.
pub fn bags_are_handed_over(main: usize) {
    const ROLES: [Role<Stage>; 2] = [unlink, advancer];
    play(3, main, stage, &ROLES, freed_in_the_end);
}

/// Two threads that look after the same left-over bag free it once.
pub fn bags_are_freed_once(main: usize) {
    fn stage_with_garbage() -> Stage {
        let stage = Stage { collector: Collector::with_slots(1), ..stage() };
        unlink(&stage);
        stage
    }
    const ROLES: [Role<Stage>; 2] = [advancer, advancer];
    play(2, main, stage_with_garbage, &ROLES, freed_in_the_end);
}

/// Two threads that find no free slot add one chunk of them between them.
pub fn slots_grow(main: usize) {
    fn stage_of_one() -> Stage {
        Stage { collector: Collector::with_slots(1), ..stage() }
    }
    const ROLES: [Role<Stage>; 2] = [reader, unlinker];
    play(3, main, stage_of_one, &ROLES, freed_in_the_end);
}

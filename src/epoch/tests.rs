//! Aim: garbage is freed once, as late as the pins demand, whatever destructors do.
//! Method: objects that count their drops; threads that swap a shared pointer.

use super::bag::OBJECTS_MAX;
use super::*;
use crate::slab::Boxed;
use crate::sync::{Arc, AtomicPtr, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn retire(guard: &Guard<'_>, drops: &Arc<AtomicUsize>) {
    let object = Boxed::leak(Boxed::new(Counted(Arc::clone(drops)))).as_ptr();
    // SAFETY: the box was made just now and nobody else has it.
    unsafe { guard.retire_box(object, 1) }
}

#[test]
fn object_outlives_every_pin_that_may_hold_it() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let reader = collector.pin();
    retire(&collector.pin(), &drops);
    for _ in 0..5 {
        collector.collect();
    }
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    assert_eq!((collector.stats().pinned, collector.stats().garbage_objects), (1, 1));
    drop(reader);
    collector.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert_eq!(collector.stats().garbage_objects, 0);
}

#[test]
fn nested_guard_keeps_the_pin() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let participant = collector.participant();
    let outer = participant.pin();
    drop(participant.pin());
    retire(&collector.pin(), &drops);
    collector.collect();
    collector.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(outer);
    collector.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn collector_frees_all_when_dropped() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        retire(&collector.pin(), &drops);
    }
    drop(collector);
    assert_eq!(drops.load(Ordering::Relaxed), 200);
}

/// Three threads ended with more waiting than they could free, and the one that was left freed its
/// own only.
#[test]
fn what_a_thread_left_behind_is_freed_by_others() {
    let (collector, drops) = (Collector::new(), Arc::new(AtomicUsize::new(0)));
    let reader = collector.pin();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let participant = collector.participant();
                (0..10 * OBJECTS_MAX).for_each(|_| retire(&participant.pin(), &drops));
            });
        }
    });
    drop(reader);
    assert_eq!(drops.load(Ordering::Relaxed), 0, "the reader held them");
    let participant = collector.participant();
    for _ in 0..50 * OBJECTS_MAX {
        retire(&participant.pin(), &drops);
    }
    let waiting = collector.stats().garbage_objects;
    assert!(waiting <= 4 * 4 * OBJECTS_MAX, "{waiting} objects wait in four slots");
}

#[test]
fn steady_retiring_keeps_the_backlog_short() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    for _ in 0..10_000 {
        retire(&collector.pin(), &drops);
    }
    // Two bags ripen while a third is filled.
    assert!(drops.load(Ordering::Relaxed) > 10_000 - 3 * OBJECTS_MAX, "{drops:?}");
}

#[test]
fn box_made_of_used_memory_drops_its_content_once() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    let participant = collector.participant();
    for _ in 0..10_000 {
        let object = participant.new_box(|| Counted(Arc::clone(&drops)));
        // SAFETY: the box was made just now and nobody else has it.
        unsafe { participant.pin().retire_spare(object.as_ptr(), 8) }
    }
    let dropped = drops.load(Ordering::Relaxed);
    assert!((10_000 - 3 * OBJECTS_MAX..10_000).contains(&dropped), "{dropped}");
    drop(participant);
    drop(collector);
    assert_eq!(drops.load(Ordering::Relaxed), 10_000);
}

#[test]
fn more_pins_than_slots_add_slots() {
    let collector = Collector::with_slots(2);
    let guards: Vec<_> = (0..100).map(|_| collector.pin()).collect();
    assert_eq!(collector.stats().pinned, 100);
    drop(guards);
    assert_eq!(collector.stats().pinned, 0);
}

struct Bomb {
    counted: Counted,
    armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.armed, "bomb number {}", self.counted.0.load(Ordering::Relaxed));
    }
}

#[test]
fn panicking_destructor_loses_nothing_else() {
    let collector = Collector::new();
    let drops = Arc::new(AtomicUsize::new(0));
    for number in 0..100 {
        let counted = Counted(Arc::clone(&drops));
        let object = Boxed::leak(Boxed::new(Bomb { counted, armed: number % 5 == 0 })).as_ptr();
        // The guard's own upkeep may meet a bomb.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let guard = collector.pin();
            match number % 2 {
                // SAFETY: the box was made just now and nobody else has it.
                0 => unsafe { guard.retire_box(object, 1) },
                // SAFETY: as above.
                _ => unsafe { guard.retire_spare(object, 8) },
            }
        }));
    }
    for _ in 0..100 {
        let _ = catch_unwind(AssertUnwindSafe(|| collector.collect()));
    }
    assert_eq!(drops.load(Ordering::Relaxed), 100);
    assert_eq!(collector.stats().pinned, 0);
    drop(collector);
}

#[test]
fn bomb_in_the_collectors_own_drop_loses_nothing_else() {
    let drops = Arc::new(AtomicUsize::new(0));
    let collector = Collector::new();
    let guard = collector.pin();
    for number in 0..10 {
        let counted = Counted(Arc::clone(&drops));
        let object = Boxed::leak(Boxed::new(Bomb { counted, armed: number == 5 })).as_ptr();
        // SAFETY: the box was made just now and nobody else has it.
        unsafe { guard.retire_box(object, 1) }
    }
    drop(guard);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(collector))).is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 10);
}

#[test]
fn readers_never_meet_a_freed_object() {
    const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };
    let collector = Collector::with_slots(2);
    let shared = AtomicPtr::new(Boxed::leak(Boxed::new(0_usize)).as_ptr());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let guard = collector.pin();
                    let new = Boxed::leak(Boxed::new(round)).as_ptr();
                    let old = shared.swap(new, Ordering::AcqRel);
                    // SAFETY: swapped out, so no new reader finds it and nobody else has it.
                    unsafe { guard.retire_box(old, 1) }
                }
            });
            scope.spawn(|| {
                let participant = collector.participant();
                for _ in 0..ROUNDS {
                    let _guard = participant.pin();
                    // SAFETY: read under a guard; writers retire what they swap out.
                    let seen = unsafe { *shared.load(Ordering::Acquire) };
                    assert!(seen < ROUNDS, "a freed object was read: {seen}");
                }
            });
        }
    });
    // SAFETY: all threads are done; the last box is still linked and is nobody else's.
    drop(unsafe { Boxed::from_raw(NonNull::new(shared.into_inner()).unwrap()) });
}

//! A clock that other jobs on the machine cannot disturb, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Nanoseconds of processor time that this thread has used.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// Bytes allocated and not freed, as the allocator rounds them.
#[must_use]
pub fn allocated() -> usize {
    // Relaxed: read when nothing else runs.
    ALLOCATED.load(Ordering::Relaxed)
}

/// The system's allocator, counting. Install it with `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// What glibc takes for a request: eight bytes of its own, in steps of sixteen.
const fn rounded(size: usize) -> usize {
    let chunk = (size + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed: a sum and nothing more.
        ALLOCATED.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Relaxed: as in `alloc`.
        ALLOCATED.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

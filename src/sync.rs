//! The one place that names the primitives of concurrency.
//!
//! Every atomic, cell, lock, fence and thread-local of the engine comes from here, so that the
//! model checker can run the shipped files: `loom-tests` puts a module of the same name and shape,
//! backed by loom, in this one's place. `tests/tidy.rs` fails when `std::sync` appears elsewhere.
//!
//! Two things differ from `std` on purpose:
//!
//! 1. [`UnsafeCell`] lends its content through closures, which lets the checker see each access.
//! 2. [`load_owned`] is for whoever is the only one that may store to an atomic (it holds the lock
//!    that guards the stores). Loom skips interleavings when one thread loads and then stores the
//!    same atomic, so under loom such a load must bypass the model.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
};
pub(crate) use std::sync::{Arc, OnceLock};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// Threads: names, joins, yields and sleeps.
pub(crate) mod thread {
    pub(crate) use std::thread::{Builder, JoinHandle, panicking, scope, sleep, yield_now};

    /// The thread that runs this.
    pub(crate) fn current_id() -> std::thread::ThreadId {
        std::thread::current().id()
    }
}

/// A cell whose content is reached by raw pointer inside a closure.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends a pointer for reading. The pointer must not be used after `read` returns.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends a pointer for writing. The pointer must not be used after `write` returns.
    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Loads an atomic that only the caller may store to, because it holds the guarding lock.
macro_rules! load_owned {
    ($atomic:expr) => {
        $atomic.load($crate::sync::Ordering::Relaxed)
    };
}
pub(crate) use load_owned;

/// Whether [`membarrier`] is there for the whole process; decided once.
#[inline]
pub(crate) fn expedited() -> bool {
    static EXPEDITED: OnceLock<bool> = OnceLock::new();
    *EXPEDITED.get_or_init(register_membarrier)
}

#[cfg(all(target_os = "linux", not(miri)))]
fn register_membarrier() -> bool {
    use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};
    membarrier_query().contains(MembarrierQuery::PRIVATE_EXPEDITED)
        && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn register_membarrier() -> bool {
    false
}

/// Makes every running thread of this process pass a full memory barrier. Only if [`expedited`].
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) fn membarrier() {
    use rustix::thread::{MembarrierCommand, membarrier};
    // The kernel may be short of memory for a moment; a refusal that lasts cannot be survived,
    // because readers already rely on this call.
    let accepted = (0..1_000_000).any(|_| {
        membarrier(MembarrierCommand::PrivateExpedited).is_ok() || {
            thread::yield_now();
            false
        }
    });
    assert!(accepted, "the system refuses the memory barrier for which it registered us");
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) fn membarrier() {
    unreachable!("nobody calls this where `expedited` is false");
}

/// A small number that spreads threads over shards: equal for one thread during its life, and
/// usually different for threads that run at the same time.
#[inline]
pub(crate) fn thread_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
    }
    // A thread that is ending has lost its thread-locals; any shard serves it.
    SHARD
        .try_with(|shard| {
            if shard.get() == usize::MAX {
                // Relaxed: the number spreads load and orders nothing.
                shard.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            shard.get()
        })
        .unwrap_or(0)
}

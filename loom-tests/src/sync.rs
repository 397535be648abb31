//! The twin of the engine's `sync`: the same names and shapes, over loom's primitives.

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::sync::atomic::{Ordering, fence};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

/// An atomic of loom's whose loads may be quiet; see [`be_the_only_writer`].
macro_rules! atomics {
    ($($name:ident $(<$parameter:ident>)? = $value:ty;)*) => {
        $(#[derive(Debug)]
        pub(crate) struct $name $(<$parameter>)? (loom::sync::atomic::$name $(<$parameter>)?);

        impl $(<$parameter>)? $name $(<$parameter>)? {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                if QUIET.with(std::cell::Cell::get) {
                    // SAFETY: only this thread stores; loom panics if another one did so unordered.
                    unsafe { self.0.unsync_load() }
                } else {
                    self.0.load(ordering)
                }
            }
        }

        impl $(<$parameter>)? std::ops::Deref for $name $(<$parameter>)? {
            type Target = loom::sync::atomic::$name $(<$parameter>)?;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        })*
    };
}

atomics! {
    AtomicBool = bool;
    AtomicU8 = u8;
    AtomicU16 = u16;
    AtomicU32 = u32;
    AtomicU64 = u64;
    AtomicUsize = usize;
    AtomicPtr<T> = *mut T;
}

impl Default for AtomicU64 {
    fn default() -> Self {
        Self::new(0)
    }
}

loom::thread_local! {
    static QUIET: std::cell::Cell<bool> = std::cell::Cell::new(false);
}

/// For the one role of a model that stores anything: its loads find its own stores, and are kept
/// from loom. Loom remembers only the last access to an atomic; a thread that loads what it is
/// about to store makes it forget the others' loads, and skip their interleavings.
pub(crate) fn be_the_only_writer() {
    QUIET.with(|quiet| quiet.set(true));
}

pub(crate) mod thread {
    pub(crate) use loom::thread::yield_now;
    pub(crate) use std::thread::panicking;
}

/// The models run on one thread, where the compiler cannot reorder across loom's calls.
pub(crate) fn compiler_fence(_: Ordering) {}

/// Fences on both sides: loom knows nothing of `membarrier`.
pub(crate) fn expedited() -> bool {
    false
}

pub(crate) fn membarrier() {
    unreachable!("nobody calls this where `expedited` is false");
}

macro_rules! load_owned {
    ($atomic:expr) => {
        // SAFETY: the caller holds the lock under which alone the atomic is stored to; loom panics
        // if another thread's store is not ordered before.
        unsafe { $atomic.unsync_load() }
    };
}
pub(crate) use load_owned;

/// Like the engine's, without poisoning.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Like the engine's: a condition variable borrows it while it waits.
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only a wait takes it, and gives it back")
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only a wait takes it, and gives it back")
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }
}

/// Like the engine's, for readers who exclude each other, too.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(Mutex<T>);

pub(crate) type RwLockReadGuard<'a, T> = MutexGuard<'a, T>;

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.lock()
    }

    pub(crate) fn write(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Like the engine's, as far as it is used in models.
#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let taken = guard.0.take().expect("only a wait takes it, and gives it back");
        let back = self.0.wait(taken).unwrap_or_else(std::sync::PoisonError::into_inner);
        guard.0 = Some(back);
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

loom::thread_local! {
    static SHARD: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

pub(crate) fn thread_shard() -> usize {
    SHARD.with(std::cell::Cell::get)
}

/// For models: where this thread begins to look for a slot.
pub(crate) fn set_shard(shard: usize) {
    SHARD.with(|cell| cell.set(shard));
}

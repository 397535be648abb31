//! A thread that does one job at an interval, or when it is called.
//!
//! 1. Dropping the handle wakes the thread, lets the job in progress end, and joins.
//! 2. A job that panics ends the thread and nothing else.
//! 3. A call that comes while the job runs is answered by another run.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::thread::{Builder, JoinHandle, current_id};
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering};

/// A running job.
pub(crate) struct Background {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Calls a running job.
#[derive(Clone)]
pub(crate) struct Alarm {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: Mutex<bool>,
    changed: Condvar,
    /// Whether somebody called since the job was last begun.
    is_called: AtomicBool,
}

impl Background {
    /// Starts a named thread that runs `job` every `interval`. `None`, and an event, if the
    /// system has no thread to give.
    pub(crate) fn every(
        name: &str,
        interval: Duration,
        mut job: impl FnMut() + Send + 'static,
    ) -> Option<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            while seen.wait(interval) {
                job();
            }
        });
        match thread {
            Ok(thread) => Some(Self { shared, thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(name, %error, "no thread for background work; call it by hand");
                None
            }
        }
    }

    /// A handle to call the job with.
    pub(crate) fn alarm(&self) -> Alarm {
        Alarm { shared: Arc::clone(&self.shared) }
    }
}

impl Alarm {
    /// Has the job run soon. Costs a load when it was called already.
    pub(crate) fn ring(&self) {
        // Relaxed: a hint; the swap below decides.
        if self.shared.is_called.load(Ordering::Relaxed) {
            return;
        }
        // AcqRel: pairs with the swap in `wait`; the job sees what the caller called it for.
        if !self.shared.is_called.swap(true, Ordering::AcqRel) {
            // Under the lock, so that the thread is not between its look and its sleep.
            drop(self.shared.stop.lock());
            self.shared.changed.notify_all();
        }
    }
}

impl Shared {
    /// Waits for the interval or a call. False when asked to stop.
    fn wait(&self, interval: Duration) -> bool {
        let end = Instant::now().checked_add(interval);
        let mut stop = self.stop.lock();
        // AcqRel: pairs with the swap in `ring`.
        while !*stop && !self.is_called.swap(false, Ordering::AcqRel) {
            match end {
                Some(end) if self.changed.wait_until(&mut stop, end).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut stop),
            }
        }
        !*stop
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.shared.stop.lock() = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            // The last handle may be dropped by the job itself, through a value that holds one.
            && thread.thread().id() != current_id()
            && thread.join().is_err()
        {
            tracing::warn!("background work had panicked");
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}

//! A thread that does one job at an interval.
//!
//! 1. Dropping the handle wakes the thread, lets the job in progress end, and joins.
//! 2. A job that panics ends the thread and nothing else.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::thread::{Builder, JoinHandle, current_id};
use crate::sync::{Arc, Condvar, Mutex};

/// A running job.
pub(crate) struct Background {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Background {
    /// Starts a named thread that runs `job` every `interval`. `None`, and an event, if the
    /// system has no thread to give.
    pub(crate) fn every(
        name: &str,
        interval: Duration,
        mut job: impl FnMut() + Send + 'static,
    ) -> Option<Self> {
        let stop = Arc::new(Stop::default());
        let seen = Arc::clone(&stop);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            while seen.wait(interval) {
                job();
            }
        });
        match thread {
            Ok(thread) => Some(Self { stop, thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(name, %error, "no thread for background work; call it by hand");
                None
            }
        }
    }
}

impl Stop {
    /// Waits for the interval. False when asked to stop.
    fn wait(&self, interval: Duration) -> bool {
        let end = Instant::now().checked_add(interval);
        let mut asked = self.asked.lock();
        while !*asked {
            match end {
                Some(end) if self.changed.wait_until(&mut asked, end).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut asked),
            }
        }
        !*asked
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.stop.asked.lock() = true;
        self.stop.changed.notify_all();
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

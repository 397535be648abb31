//! Writing slowly enough that commits keep their latency.

use std::time::{Duration, Instant};

use crate::sync::thread;

/// Slows a writer down to so many bytes in a second.
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    began: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, began: Instant::now(), bytes: 0 }
    }

    /// Waits until so many bytes more may have been written.
    pub(super) fn after(&mut self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        self.bytes += bytes;
        let due = Duration::from_nanos(self.bytes.saturating_mul(1_000_000_000) / rate.max(1));
        let ahead = due.saturating_sub(self.began.elapsed());
        if !ahead.is_zero() {
            thread::sleep(ahead);
        }
    }
}

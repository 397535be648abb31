//! Writing slowly enough that commits keep their latency.

use std::time::{Duration, Instant};

use crate::sync::thread;

/// A slow writer looks so often whether somebody hurries it.
const SLICE: Duration = Duration::from_millis(20);

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

    /// Waits until so many more bytes are due, or somebody is closing the database.
    pub(super) fn after(&mut self, bytes: u64, is_hurried: impl Fn() -> bool) {
        let Some(rate) = self.bytes_per_second else { return };
        self.bytes += bytes;
        let due = Duration::from_nanos(self.bytes.saturating_mul(1_000_000_000) / rate.max(1));
        while !is_hurried() {
            let ahead = due.saturating_sub(self.began.elapsed());
            if ahead.is_zero() {
                break;
            }
            thread::sleep(ahead.min(SLICE));
        }
    }
}

//! Time as the policies count it.
//!
//! Admissions move it, hits only read it. It is an approximation that nothing but the choice of
//! victims depends on, so all orderings are relaxed: no memory is reached through it.

use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Clock {
    now: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { now: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn tick(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }
}

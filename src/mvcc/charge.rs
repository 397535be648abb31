//! What a transaction takes before it commits, as far as it was counted for limits.
//!
//! ```text
//! private writes ──┐
//!                  ├──► Charge ── a step ahead ──► gauges of the bucket and of the database
//! what was read ───┘
//! ```
//!
//! 1. It is counted without asking, so a transaction goes on where others fill a limit, and they
//!    give way. One that would not fit into a limit that is empty is told.
//! 2. Counted in steps, since a gauge is one number for all threads.
//!
//! Used by workspaces and write sets.

use crate::mvcc::account::{Gauge, Reserved};
use crate::sync::Arc;

/// Bytes that are counted together, or a part of the limit that is, or a quarter of what was
/// counted already.
const STEP: u64 = 16 << 10;
const STEPS: u64 = 256;

/// Bytes of one transaction at the limits of one bucket. Dropping it gives them back.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    reserved: u64,
    reservations: Vec<Reserved>,
}

/// A limit, and bytes of one transaction that it has no room for.
pub(crate) type Excess<'a> = (&'a Arc<Gauge>, u64);

impl Charge {
    /// Counts up to `bytes` in all.
    pub(crate) fn cover(&mut self, bytes: u64, gauges: &[Arc<Gauge>]) {
        if bytes <= self.reserved {
            return;
        }
        let least = gauges.iter().map(|gauge| gauge.limit() / STEPS).min().unwrap_or(0);
        let step = least.min(STEP).max(self.reserved / 4).max(bytes - self.reserved);
        self.reserved += step;
        self.reservations.extend(gauges.iter().map(|gauge| gauge.reserve_anyway(step)));
    }
}

/// Tells of the first limit that is less than `bytes` (keeps 1).
pub(crate) fn fits(bytes: u64, gauges: &[Arc<Gauge>]) -> Result<(), Excess<'_>> {
    gauges.iter().find(|gauge| bytes > gauge.limit()).map_or(Ok(()), |full| Err((full, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charge_grows_by_steps_and_goes_at_once() {
        let gauges = [Arc::new(Gauge::new(256 << 20)), Arc::new(Gauge::new(2560))];
        let mut charge = Charge::default();
        charge.cover(1, &gauges);
        assert_eq!(gauges.each_ref().map(|gauge| gauge.used()), [10, 10], "a part of the least");
        charge.cover(10, &gauges);
        assert_eq!(gauges[0].used(), 10, "covered already");
        charge.cover(1000, &gauges);
        assert_eq!(gauges[0].used(), 1000);
        charge.cover(1001, &gauges);
        assert_eq!(gauges[0].used(), 1250, "by a quarter");
        assert!(fits(2560, &gauges).is_ok());
        let (full, bytes) = fits(2561, &gauges).unwrap_err();
        assert!(Arc::ptr_eq(full, &gauges[1]) && bytes == 2561);
        drop(charge);
        assert_eq!(gauges.each_ref().map(|gauge| gauge.used()), [0, 0]);
    }
}

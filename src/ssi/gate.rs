//! The gate: lets a transaction that failed too often commit without a rival.
//!
//! ```text
//! holder     word = ticket;  heavy();  wait until no slot is committing;  snapshot;  ..  commit
//! committer  slot = committing;  light();  word free or mine?  take heads, certify, link
//!                                          else: slot = not committing, wait, try again
//! ```
//!
//! 1. While a ticket is in the word, no transaction but its holder enters its commit, and those
//!    that entered before have left by the time the holder takes its snapshot. So nothing commits
//!    after that snapshot, and the holder is refused for nothing but its own doing.
//! 2. A ticket says how long others wait for it. Whoever waited that long takes it out, and the
//!    holder goes on without it, as any other transaction.
//! 3. A ticket is used once, so nobody takes out another one than it waited for.
//! 4. Nobody waits for the gate while it holds a version head, and nobody runs user code while
//!    its slot says that it is committing.
//!
//! Read-only transactions never look at the gate. Used by `commit_log`.

use crate::sync::{AtomicU64, Ordering, thread::yield_now};
use crossbeam_utils::CachePadded;
use std::time::{Duration, Instant};

/// How long others wait for the holder of the gate: a power of two of microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(u8);

impl Patience {
    const BITS: u32 = 6;
    /// Whoever meets the gate takes it away at once.
    pub(crate) const NONE: Self = Self(0);
    /// Nobody takes it away.
    pub(crate) const ENDLESS: Self = Self((1 << Self::BITS) - 1);
    /// About a tenth of a second.
    const FIRST: u8 = 17;
    /// About four seconds.
    const LAST: u8 = 22;

    /// For the `nth` time, from zero, that one transaction asks for the gate: twice as long each
    /// time, within bounds.
    pub(crate) fn nth(nth: u32) -> Self {
        Self(u8::try_from(nth).unwrap_or(u8::MAX).saturating_add(Self::FIRST).min(Self::LAST))
    }

    fn duration(self) -> Duration {
        match self {
            Self::NONE => Duration::ZERO,
            Self::ENDLESS => Duration::MAX,
            Self(exponent) => Duration::from_micros(1 << exponent),
        }
    }
}

/// Who holds the gate, and for how long: a serial number above a [`Patience`]. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Ticket {
    fn patience(self) -> Patience {
        let bits = self.0 & ((1 << Patience::BITS) - 1);
        Patience(u8::try_from(bits).expect("six bits fit"))
    }
}

/// The gate of one log.
#[derive(Debug)]
pub(super) struct Gate {
    /// The ticket of the holder, zero if nobody holds the gate. Read by every commit.
    word: CachePadded<AtomicU64>,
    issued: AtomicU64,
    revoked: AtomicU64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(0)),
            issued: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
        }
    }

    /// The ticket in the word, if any.
    #[inline]
    pub(super) fn holder(&self) -> Option<Ticket> {
        // Relaxed: the barriers of the registry see to it that a ticket is seen in time, and what
        // a holder committed is read from the log.
        match self.word.load(Ordering::Relaxed) {
            0 => None,
            raw => Some(Ticket(raw)),
        }
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        // Relaxed: as in `holder`; the heavy barrier in `Registry::drain` follows a closing.
        self.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Waits for the gate and closes it. The caller then drains the registry.
    pub(super) fn close(&self, patience: Patience) -> Ticket {
        // Relaxed: the number is unique and orders nothing.
        let serial = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let ticket = Ticket(serial << Patience::BITS | u64::from(patience.0));
        while !self.exchange(0, ticket.0) {
            if let Some(holder) = self.holder() {
                self.wait(holder);
            }
        }
        ticket
    }

    /// Opens the gate, unless it was taken away.
    pub(super) fn open(&self, ticket: Ticket) {
        self.exchange(ticket.0, 0);
    }

    /// Returns once `ticket` is out of the word, and takes it out after its patience.
    pub(super) fn wait(&self, ticket: Ticket) {
        let since = Instant::now();
        let allowance = ticket.patience().duration();
        while self.holder() == Some(ticket) {
            if since.elapsed() >= allowance {
                if self.exchange(ticket.0, 0) {
                    // Relaxed: a statistic.
                    self.revoked.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            yield_now();
        }
    }

    /// Times the gate was closed, and times it was taken away.
    pub(super) fn counts(&self) -> (u64, u64) {
        // Relaxed: statistics.
        (self.issued.load(Ordering::Relaxed), self.revoked.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_opens_the_gate_only_while_it_is_in_the_word() {
        let gate = Gate::new();
        let first = gate.close(Patience::ENDLESS);
        gate.open(first);
        let second = gate.close(Patience::NONE);
        assert_ne!(first, second);
        gate.open(first);
        gate.wait(first);
        assert_eq!(gate.holder(), Some(second));
        gate.wait(second);
        assert_eq!(gate.holder(), None, "nobody waits for it");
        assert_eq!(gate.counts(), (2, 1));
    }

    #[test]
    fn patience_doubles_within_bounds() {
        assert_eq!(Patience::nth(0).duration(), Duration::from_micros(1 << Patience::FIRST));
        assert_eq!(Patience::nth(1).duration(), Patience::nth(0).duration() * 2);
        assert_eq!(Patience::nth(u32::MAX).duration(), Duration::from_micros(1 << Patience::LAST));
    }
}

//! Where a transaction stands: the word that its pending versions point at.
//!
//! ```text
//! active ──► committed(ts)      set by whoever finds the node linked, before the clock moves
//!    └─────► aborted            set by the owner, before it unlinks its versions
//! ```
//!
//! 1. A status changes once.
//! 2. Its four low address bits are clear, so that a version's stamp can tell it from a timestamp:
//!    it begins a node, which is aligned to more.
//!
//! Written by `node` and `owner`; read by every floor that meets a pending version.

use crate::id::Timestamp;
use crate::sync::{AtomicU64, Ordering};

/// Where a transaction stands, readable by whoever meets one of its pending versions.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Status(AtomicU64);

/// What a [`Status`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Running, or committing without having been ordered as far as anyone knows.
    Active,
    Aborted,
    Committed(Timestamp),
}

impl Status {
    const ACTIVE: u64 = 0;
    const ABORTED: u64 = 1;
    const COMMITTED: u64 = 2;
    const TAG_BITS: u32 = 2;
    const TAGS: u64 = (1 << Self::TAG_BITS) - 1;

    pub(super) fn new(state: State) -> Self {
        const { assert!(Timestamp::BITS + Self::TAG_BITS <= u64::BITS) };
        Self(AtomicU64::new(Self::encode(state)))
    }

    fn encode(state: State) -> u64 {
        match state {
            State::Active => Self::ACTIVE,
            State::Aborted => Self::ABORTED,
            State::Committed(timestamp) => timestamp.get() << Self::TAG_BITS | Self::COMMITTED,
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Release in `set`; whoever sees an outcome sees what led to it.
        let raw = self.0.load(Ordering::Acquire);
        match raw & Self::TAGS {
            Self::ACTIVE => State::Active,
            Self::ABORTED => State::Aborted,
            _ => State::Committed(Timestamp::from_raw(raw >> Self::TAG_BITS)),
        }
    }

    /// The commit timestamp, if there is one. Every commit at or before a snapshot has one by the
    /// time the snapshot is taken, so "none" means "not in my snapshot".
    #[inline]
    pub(crate) fn committed(&self) -> Option<Timestamp> {
        match self.state() {
            State::Committed(timestamp) => Some(timestamp),
            State::Active | State::Aborted => None,
        }
    }

    pub(super) fn set(&self, state: State) {
        // Release: pairs with the Acquire in `state`.
        self.0.store(Self::encode(state), Ordering::Release);
    }
}

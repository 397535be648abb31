//! Poison: the first failure after which nothing more may be written.
//!
//! 1. Once set it stays, and its cause is the first one.
//! 2. The cause is there before the flag says so.

use std::error::Error as StdError;

use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::wal::error::WalError;

/// Whether the log still takes records, and if not, why.
#[derive(Debug)]
pub(super) struct Poison {
    is_set: AtomicBool,
    cause: Mutex<Option<Arc<dyn StdError + Send + Sync>>>,
}

impl Poison {
    pub(super) fn new() -> Self {
        Self { is_set: AtomicBool::new(false), cause: Mutex::new(None) }
    }

    /// Sets it, unless it is set; gives what to tell the caller.
    pub(super) fn set(&self, cause: Arc<dyn StdError + Send + Sync>) -> WalError {
        let mut first = self.cause.lock();
        let cause = Arc::clone(first.get_or_insert(cause));
        // Release: partner of the acquire in `check`.
        self.is_set.store(true, Ordering::Release);
        WalError::Poisoned { cause }
    }

    /// Sets it because the log itself failed.
    pub(super) fn set_by(&self, failure: WalError) -> WalError {
        match failure {
            WalError::Poisoned { .. } => failure,
            failure => self.set(Arc::new(failure)),
        }
    }

    /// Refuses if it is set.
    #[inline]
    pub(super) fn check(&self) -> Result<(), WalError> {
        // Acquire: partner of the release in `set`.
        if !self.is_set.load(Ordering::Acquire) {
            return Ok(());
        }
        let cause = self.cause.lock().clone().expect("the cause comes before the flag");
        Err(WalError::Poisoned { cause })
    }

    pub(super) fn cause(&self) -> Option<Arc<dyn StdError + Send + Sync>> {
        self.cause.lock().clone()
    }
}

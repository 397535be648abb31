//! Running a closure until its transaction commits.
//!
//! ```text
//! attempt 1         at once
//! attempts 2, 3     after a short random wait, so that rivals do not meet again in step
//! attempts 4, ..    at the gate: nobody commits in between, for as long as the others' patience
//!                   lasts; it doubles each time
//! ```
//!
//! 1. A closure that ends in an error of its own is not run again: its transaction saw one
//!    consistent snapshot, so the error is about something that really was.
//! 2. Waiting happens while nothing is held.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::ssi::Patience;
use crate::sync::thread;
use crate::txn::counters::Count;
use crate::txn::engine::Engine;
use crate::txn::options::TransactionOptions;
use crate::txn::transaction::Transaction;

/// The first attempt that is made at the gate.
const GATED_FROM: u32 = 4;

/// Runs `body` in a transaction until it commits, ends in an error of its own, or has been tried
/// as often as the options allow.
pub(crate) fn run<T, E: From<Error>>(
    engine: &Engine,
    options: &TransactionOptions,
    mut body: impl FnMut(&Transaction<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let mut attempt = 1;
    loop {
        // The transaction is no more when its commit is acknowledged, or made anew.
        let (value, outcome) = {
            let mut tx = if attempt < GATED_FROM {
                Transaction::begin(engine, options, false)
            } else {
                Transaction::begin_gated(engine, options, Patience::nth(attempt - GATED_FROM))
            };
            (body(&tx)?, tx.conclude())
        };
        match outcome.and_then(|pledge| engine.acknowledge(pledge)) {
            Ok(_) => return Ok(value),
            Err(error) => decide(engine, options, attempt, error)?,
        }
        attempt += 1;
        if attempt < GATED_FROM {
            wait(attempt);
        }
    }
}

/// Whether to try again after this error.
fn decide(engine: &Engine, options: &TransactionOptions, attempt: u32, error: Error) -> Result<()> {
    let exhausted = options.attempts_max.is_some_and(|max| attempt >= max);
    if exhausted || !error.is_retryable() {
        return Err(error);
    }
    engine.counters().add(Count::Retries, 1);
    Ok(())
}

/// Waits a random while, up to some microseconds, longer before later attempts.
fn wait(attempt: u32) {
    // The clock's low bits differ between rivals that conflicted a moment ago.
    let start = Instant::now();
    let noise = u64::from(start.elapsed().subsec_nanos())
        ^ (std::ptr::from_ref(&start).addr() as u64 >> 4)
        ^ crate::sync::thread_shard() as u64;
    let noise = noise.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    let wait = Duration::from_nanos((noise + 1) << (attempt + 4));
    while start.elapsed() < wait {
        thread::yield_now();
    }
}

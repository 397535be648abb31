//! Defects of durability that others shipped, each as a test that fails on a store that has it.
//!
//! Method: every test is named after what must hold and says, by the number of the list of proven
//! defects, what a peer did instead (F: fluxmap 0.3.7, T: turbokv 0.4, B: btree-store 0.1.0, C:
//! btree-store 2.1). It replays the peer's own scenario, scaled down, on real files, or on the
//! simulated disk where the moment of a crash matters.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "our own names")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use palisade::testing::FaultDisk;
use palisade::{Database, Durability, Error, Options};

#[path = "durable_regressions/btree_store.rs"]
mod btree_store;
#[path = "durable_regressions/fluxmap.rs"]
mod fluxmap;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "durable_regressions/own.rs"]
mod own;
#[path = "durable_regressions/turbokv.rs"]
mod turbokv;

/// Small segments and tables, nothing in the background, nothing slowed down.
fn small() -> Options {
    Options::new()
        .segment_bytes(8 << 10)
        .table_bytes(16 << 10)
        .checkpoint_bytes_per_second(None)
        .threads(false)
}

fn relaxed() -> Options {
    // Nothing is synced before somebody asks.
    small().durability(Durability::Relaxed).flush_after_commits(u64::MAX)
}

/// The options, on a simulated disk.
fn on(disk: &FaultDisk, options: &Options) -> Options {
    options.clone().storage(Arc::new(disk.clone())).seed(1)
}

/// Fails, instead of waiting for ever, if `work` does not end.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    let worker = thread::spawn(move || done.send(work()));
    match outcome.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: not done after {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("it ended without an answer"))
        }
    }
}

/// The paths of a store's files with this ending, by name.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    found.sort();
    found
}

/// Everything a bucket holds, in order.
fn numbers(db: &Database, bucket: &str) -> Vec<(u64, u64)> {
    db.bucket::<u64, u64>(bucket).unwrap().iter().unwrap().collect()
}

/// The error and all its causes.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

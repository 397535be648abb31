//! The threads of a durable database.
//!
//! 1. What they do can be done by hand: `sync`, `checkpoint`. Without them whoever commits syncs
//!    when it is due.
//! 2. What fails in them is told as an event, and tried again later if that can help.

use std::time::{Duration, Instant};

use crate::db::background::Background;
use crate::db::store::Store;
use crate::sync::Arc;
use crate::txn::Engine;

/// How often the log is looked after, at least.
const UPKEEP: Duration = Duration::from_millis(50);
/// How often it is asked whether a checkpoint is due.
const CHECKPOINT: Duration = Duration::from_millis(100);
/// After a checkpoint that failed, the next one waits this long, and twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Store {
    /// Starts the threads that the options ask for.
    pub(in crate::db) fn threads(self: &Arc<Self>, engine: &Arc<Engine>) -> Vec<Background> {
        let upkeep = self.upkeep_thread(engine);
        if let (Some(upkeep), Some(journal)) = (&upkeep, engine.journal()) {
            let alarm = upkeep.alarm();
            journal.on_due(Box::new(move || alarm.ring()));
        }
        upkeep.into_iter().chain(self.checkpoint_thread(engine)).collect()
    }

    /// Syncs what nobody waits for, marks a log at rest, and prepares segments.
    fn upkeep_thread(self: &Arc<Self>, _engine: &Arc<Engine>) -> Option<Background> {
        let store = Arc::clone(self);
        let interval = self.files.flush_interval().unwrap_or(UPKEEP).min(UPKEEP);
        Background::every("palisade-log", interval, move || {
            if store.wal.poison_cause().is_some() {
                return;
            }
            if let Err(error) = store.wal.tick(Instant::now()) {
                tracing::error!(%error, "the log failed");
            }
            loop {
                match store.wal.prepare_spare() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "no segment could be prepared");
                        break;
                    }
                }
            }
        })
    }

    fn checkpoint_thread(self: &Arc<Self>, engine: &Arc<Engine>) -> Option<Background> {
        let (store, engine) = (Arc::clone(self), Arc::clone(engine));
        let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
        Background::every("palisade-checkpoint", CHECKPOINT, move || {
            let is_time = store.files.checkpoint.every.is_some_and(|every| {
                last.elapsed() >= every && store.wal.bytes_since(store.needed()) > 0
            });
            if last.elapsed() < pause || !(is_time || store.is_checkpoint_due()) {
                return;
            }
            if store.wal.poison_cause().is_some() {
                return;
            }
            match store.checkpoint(&engine) {
                Ok(_) => pause = Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint failed; the log stays until one succeeds");
                    pause = (pause * 2).clamp(RETRY, RETRY_MAX);
                }
            }
            last = Instant::now();
        })
    }
}

//! The threads of a durable database.
//!
//! 1. What they do can be done by hand: `sync`, `checkpoint`. Without them whoever commits syncs
//!    when it is due.
//! 2. They end when the last handle, bucket and snapshot of the database goes.
//! 3. What fails in them is told as an event, and tried again later if that can help.

use std::time::{Duration, Instant};

use crate::db::background::Background;
use crate::db::store::Store;
use crate::db::store::due::Due;
use crate::sync::{Arc, Mutex};
use crate::txn::Engine;

/// How often the log is looked after, at least.
const UPKEEP: Duration = Duration::from_millis(50);
/// How often it is asked whether a checkpoint is due.
const CHECKPOINT: Duration = Duration::from_millis(100);
/// After a checkpoint that failed, the next one waits this long, and twice as long each time.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What the engine keeps until its last commit: the threads, and then the store.
#[derive(Debug)]
pub(in crate::db) struct Keeper {
    threads: Mutex<Vec<Background>>,
    pub(in crate::db) store: Arc<Store>,
}

impl Keeper {
    pub(in crate::db) fn new(store: Store) -> Self {
        Self { threads: Mutex::default(), store: Arc::new(store) }
    }

    /// Has commits that need room call for a checkpoint.
    pub(in crate::db) fn watch(&self, engine: &Arc<Engine>) {
        let Some(journal) = engine.journal() else { return };
        // Weak: the engine keeps the journal.
        let (store, engine) = (Arc::clone(&self.store), Arc::downgrade(engine));
        journal.on_short(Box::new(move || {
            engine.upgrade().is_some_and(|engine| store.save_for_room(&engine))
        }));
    }

    /// Starts the threads.
    pub(in crate::db) fn start(&self, engine: &Arc<Engine>) {
        let upkeep = self.store.upkeep_thread();
        if let (Some(upkeep), Some(journal)) = (&upkeep, engine.journal()) {
            let alarm = upkeep.alarm();
            journal.on_due(Box::new(move || alarm.ring()));
        }
        let checkpoint = self.store.checkpoint_thread(engine);
        self.threads.lock().extend(upkeep.into_iter().chain(checkpoint));
    }

    /// Sees to it that no thread holds the engine when the last handle of the database lets go of
    /// it: then whoever drops that has the directory free afterwards.
    pub(in crate::db) fn let_go(&self, engine: &Arc<Engine>) {
        self.store.hurry(true);
        drop(self.store.at_work.lock());
        // Buckets and snapshots may live on, and the checkpoints with them.
        self.store.hurry(Arc::strong_count(engine) == 1);
    }

    /// Ends the threads.
    pub(in crate::db) fn stop(&self) {
        self.store.hurry(true);
        let threads = std::mem::take(&mut *self.threads.lock());
        drop(threads);
    }
}

impl Store {
    /// Syncs what nobody waits for, marks a log at rest, and prepares segments.
    fn upkeep_thread(self: &Arc<Self>) -> Option<Background> {
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
        // Weak: the engine keeps this thread, and ends it.
        let (store, engine) = (Arc::clone(self), Arc::downgrade(engine));
        let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
        Background::every("palisade-checkpoint", CHECKPOINT, move || {
            let is_time = store.files.checkpoint.every.is_some_and(|every| {
                last.elapsed() >= every && store.wal.bytes_since(store.needed()) > 0
            });
            if last.elapsed() < pause || store.wal.poison_cause().is_some() {
                return;
            }
            let _at_work = store.at_work.lock();
            if store.is_hurried() {
                return;
            }
            let Some(engine) = engine.upgrade() else { return };
            let due = if is_time { Some(Due::Checkpoint) } else { store.due(&engine) };
            let done = match due {
                None => return,
                Some(Due::Checkpoint) => store.checkpoint(&engine).map(drop),
                Some(Due::Save) => store.save(&engine),
            };
            match done {
                Ok(()) => pause = Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "a checkpoint failed; the log stays until one succeeds");
                    pause = (pause * 2).clamp(RETRY, RETRY_MAX);
                }
            }
            last = Instant::now();
        })
    }
}

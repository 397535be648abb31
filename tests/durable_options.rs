//! The options of durable databases: each does what it says, with threads and without.
//!
//! Method: what is durable and which files there are is read from the statistics and the simulated
//! disk. What threads do is waited for, with a limit after which the test fails. The tests run one
//! after the other, because one of them counts the threads of the process.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "our own names")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use palisade::testing::FaultDisk;
use palisade::{Bucket, Database, Durability, Error, Options, RecoveryStep};

/// How long threads may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(100_000);

type Store = Bucket<u64, Vec<u8>>;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on(disk: &FaultDisk, options: &Options) -> Options {
    options.clone().storage(Arc::new(disk.clone())).seed(1).segment_bytes(64 << 10)
}

fn relaxed() -> Options {
    Options::new().durability(Durability::Relaxed)
}

fn open(options: &Options) -> (FaultDisk, Database, Store) {
    let disk = FaultDisk::new(1);
    let db = on(&disk, options).open("/db").unwrap();
    let store = db.bucket("entries").unwrap();
    (disk, db, store)
}

fn is_durable(db: &Database) -> bool {
    let log = db.stats().log.unwrap();
    log.durable == log.position
}

fn has_tables(disk: &FaultDisk) -> bool {
    disk.paths().iter().any(|path| path.ends_with(".tab"))
}

/// Waits for what a thread is to do.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn log_is_synced_after_so_many_bytes() {
    let _alone = alone();
    let (_disk, db, store) = open(&relaxed().threads(false).flush_after_bytes(5000));
    db.sync().unwrap();
    let mut synced = Vec::new();
    for n in 0..20 {
        store.insert(n, vec![1; 1000]).unwrap();
        synced.push(is_durable(&db));
    }
    let due = |n: usize| n % 5 == 4;
    assert!(synced.iter().enumerate().all(|(n, &is)| is == due(n)), "every fifth: {synced:?}");
}

#[test]
fn log_is_synced_by_a_thread_when_one_of_the_conditions_holds() {
    let _alone = alone();
    for (options, commits) in [
        (relaxed().flush_interval(Duration::from_millis(5)), 1),
        (relaxed().flush_interval(NEVER).flush_after_commits(3), 3),
        (relaxed().flush_interval(NEVER).flush_after_bytes(2000), 2),
        (relaxed(), 1),
    ] {
        let (_disk, db, store) = open(&options);
        db.sync().unwrap();
        let commit = |n: u64| {
            let tx = db.begin();
            tx.insert(&store, n, vec![1; 1000]).unwrap();
            tx.commit().unwrap().position().unwrap()
        };
        let last = (0..commits).fold(None, |_, n| Some(commit(n))).unwrap();
        wait_until("a sync", || db.stats().log.unwrap().durable >= last);
    }
    // Without any condition that comes true nothing is synced that nobody waits for.
    let (_disk, db, store) = open(&relaxed().flush_interval(NEVER).flush_after_commits(1000));
    let before = db.stats().log.unwrap().syncs;
    for n in 0..100 {
        store.insert(n, vec![1; 10]).unwrap();
    }
    thread::sleep(Duration::from_millis(150));
    assert_eq!(db.stats().log.unwrap().syncs, before);
}

#[test]
fn checkpoints_come_by_bytes_of_the_log_and_by_time() {
    let _alone = alone();
    let eager = Options::new().checkpoint_after(64 << 10, 0);
    let (disk, db, store) = open(&eager);
    store.insert(0, vec![1; 1000]).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(!has_tables(&disk), "a short log is no reason");
    for n in 0..100 {
        store.insert(n, vec![1; 1000]).unwrap();
    }
    wait_until("a checkpoint after 64 KiB", || has_tables(&disk));
    wait_until("the log to be let go", || db.stats().log.unwrap().segments == 1);

    let timed = Options::new().checkpoint_every(Duration::from_millis(20));
    let (disk, _db, store) = open(&timed);
    store.insert(0, vec![1; 10]).unwrap();
    wait_until("a checkpoint after 20 ms", || has_tables(&disk));
}

/// A checkpoint is due when the log is as large as the part of the data that was asked for.
#[test]
fn checkpoints_wait_for_a_part_of_the_data() {
    let _alone = alone();
    let (disk, db, store) = open(&Options::new().threads(false));
    for n in 0..400 {
        store.insert(n, vec![1; 1000]).unwrap();
    }
    db.checkpoint().unwrap();
    drop((db, store));
    let db = on(&disk, &Options::new().checkpoint_after(0, 50)).open("/db").unwrap();
    let store: Store = db.bucket("entries").unwrap();
    let tables = || disk.paths().into_iter().filter(|path| path.ends_with(".tab"));
    let before: Vec<_> = tables().collect();
    // A tenth of the data, and some time in which a thread would have noticed.
    for n in 0..40 {
        store.insert(n, vec![2; 1000]).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(tables().collect::<Vec<_>>(), before);
    for n in 0..200 {
        store.insert(n, vec![3; 1000]).unwrap();
    }
    wait_until("a checkpoint", || tables().collect::<Vec<_>>() != before);
}

/// Names of the threads of this process that are a database's, as the system shows them.
#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        // A thread that has ended meanwhile has no name.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    let mut names: Vec<_> = names.filter(|name| name.starts_with("palisade")).collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_there_if_asked_for_and_end_with_the_database() {
    let _alone = alone();
    assert_eq!(threads(), Vec::<String>::new());
    let (_disk, db, store) = open(&Options::new());
    wait_until("two threads", || threads().len() == 2);
    assert_eq!(threads(), ["palisade-checkp\n", "palisade-log\n"]);
    drop((db, store));
    // They were waited for; the system may take a moment to clear them away.
    wait_until("none", || threads().is_empty());
    let (_disk, _db, store) = open(&relaxed().threads(false));
    store.insert(1, vec![1]).unwrap();
    assert_eq!(threads(), Vec::<String>::new());
}

#[test]
fn database_in_memory_has_no_files_and_nothing_to_wait_for() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let in_memory = Options::new().durability(Durability::InMemory);
    let refused = in_memory.open(folder.path().join("db"));
    assert!(matches!(refused, Err(Error::InMemory)), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    for life in 0..2 {
        let db = in_memory.in_memory();
        let store: Store = db.bucket("entries").unwrap();
        assert!(store.is_empty().unwrap(), "life {life}: all gone");
        let tx = db.begin();
        tx.insert(&store, 1, vec![1]).unwrap();
        let receipt = tx.commit().unwrap();
        assert_eq!(store.get(&1).unwrap(), Some(vec![1]), "visible");
        assert_eq!(receipt.position(), None);
        db.wait_durable(&receipt).unwrap();
        db.sync().unwrap();
        assert_eq!(db.checkpoint().unwrap().tables, 0);
        assert!(db.stats().log.is_none());
        db.close().unwrap();
    }
}

/// The log and each bucket that is opened, step by step, and the end of each.
#[test]
fn recovery_tells_how_far_it_is() {
    let _alone = alone();
    let (disk, db, store) = open(&relaxed().threads(false));
    for start in (0..110_000).step_by(1000) {
        db.write(|tx| {
            (start..start + 1000).try_for_each(|n| tx.insert(&store, n, vec![1; 8]).map(drop))
        })
        .unwrap();
    }
    db.checkpoint().unwrap();
    for n in 110_000..135_000 {
        store.insert(n, vec![1; 8]).unwrap();
    }
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let options = relaxed().threads(false).on_recovery(move |step| told.lock().unwrap().push(step));
    let left = disk.kill(1);
    let db = on(&left, &options).open("/db").unwrap();
    let steps = || std::mem::take(&mut *steps.lock().unwrap());
    let log: Vec<_> = steps()
        .into_iter()
        .map(|step| match step {
            RecoveryStep::Log { commits, bytes } if bytes >= commits * 8 => commits,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(log, [10_000, 20_000, 25_000]);
    db.bucket::<u64, Vec<u8>>("entries").unwrap();
    let mut bucket: Vec<_> = steps()
        .into_iter()
        .map(|step| match step {
            RecoveryStep::Bucket { name, done, total: 135_000 } if &*name == "entries" => done,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bucket.last(), Some(&135_000), "the end is told last");
    // Threads may tell of what they did in another order.
    bucket.sort_unstable();
    assert!(bucket.len() == 3 && bucket[0] >= 50_000 && bucket[1] >= 100_000, "{bucket:?}");
}

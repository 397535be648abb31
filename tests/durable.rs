//! Durable databases: what was committed is there after the next opening, and what a reader is
//! shown meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use palisade::testing::{Fault, FaultDisk, Moment};
use palisade::{Bucket, Database, Durability, Error, Options, TransactionOptions, WalError};
use tempfile::tempdir;

#[test]
fn what_was_committed_is_there_after_a_clean_close() {
    let folder = tempdir().unwrap();
    let db = Database::open(folder.path()).unwrap();
    let words = db.bucket::<String, u64>("words").unwrap();
    for n in 0..1000_u64 {
        words.insert(format!("word {n}"), n).unwrap();
    }
    words.remove("word 7").unwrap();
    drop(words);
    db.close().unwrap();

    let (db, recovery) = Options::new().recover(folder.path()).unwrap();
    assert!(recovery.was_closed && !recovery.is_new, "{recovery:?}");
    let words = db.bucket::<String, u64>("words").unwrap();
    assert_eq!(words.len().unwrap(), 999);
    assert_eq!(words.get("word 7").unwrap(), None);
    assert_eq!(words.get("word 8").unwrap(), Some(8));
}

#[test]
fn checkpoints_carry_what_the_log_lets_go() {
    let folder = tempdir().unwrap();
    let options = Options::new().durability(Durability::Relaxed).segment_bytes(64 << 10);
    for life in 0..4_u64 {
        let db = options.open(folder.path()).unwrap();
        let numbers = db.bucket::<u64, Vec<u8>>("numbers").unwrap();
        assert_eq!(numbers.len().unwrap() as u64, life * 900);
        for n in 0..1000 {
            numbers.insert(life * 1000 + n, vec![7; 200]).unwrap();
            if n % 10 == 3 {
                numbers.remove(&(life * 1000 + n)).unwrap();
            }
        }
        let checkpointed = db.checkpoint().unwrap();
        assert!(checkpointed.tables > 0, "{checkpointed:?}");
        if life == 2 {
            // Not opened in this life: its log must not be lost by a checkpoint.
            drop(numbers);
            drop(db);
            let db = options.open(folder.path()).unwrap();
            db.bucket::<u8, u8>("other").unwrap().insert(1, 2).unwrap();
            db.checkpoint().unwrap();
        }
    }
    let db = options.open(folder.path()).unwrap();
    assert_eq!(db.bucket::<u64, Vec<u8>>("numbers").unwrap().len().unwrap(), 3600);
    assert_eq!(db.bucket::<u8, u8>("other").unwrap().get(&1).unwrap(), Some(2));
}

#[test]
fn second_handle_and_other_types_are_refused() {
    let folder = tempdir().unwrap();
    let db = Database::open(folder.path()).unwrap();
    db.bucket::<u64, String>("a").unwrap();
    let second = Database::open(folder.path());
    assert!(matches!(second, Err(Error::AlreadyOpen { .. })), "{second:?}");
    db.close().unwrap();
    let db = Database::open(folder.path()).unwrap();
    let wrong = db.bucket::<u64, u64>("a");
    assert!(matches!(wrong, Err(Error::TypeMismatch { .. })), "{wrong:?}");
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "bucket \"a\" holds u64 to string, and was opened as u64 to u64"
    );
}

/// A disk in memory, a database on it that has no threads, and a bucket with one entry.
fn simulated(options: &Options) -> (FaultDisk, Options, Database, Bucket<u64, u64>) {
    let disk = FaultDisk::new(1);
    let options = options.clone().storage(Arc::new(disk.clone())).threads(false).seed(1);
    let db = options.open("/db").expect("the disk is empty and sound");
    let bucket = db.bucket("entries").expect("the name is free");
    bucket.insert(1, 10).expect("the disk is sound");
    (disk, options, db, bucket)
}

/// While a commit waits for its sync, transactions build on it already; a snapshot is taken at once
/// and does not show it.
#[test]
fn snapshots_show_nothing_that_is_not_durable() {
    let (disk, _, db, bucket) = simulated(&Options::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, reader, entries) = (Arc::clone(&seen), db.clone(), bucket.clone());
    disk.observe(move |_, call, moment| {
        if moment == Moment::During && call.op.is_sync() {
            let snapshot = reader.snapshot().get(&entries, &1).unwrap().copied();
            let tx = reader.begin();
            log.lock().unwrap().push((
                snapshot,
                entries.get(&1).unwrap(),
                tx.get(&entries, &1).unwrap().copied(),
            ));
        }
    });
    bucket.insert(1, 11).unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen, [(Some(10), Some(10), Some(11))]);
    assert_eq!(db.snapshot().get(&bucket, &1).unwrap(), Some(&11));
    disk.observe(|_, _, _| ());
}

/// A transaction that read what is not durable yet returns when it is, although it wrote nothing.
#[test]
fn whoever_saw_an_unconfirmed_commit_waits_with_it() {
    let (disk, _, db, bucket) = simulated(&Options::new());
    let has_returned = Arc::new(AtomicBool::new(false));
    let threads = Arc::new(Mutex::new(Vec::new()));
    let (flag, started) = (Arc::clone(&has_returned), Arc::clone(&threads));
    let (reader, entries) = (db.clone(), bucket.clone());
    disk.observe(move |_, call, moment| {
        if moment != Moment::During || !call.op.is_sync() || !started.lock().unwrap().is_empty() {
            return;
        }
        let (flag, reader, entries) = (Arc::clone(&flag), reader.clone(), entries.clone());
        let (seen, has_seen) = mpsc::channel();
        let thread = {
            let flag = Arc::clone(&flag);
            thread::spawn(move || {
                let tx = reader.begin();
                seen.send(tx.get(&entries, &1).unwrap().copied()).unwrap();
                tx.commit().unwrap();
                flag.store(true, Ordering::SeqCst);
            })
        };
        assert_eq!(has_seen.recv().unwrap(), Some(11));
        for _ in 0..200 {
            thread::sleep(Duration::from_micros(100));
            assert!(!flag.load(Ordering::SeqCst), "the sync is still running");
        }
        started.lock().unwrap().push(thread);
    });
    bucket.insert(1, 11).unwrap();
    for thread in std::mem::take(&mut *threads.lock().unwrap()) {
        thread.join().unwrap();
    }
    assert!(has_returned.load(Ordering::SeqCst));
    disk.observe(|_, _, _| ());
}

/// A checkpoint writes down what the log says about a bucket that nobody has opened. If the bucket
/// is opened while the checkpoint goes on, that note is still needed.
#[test]
fn bucket_that_is_opened_beside_a_checkpoint_keeps_its_delta() {
    let (disk, options, db, bucket) = simulated(&Options::new());
    let other = db.bucket::<u64, u64>("other").unwrap();
    other.insert(5, 50).unwrap();
    drop((other, bucket, db));

    let db = options.open("/db").unwrap();
    let bucket = db.bucket::<u64, u64>("entries").unwrap();
    bucket.insert(2, 20).unwrap();
    // The checkpoint writes the delta of "other" first, and then the table of "entries".
    let opener = db.clone();
    let tables = AtomicU64::new(0);
    disk.observe(move |_, call, moment| {
        let is_table = call.path.contains("tab-") && call.op.is_sync();
        if moment == Moment::During && is_table && tables.fetch_add(1, Ordering::SeqCst) == 1 {
            let opener = opener.clone();
            let found = thread::spawn(move || opener.bucket::<u64, u64>("other")?.get(&5));
            assert_eq!(found.join().unwrap().unwrap(), Some(50));
        }
    });
    assert_eq!(db.checkpoint().unwrap().tables, 1, "the delta does not count");
    disk.observe(|_, _, _| ());
    drop((bucket, db));

    let db = options.open("/db").unwrap();
    assert_eq!(db.bucket::<u64, u64>("other").unwrap().get(&5).unwrap(), Some(50));
}

/// After a failed sync nobody writes, everybody reads what had been confirmed, and the next
/// opening finds a prefix.
#[test]
fn failed_sync_ends_writing_and_not_reading() {
    let (disk, options, db, bucket) = simulated(&Options::new());
    disk.fail_at(disk.calls() + 2, Fault::Io);
    let failed = bucket.insert(1, 11).unwrap_err();
    assert!(matches!(failed, Error::Log(WalError::Poisoned { .. })), "{failed:?}");
    assert_eq!(bucket.get(&1).unwrap(), Some(10));
    assert_eq!(db.snapshot().get(&bucket, &1).unwrap(), Some(&10));
    let refused = bucket.insert(2, 20).unwrap_err();
    assert!(matches!(refused, Error::Log(WalError::Poisoned { .. })), "{refused:?}");
    assert!(matches!(db.checkpoint(), Err(Error::Log(_))));
    assert!(matches!(db.bucket::<u64, u64>("more"), Err(Error::Log(_))));
    assert!(db.stats().log.unwrap().failure.is_some());
    drop((bucket, db));

    let db = options.open("/db").unwrap();
    let bucket = db.bucket::<u64, u64>("entries").unwrap();
    let found = bucket.get(&1).unwrap();
    assert!(found == Some(10) || found == Some(11), "{found:?}");
    bucket.insert(3, 30).unwrap();
}

/// A relaxed database syncs when it is told to, for the transaction that asks for it, or after so
/// many commits.
#[test]
fn relaxed_commits_become_durable_when_asked_or_due() {
    let options = Options::new().durability(Durability::Relaxed).flush_after_commits(5);
    let (_disk, _, db, bucket) = simulated(&options);
    let is_durable = || {
        let log = db.stats().log.unwrap();
        log.durable == log.position
    };
    db.sync().unwrap();
    assert!(is_durable());
    let tx = db.begin();
    tx.insert(&bucket, 2, 20).unwrap();
    let receipt = tx.commit().unwrap();
    assert!(!is_durable());
    db.wait_durable(&receipt).unwrap();
    assert!(is_durable());
    let full = TransactionOptions::new().durability(Durability::Full);
    db.write_with(&full, |tx| tx.insert(&bucket, 3, 30).map(drop)).unwrap();
    assert!(is_durable());
    for n in 0..5 {
        assert_eq!(is_durable(), n == 0, "{n}");
        bucket.insert(n, 0).unwrap();
    }
    assert!(is_durable(), "the fifth commit was due");
}

#[test]
fn closed_database_reads_and_refuses_to_write() {
    let (_disk, _, db, bucket) = simulated(&Options::new());
    let volatile = db.volatile_bucket::<u64, &str>("words").unwrap();
    db.clone().close().unwrap();
    assert_eq!(bucket.get(&1).unwrap(), Some(10));
    assert!(matches!(bucket.insert(1, 2), Err(Error::Closed)));
    assert!(matches!(db.bucket::<u64, u64>("more"), Err(Error::Closed)));
    volatile.insert(1, "one").unwrap();
    assert!(matches!(db.drop_bucket("entries"), Err(Error::Closed)));
    db.close().unwrap();
}

/// Durable and volatile buckets share their names and their transactions.
#[test]
fn volatile_buckets_are_empty_after_every_opening() {
    let (_disk, options, db, bucket) = simulated(&Options::new());
    let volatile = db.volatile_bucket::<u64, &str>("words").unwrap();
    db.write(|tx| {
        tx.insert(&bucket, 5, 50)?;
        tx.insert(&volatile, 5, "five")?;
        Ok(())
    })
    .unwrap();
    assert!(matches!(
        db.volatile_bucket::<u64, u64>("entries"),
        Err(Error::OtherPersistence { .. })
    ));
    assert!(matches!(db.bucket::<u64, u64>("words"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(db.rename_bucket("words", "entries"), Err(Error::BucketExists { .. })));
    db.rename_bucket("entries", "numbers").unwrap();
    drop((bucket, volatile));
    db.close().unwrap();

    let db = options.open("/db").unwrap();
    assert_eq!(db.buckets().len(), 1);
    assert_eq!(db.bucket::<u64, u64>("numbers").unwrap().get(&5).unwrap(), Some(50));
    assert!(db.volatile_bucket::<u64, &str>("words").unwrap().is_empty().unwrap());
    assert!(db.drop_bucket("numbers").unwrap());
    drop(db);
    let db = options.open("/db").unwrap();
    assert!(db.buckets().is_empty());
}

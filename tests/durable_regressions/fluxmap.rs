//! What fluxmap 0.3.7 did: F17 to F25, F30, F32, F34, F35.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use palisade::testing::{Call, FaultDisk, Moment, Op};
use palisade::{Database, Durability, Error, Options, WalError};
use tempfile::tempdir;

use super::ledger::Ledger;
use super::{files, numbers, on, relaxed, small, whole, within};

/// F17: a restarted writer began again at segment 0, offset 0, and overwrote the log: of four
/// sessions with 500 inserts each, every one kept only the session before.
#[test]
fn restart_goes_on_behind_the_log() {
    for options in [small(), relaxed()] {
        let folder = tempdir().unwrap();
        for session in 0..4 {
            let db = options.open(folder.path()).unwrap();
            let bucket = db.bucket::<u64, u64>("b").unwrap();
            let before: Vec<_> = (0..session * 500).map(|n| (n, n)).collect();
            assert_eq!(numbers(&db, "b"), before, "session {session}");
            for n in session * 500..(session + 1) * 500 {
                bucket.insert(n, n).unwrap();
            }
        }
        let db = options.open(folder.path()).unwrap();
        assert_eq!(numbers(&db, "b").len(), 2000);
    }
}

/// F18: a replay could not see its own inserts, so it applied no delete: insert a, remove a,
/// reopen, and a was there.
#[test]
fn deletes_survive_a_restart() {
    for with_checkpoint in [false, true] {
        let disk = FaultDisk::new(18);
        let options = on(&disk, &small());
        let db = options.open("store").unwrap();
        let bucket = db.bucket::<u64, u64>("b").unwrap();
        bucket.insert(1, 1).unwrap();
        bucket.insert(2, 2).unwrap();
        if with_checkpoint {
            db.checkpoint().unwrap();
        }
        bucket.remove(&1).unwrap();
        // A crash, so that the log is what tells.
        let after = on(&disk.crash(1), &small()).open("store").unwrap();
        assert_eq!(numbers(&after, "b"), [(2, 2)]);
        // And once more from what the next checkpoint makes of it.
        after.checkpoint().unwrap();
        drop(after);
        drop(bucket);
        drop(db);
        let db = options.open("store").unwrap();
        db.checkpoint().unwrap();
        assert_eq!(numbers(&db, "b"), [(2, 2)]);
    }
}

/// F19: recovery read the segments in the order of their times of change, which preallocation had
/// touched: 1 300 inserts came back as 1 188, and of 50 keys updated 1 900 times all were stale.
#[test]
fn order_of_the_log_is_not_that_of_file_times() {
    let folder = tempdir().unwrap();
    for (life, (inserts, updates)) in [(1300, 0), (0, 1900), (1200, 1700)].into_iter().enumerate() {
        let store = folder.path().join(life.to_string());
        let db = small().durability(Durability::Relaxed).open(&store).unwrap();
        let bucket = db.bucket::<u64, u64>("b").unwrap();
        for n in 0..inserts {
            bucket.insert(n, n).unwrap();
        }
        for n in 0..updates {
            bucket.insert(n % 50, 1_000_000 + n).unwrap();
        }
        let expected = numbers(&db, "b");
        drop(bucket);
        // A clean end, too; only `close` tidies the files first.
        drop(db);
        let segments = files(&store, "log");
        assert!(segments.len() > 4, "several segments, or there is no order to lose");
        for (age, path) in (1..).zip(&segments) {
            // The newest looks oldest.
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - 1000 * age);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let db = small().open(&store).unwrap();
        assert!(numbers(&db, "b") == expected, "life {life}");
        if let Some(key) = (updates > 0).then_some(49) {
            let newest = db.bucket::<u64, u64>("b").unwrap().get(&key).unwrap();
            assert_eq!(newest, Some(1_000_000 + updates - 1));
        }
    }
}

/// F20: the place in the log was read before the lock and advanced after it, so commits overwrote
/// each other: with two threads 35 of 1 000 acknowledged commits came back at full durability, and
/// 42 of 10 000 at the relaxed one.
#[test]
fn concurrent_commits_each_have_a_place_in_the_log() {
    for (options, each) in [(small(), 250), (relaxed(), 2500)] {
        let disk = FaultDisk::new(20);
        let db = on(&disk, &options).open("store").unwrap();
        let bucket = db.bucket::<u64, u64>("b").unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let bucket = &bucket;
                scope.spawn(move || {
                    for n in 0..each {
                        bucket.insert(thread * 1_000_000 + n, n).unwrap();
                    }
                });
            }
        });
        // The process dies; at full durability the power may go, too.
        let is_full = each == 250;
        let left = if is_full { disk.crash(1) } else { disk.kill(1) };
        let after = on(&left, &options).open("store").unwrap();
        assert_eq!(numbers(&after, "b").len() as u64, 4 * each);
        assert!(numbers(&after, "b") == numbers(&db, "b"));
    }
}

/// F21: nothing in the log had a checksum: with one bit flipped the store opened, with a wrong
/// value in it, or silently without the rest.
#[test]
fn flipped_bits_in_the_log_are_told_by_file_and_place() {
    let disk = FaultDisk::new(21);
    let db = on(&disk, &small()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for _ in 0..30 {
        ledger.add(100).unwrap();
    }
    drop(ledger);
    db.close().unwrap();
    let is_log = |path: &String| path.ends_with(".log");
    let first = disk.paths().into_iter().find(is_log).unwrap();
    let (mut told, mut unharmed) = (0, 0);
    for bit in (0..8 * 8192).step_by(61) {
        let damaged = disk.kill(1);
        assert!(damaged.flip_bit(Path::new(&first), bit));
        match on(&damaged, &small()).open("store") {
            Ok(db) => {
                // A place that holds nothing: all is as it was, to the last commit.
                assert_eq!(Ledger::open(&db).unwrap().check(), 30, "bit {bit} of {first}");
                unharmed += 1;
            }
            Err(Error::Log(WalError::MissingSegment { segment, .. })) => {
                // Its link is gone, and with it the log's beginning.
                assert!(first.contains(&segment), "bit {bit}: {segment}");
                told += 1;
            }
            Err(Error::Log(error)) => {
                let text = error.to_string();
                assert!(text.contains(first.as_str()), "bit {bit}: {text}");
                told += 1;
            }
            Err(other) => panic!("bit {bit}: {}", whole(&other)),
        }
    }
    assert!(told > 300 && unharmed > 100, "{told} were told of, {unharmed} did no harm");
}

/// F22: a snapshot that could not be read was ignored: with its last byte gone the store opened
/// with 154 of 1 000 keys.
#[test]
fn damaged_checkpoint_is_never_ignored() {
    let disk = FaultDisk::new(22);
    let db = on(&disk, &small()).open("store").unwrap();
    let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
    for n in 0..1000 {
        bucket.insert(n, vec![1; 50]).unwrap();
    }
    db.checkpoint().unwrap();
    drop(bucket);
    db.close().unwrap();
    let files = disk.paths().into_iter().filter(|path| !path.ends_with(".log"));
    let files: Vec<_> = files.filter(|path| !path.ends_with("LOCK")).collect();
    assert!(files.len() > 3, "a manifest and some tables: {files:?}");
    for file in &files {
        let length = disk.content(Path::new(file)).unwrap().len();
        for kept in [length - 1, length / 2, 0] {
            let damaged = disk.kill(1);
            damaged.truncate(Path::new(file), kept);
            let opened = on(&damaged, &small()).open("store");
            let outcome = opened.and_then(|db| db.bucket::<u64, Vec<u8>>("b")?.len());
            let error = outcome.expect_err("a part of the data is gone");
            let is_told = matches!(error, Error::Checkpoint(_)) && whole(&error).contains(file);
            assert!(is_told, "{file} cut to {kept}: {}", whole(&error));
        }
    }
}

/// F23: a record larger than a segment rotated for ever, a pool of one segment waited for itself,
/// and a pool of none panicked.
#[test]
fn record_may_be_larger_than_a_segment_of_any_size() {
    for segment_bytes in [0, 1, 8 << 10, 1 << 20] {
        within(Duration::from_secs(60), move || {
            let folder = tempdir().unwrap();
            let options = small().segment_bytes(segment_bytes);
            let db = options.open(folder.path()).unwrap();
            let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
            for n in 0..3 {
                bucket.insert(n, vec![7; 2_000_000]).unwrap();
                bucket.insert(10 + n, vec![8; 10]).unwrap();
            }
            drop((bucket, db));
            let db = options.open(folder.path()).unwrap();
            let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
            assert_eq!(bucket.len().unwrap(), 6);
            assert_eq!(bucket.get(&2).unwrap(), Some(vec![7; 2_000_000]));
        });
    }
}

/// F24: dropping a database hung for ever when only a number of commits was set for the flush, and
/// otherwise waited until the intervals of its threads were over.
#[test]
fn drop_waits_for_no_interval() {
    let hour = Duration::from_secs(3600);
    let relaxed = || Options::new().segment_bytes(64 << 10).durability(Durability::Relaxed);
    let cases = [
        relaxed().flush_after_commits(1_000_000),
        relaxed().flush_interval(hour),
        relaxed().flush_interval(hour).vacuum_every(hour).checkpoint_every(hour),
        relaxed().checkpoint_after(0, 0).checkpoint_bytes_per_second(Some(1000)),
    ];
    for (case, options) in cases.into_iter().enumerate() {
        within(Duration::from_secs(60), move || {
            let folder = tempdir().unwrap();
            let db = options.open(folder.path()).unwrap();
            let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
            for n in 0..200 {
                bucket.insert(n, vec![1; 500]).unwrap();
            }
            // Long enough for the threads to fall asleep, or to begin a slow checkpoint.
            thread::sleep(Duration::from_millis(300));
            drop(bucket);
            let began = Instant::now();
            drop(db);
            assert!(began.elapsed() < Duration::from_secs(10), "{case}: {:?}", began.elapsed());
            let db = options.open(folder.path()).unwrap();
            assert_eq!(db.bucket::<u64, Vec<u8>>("b").unwrap().len().unwrap(), 200);
        });
    }
}

/// F25, the first half: each rotated segment had everything written again, 61 to 105 s for 50 000
/// inserts of 100 bytes.
#[test]
fn checkpoints_write_a_bounded_multiple_of_what_was_logged() {
    let disk = FaultDisk::new(25);
    let (log, tables) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen_log, seen_tables) = (Arc::clone(&log), Arc::clone(&tables));
    disk.observe(move |_, call: &Call, moment| {
        let is_write = moment == Moment::Before && matches!(call.op, Op::Write | Op::Store);
        if is_write && call.path.contains("/wal-") {
            seen_log.fetch_add(call.length, Ordering::Relaxed);
        } else if is_write && call.path.contains("/tab-") {
            seen_tables.fetch_add(call.length, Ordering::Relaxed);
        }
    });
    let options = relaxed().segment_bytes(64 << 10).checkpoint_after(64 << 10, 100);
    let db = on(&disk, &options).open("store").unwrap();
    let bucket = db.bucket::<u64, Vec<u8>>("b").unwrap();
    let (mut checkpoints, mut logged) = (0, 0);
    for n in 0..6000_u64 {
        bucket.insert(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), vec![1; 100]).unwrap();
        // What the thread would do, on the same condition.
        let bytes = db.stats().log.unwrap().bytes;
        let held: u64 = disk.paths().iter().filter(|path| path.contains("/tab-")).count() as u64;
        if bytes - logged >= (64 << 10).max(held * (16 << 10)) {
            db.checkpoint().unwrap();
            (checkpoints, logged) = (checkpoints + 1, bytes);
        }
    }
    let (log, tables) = (log.load(Ordering::Relaxed), tables.load(Ordering::Relaxed));
    // Each checkpoint writes at most all data, and comes when the log has grown by as much: never
    // more than twice what was logged, and a header and an index for each table.
    assert!(checkpoints > 4, "{checkpoints}");
    assert!(tables < 3 * log, "{tables} bytes of tables for {log} bytes of log");
}

/// F25, the second half: writers stood still while a snapshot was written, for more than 4.3 s.
#[test]
fn writers_go_on_while_a_checkpoint_is_written() {
    let disk = FaultDisk::new(25);
    let db = on(&disk, &small()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for _ in 0..50 {
        ledger.add(200).unwrap();
    }
    let (arrived, is_there) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (arrived, may_go) = (Mutex::new(Some(arrived)), Mutex::new(may_go));
    disk.observe(move |_, call, moment| {
        if moment == Moment::Before && call.op == Op::Write && call.path.contains("/tab-") {
            // The first write of a table waits until the commits below are done.
            if let Some(arrived) = arrived.lock().unwrap().take() {
                arrived.send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
            }
        }
    });
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| db.checkpoint().unwrap());
        is_there.recv_timeout(Duration::from_secs(30)).unwrap();
        let writer = Ledger::open(&db).unwrap();
        let last = within(Duration::from_secs(30), move || {
            for _ in 0..50 {
                writer.add(200).unwrap();
            }
            writer.check()
        });
        assert_eq!(last, 100);
        assert!(!checkpoint.is_finished(), "the checkpoint was at work all the time");
        go.send(()).unwrap();
        assert!(checkpoint.join().unwrap().tables > 0);
    });
    let after = on(&disk.crash(1), &small()).open("store").unwrap();
    assert_eq!(Ledger::open(&after).unwrap().check(), 100);
}

/// F30: what was evicted was hidden and not logged: after a restart all of it was back, above the
/// limit. Whatever is taken out of a durable bucket, in whichever way, stays out.
#[test]
fn what_is_not_shown_does_not_come_back() {
    let disk = FaultDisk::new(30);
    let db = on(&disk, &small()).open("store").unwrap();
    let bucket = db.bucket::<u64, u64>("b").unwrap();
    let (cleared, dropped) = (db.bucket::<u64, u64>("c").unwrap(), db.bucket::<u64, u64>("d"));
    let dropped = dropped.unwrap();
    for n in 0..50 {
        for bucket in [&bucket, &cleared, &dropped] {
            bucket.insert(n, n).unwrap();
        }
    }
    db.checkpoint().unwrap();
    bucket.pop_first().unwrap();
    bucket.remove_range(30..).unwrap();
    bucket.update(29, |_| None).unwrap();
    cleared.clear().unwrap();
    assert!(db.drop_bucket("d").unwrap());
    db.vacuum(usize::MAX);
    let shown = numbers(&db, "b");
    assert_eq!(shown.len(), 28);
    for with_checkpoint in [false, true] {
        if with_checkpoint {
            db.checkpoint().unwrap();
        }
        let after = on(&disk.crash(1), &small()).open("store").unwrap();
        assert_eq!(after.buckets().len(), 2);
        assert_eq!(numbers(&after, "b"), shown);
        assert_eq!(numbers(&after, "c"), []);
        assert_eq!(numbers(&after, "d"), [], "a new bucket of an old name");
    }
}

/// F32: when a snapshot did not fit the disk any more, every call failed from then on, reads, too.
#[test]
fn full_disk_during_a_checkpoint_harms_nobody() {
    let disk = FaultDisk::new(32);
    let db = on(&disk, &small()).open("store").unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for _ in 0..100 {
        ledger.add(300).unwrap();
    }
    // Room for a table and for a segment of the log, and not for all tables.
    let used: usize =
        disk.paths().iter().map(|it| disk.content(Path::new(it)).unwrap().len()).sum();
    disk.set_capacity(Some(used as u64 + (24 << 10)));
    for _ in 0..3 {
        let error = db.checkpoint().unwrap_err();
        assert!(matches!(error, Error::Checkpoint(_)), "{}", whole(&error));
    }
    assert_eq!(ledger.check(), 100, "reads go on");
    assert_eq!(db.stats().log.unwrap().failure, None);
    let mut last = 100;
    let refused = loop {
        match ledger.add(300) {
            Ok(number) => last = number,
            Err(error) => break error,
        }
    };
    assert!(last > 100, "writes go on while the log has room");
    assert!(matches!(refused, Error::Log(WalError::NoSpace { .. })), "{}", whole(&refused));
    assert_eq!(ledger.check(), last);
    disk.set_capacity(None);
    assert!(db.checkpoint().unwrap().tables > 0);
    assert_eq!(ledger.add(300).unwrap(), last + 1);
    let after = on(&disk.crash(1), &small()).open("store").unwrap();
    assert_eq!(Ledger::open(&after).unwrap().check(), last + 1);
}

/// F34, and T12 and B5 alike: a directory could be opened twice, and both handles wrote.
#[test]
fn directory_has_one_handle_whatever_it_is_called() {
    let folder = tempdir().unwrap();
    let store = folder.path().join("store");
    let db = Database::open(&store).unwrap();
    let mut names = vec![store.clone(), folder.path().join("store/../store/.")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&store, folder.path().join("link")).unwrap();
        names.push(folder.path().join("link"));
    }
    for name in &names {
        let second = Database::open(name);
        let Err(Error::AlreadyOpen { holder, .. }) = second else { panic!("{second:?}") };
        assert_eq!(holder.as_deref(), Some("this process"));
    }
    // Everything that lives on the handle keeps the directory.
    let snapshot = db.snapshot();
    db.close().unwrap();
    assert!(matches!(Database::open(&store), Err(Error::AlreadyOpen { .. })));
    drop(snapshot);
    for name in &names {
        Database::open(name).unwrap().close().unwrap();
    }
    assert!(fs::exists(store.join("LOCK")).unwrap(), "the file of the lock is never removed");
}

/// F35: at the relaxed level a full segment was left behind unsynced, and a renamed file's
/// directory never synced: what `flush` had promised went with the power.
#[test]
fn sync_covers_the_segments_left_behind_and_their_names() {
    for seed in 0..200 {
        let disk = FaultDisk::new(seed);
        let db = on(&disk, &relaxed()).open("store").unwrap();
        let ledger = Ledger::open(&db).unwrap();
        for _ in 0..40 {
            ledger.add(500).unwrap();
        }
        db.sync().unwrap();
        if seed % 2 == 0 {
            db.checkpoint().unwrap();
        }
        for _ in 0..40 {
            ledger.add(500).unwrap();
        }
        let after = on(&disk.crash(seed), &relaxed()).open("store").unwrap();
        let found = Ledger::open(&after).unwrap().check();
        assert!((40..=80).contains(&found), "seed {seed}: 40 were synced, {found} are there");
    }
}

//! The tools of durable databases: opened to be read, examined, verified, backed up, salvaged.
//!
//! Method: the same facts on real files, where the operating system is the witness, and on the
//! simulated disk, which shows every call and can be damaged at will. What a database holds is
//! compared with what was committed, key by key.
#![cfg(feature = "testing")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the files' names are ours, and the numbers small"
)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use common::files::{HOME, crashed, files, fill, filled, on, words};
use palisade::testing::{Fault, FaultDisk, Op};
use palisade::{
    Database, Decode, DecodeError, Decoder, Durability, Encode, EncodeError, Encoder, Error,
    Options,
};
use tempfile::tempdir;

/// All files of a directory: their bytes, and when they were changed last.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let state = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(&path).unwrap(), changed))
    };
    entries.map(state).collect()
}

#[test]
fn a_reader_sees_what_a_killed_writer_left_and_makes_no_changing_call() {
    let disk = crashed();
    let before = files(&disk, HOME);
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&calls);
    disk.observe(move |_, call, _| heard.lock().unwrap().push(call.op));
    let db = on(&disk).open_read_only(HOME).unwrap();
    assert_eq!(words(&db), filled(0, 80));
    assert_eq!(db.bucket::<u8, u8>("other").unwrap().get(&1).unwrap(), Some(2));
    let names: Vec<_> = db.buckets().iter().map(|bucket| bucket.name.to_string()).collect();
    assert_eq!(names, ["empty", "other", "words"]);
    assert_eq!(db.snapshot().len(&db.bucket::<String, u8>("empty").unwrap()).unwrap(), 0);
    db.sync().unwrap();
    db.clone().close().unwrap();
    drop(db);
    let calls = calls.lock().unwrap().clone();
    let harmless = |op: &Op| !op.changes() || *op == Op::Open;
    assert!(calls.len() > 20 && calls.iter().all(harmless), "{calls:?}");
    assert_eq!(files(&disk, HOME), before, "opening made or changed a file");

    // Whoever opens it to write finds the same.
    assert_eq!(words(&on(&disk).open(HOME).unwrap()), filled(0, 80));
}

#[test]
fn a_reader_refuses_every_change_of_what_is_durable_and_none_of_what_is_not() {
    let disk = crashed();
    let db = on(&disk).open_read_only(HOME).unwrap();
    let words = db.bucket::<u64, String>("words").unwrap();
    assert!(matches!(words.insert(1, "other".into()), Err(Error::ReadOnly)));
    assert!(matches!(words.remove(&1), Err(Error::ReadOnly)));
    assert_eq!(words.get(&1).unwrap().as_deref(), Some("word 1"), "nothing took effect");
    let mixed = db.write(|tx| {
        tx.insert(&db.volatile_bucket::<u8, u8>("cache")?, 1, 1)?;
        tx.remove(&words, &1)?;
        assert_eq!(tx.get(&words, &1)?, None, "a transaction sees its own writes");
        Ok(())
    });
    assert!(matches!(mixed, Err(Error::ReadOnly)), "{mixed:?}");

    let cache = db.volatile_bucket::<u8, u8>("cache").unwrap();
    assert_eq!(cache.get(&1).unwrap(), None, "all or nothing");
    db.write(|tx| {
        let seen = tx.get(&words, &1)?.map_or(0, |word| word.len() as u8);
        tx.insert(&cache, 2, seen)?;
        Ok(())
    })
    .unwrap();
    assert_eq!(cache.get(&2).unwrap(), Some(6));
    db.rename_bucket("cache", "hoard").unwrap();
    assert!(db.drop_bucket("hoard").unwrap());
    assert!(!db.drop_bucket("nobody").unwrap());

    let missing = db.bucket::<u64, u64>("nobody");
    assert!(matches!(missing, Err(Error::BucketMissing { .. })), "{missing:?}");
    let wrong = db.bucket::<u64, u64>("other");
    assert!(matches!(wrong, Err(Error::TypeMismatch { .. })), "{wrong:?}");
    let volatile = db.volatile_bucket::<u64, String>("words");
    assert!(matches!(volatile, Err(Error::OtherPersistence { .. })), "{volatile:?}");
    for name in ["words", "other"] {
        assert!(matches!(db.drop_bucket(name), Err(Error::ReadOnly)));
        assert!(matches!(db.rename_bucket(name, "new"), Err(Error::ReadOnly)));
    }
    assert!(matches!(db.checkpoint(), Err(Error::ReadOnly)));
    assert!(matches!(db.rename_bucket("nobody", "new"), Err(Error::BucketMissing { .. })));
    assert_eq!(words.name().as_ref(), "words");
    assert_eq!(words.len().unwrap(), filled(0, 80).len());
}

#[test]
fn readers_share_a_database_and_a_writer_has_it_alone() {
    let disk = crashed();
    let one = on(&disk).open_read_only(HOME).unwrap();
    let other = on(&disk).open_read_only(HOME).unwrap();
    assert_eq!(words(&one), words(&other));
    let refused = on(&disk).open(HOME).unwrap_err();
    assert!(refused.to_string().contains("is open already, by someone who reads it"), "{refused}");
    drop((one, other));
    let writer = on(&disk).open(HOME).unwrap();
    for refused in [on(&disk).open_read_only(HOME).map(drop), on(&disk).examine(HOME).map(drop)] {
        assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{refused:?}");
    }
    let bucket = writer.bucket::<u64, String>("words").unwrap();
    drop(writer);
    assert!(on(&disk).open_read_only(HOME).is_err(), "the bucket keeps the database");
    drop(bucket);
    // A handle of a reader keeps the lock as long.
    let bucket = on(&disk).open_read_only(HOME).unwrap().bucket::<u8, u8>("other").unwrap();
    assert!(on(&disk).open(HOME).is_err());
    assert_eq!(bucket.get(&1).unwrap(), Some(2));
}

#[test]
fn a_directory_that_may_not_be_written_can_be_read() {
    let folder = tempdir().unwrap();
    let store = folder.path().join("db");
    let db = Options::new().segment_bytes(64 << 10).open(&store).unwrap();
    fill(&db, 0, 50);
    db.checkpoint().unwrap();
    fill(&db, 50, 70);
    drop(db);
    let before = listing(&store);
    #[cfg(unix)]
    for path in before.keys().map(PathBuf::as_path).chain([store.as_path()]) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if path == store { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert!(Options::new().examine(&store).unwrap().was_closed);
    let db = Options::new().open_read_only(&store).unwrap();
    assert_eq!(words(&db), filled(0, 70));
    // A second reader in the same process, and its end, change nothing for the first.
    drop(Options::new().open_read_only(&store).unwrap());
    let refused = Database::open(&store);
    assert!(refused.is_err(), "a reader has it, or may not write");
    drop(db);
    assert_eq!(listing(&store), before, "reading changed something");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn nothing_is_read_where_nothing_is() {
    let folder = tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("no/where")] {
        let opened = Options::new().open_read_only(&path);
        assert!(matches!(opened, Err(Error::NotFound { .. })), "{opened:?}");
        let examined = Options::new().examine(&path);
        assert!(matches!(examined, Err(Error::NotFound { .. })), "{examined:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
}

/// The dry run says what the opening then says, of a whole log and of a torn one.
#[test]
fn a_dry_run_tells_what_recovery_finds() {
    let disk = crashed();
    let newest = disk.paths().into_iter().rfind(|path| path.ends_with(".log")).unwrap();
    for tear in [false, true] {
        let disk = disk.kill(3);
        if tear {
            // The last record loses its end.
            disk.edit(Path::new(&newest), |bytes| {
                let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
                bytes[last] ^= 0x55;
            });
        }
        let before = files(&disk, HOME);
        let said = on(&disk).examine(HOME).unwrap();
        assert_eq!(files(&disk, HOME), before);
        let (_db, found) = on(&disk).recover(HOME).unwrap();
        assert_eq!((said.newest, said.commits), (found.newest, found.commits));
        assert_eq!((&said.end, said.was_closed), (&found.end, found.was_closed));
        assert_eq!(said.discarded_bytes, found.discarded_bytes);
        assert_eq!(said.end.contains("no record"), !tear, "{said:?}");
        assert!(!said.was_closed && !said.is_new && said.commits >= 20, "{said:?}");
    }
}

#[test]
fn verify_counts_what_is_there_and_writes_nothing() {
    let disk = crashed();
    let before = files(&disk, HOME);
    let verified = on(&disk).verify(HOME).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.problems);
    // Entries of ranges, one of them in "other", and operations of a delta; the rest in the log.
    assert!(verified.tables > 2 && verified.entries == 32 + 1 + 24, "{verified:?}");
    assert!(verified.commits == 24 && verified.log_bytes > 0, "{verified:?}");
    assert_eq!(files(&disk, HOME), before);
    let db = on(&disk).open_read_only(HOME).unwrap();
    assert_eq!(db.verify().unwrap(), verified);
    words(&db);
    assert_eq!(db.verify().unwrap(), verified, "with buckets open");
    assert_eq!(files(&disk, HOME), before);
    drop(db);
    let db = on(&disk).open(HOME).unwrap();
    words(&db);
    let now = db.verify().unwrap();
    assert!(now.is_sound() && now.entries == verified.entries, "{now:?}");
    assert_eq!(Database::in_memory().verify().unwrap(), palisade::Verified::default());
    let refused = on(&disk).verify(HOME);
    assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{refused:?}");
    let nothing = on(&disk).verify("nowhere");
    assert!(matches!(nothing, Err(Error::NotFound { .. })), "{nothing:?}");
}

/// Several files are damaged, one of them in two places: each is named with its place.
#[test]
fn verify_tells_of_every_problem() {
    let disk = crashed();
    let paths = disk.paths();
    let tables: Vec<_> = paths.iter().filter(|path| path.ends_with(".tab")).collect();
    disk.edit(Path::new(tables[0]), |bytes| bytes[100] ^= 1);
    disk.delete(Path::new(tables[1]));
    disk.edit(Path::new(tables[2]), |bytes| *bytes.last_mut().unwrap() ^= 1);
    for log in paths.iter().filter(|path| path.ends_with(".log")) {
        disk.edit(Path::new(log), |bytes| bytes[4096 + 200] ^= 1);
    }
    let verified = on(&disk).verify(HOME).unwrap();
    let found: Vec<_> =
        verified.problems.iter().map(|it| (it.path.to_str().unwrap(), it)).collect();
    let of = |path: &str| found.iter().filter(|(found, _)| *found == path).count();
    for path in [tables[0], tables[1], tables[2]] {
        assert_eq!(of(path), 1, "{path}: {found:?}");
    }
    assert!(found.iter().any(|(path, it)| path.ends_with(".log") && it.offset > 4096), "{found:?}");
    assert_eq!(verified.problems[0].offset, 64, "the block that holds the byte");
    assert!(verified.problems[0].to_string().contains("at byte 64: the checksum"));

    // Open, with the bucket in memory before the damage.
    let disk = crashed();
    let db = on(&disk).open(HOME).unwrap();
    words(&db);
    disk.edit(Path::new(tables[0]), |bytes| bytes[100] ^= 1);
    let verified = db.verify().unwrap();
    assert_eq!(verified.problems.len(), 1, "{:?}", verified.problems);
    // In the log, too, in its first record since it was opened.
    fill(&db, 80, 85);
    let segment = db.stats().log.unwrap().position.get() >> 32;
    let segment = Path::new(HOME).join(format!("wal-{segment:08x}.log"));
    disk.edit(&segment, |bytes| bytes[4096 + 48 + 20] ^= 1);
    let verified = db.verify().unwrap();
    let in_log = verified.problems.iter().find(|it| it.path == segment);
    assert!(in_log.is_some_and(|it| it.offset == 4096 + 48), "{:?}", verified.problems);
    disk.edit(&Path::new(HOME).join("MANIFEST"), |bytes| bytes[30] ^= 1);
    assert!(db.verify().unwrap().problems[0].path.ends_with("MANIFEST"));
}

#[test]
fn verify_without_a_manifest_looks_at_the_tables_all_the_same() {
    let disk = crashed();
    disk.edit(&Path::new(HOME).join("MANIFEST"), |bytes| bytes[30] ^= 1);
    let table = disk.paths().into_iter().find(|path| path.ends_with(".tab")).unwrap();
    disk.edit(Path::new(&table), |bytes| bytes[100] ^= 1);
    let verified = on(&disk).verify(HOME).unwrap();
    let paths: Vec<_> = verified.problems.iter().map(|problem| problem.path.clone()).collect();
    assert_eq!(paths, [Path::new(HOME).join("MANIFEST"), table.into()]);
    assert!(verified.tables > 2 && verified.entries > 20);
}

/// Sorts the other way round when told to: a bucket whose `Ord` has changed between two lives.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fickle(u64);

static IS_TURNED: AtomicBool = AtomicBool::new(false);

impl Ord for Fickle {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.0.cmp(&other.0);
        if IS_TURNED.load(Relaxed) { order.reverse() } else { order }
    }
}

impl PartialOrd for Fickle {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Encode for Fickle {
    // Promised, and not kept while it is turned.
    const ORDERED: bool = false;

    fn type_identity() -> String {
        "fickle".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.last(&self.0)
    }
}

impl Decode for Fickle {
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        from.last().map(Self)
    }
}

#[test]
fn verify_compares_keys_by_their_type_where_bytes_do_not_tell() {
    let disk = FaultDisk::new(3);
    let db = on(&disk).open(HOME).unwrap();
    let bucket = db.bucket::<Fickle, u8>("fickle").unwrap();
    for n in 0..100 {
        bucket.insert(Fickle(n), 0).unwrap();
    }
    db.checkpoint().unwrap();
    assert!(db.verify().unwrap().is_sound());
    drop(bucket);
    db.close().unwrap();
    IS_TURNED.store(true, Relaxed);
    assert!(on(&disk).verify(HOME).unwrap().is_sound(), "nobody knows the order");
    let db = on(&disk).open(HOME).unwrap();
    db.bucket::<Fickle, u8>("fickle").unwrap();
    let problems = db.verify().unwrap().problems;
    IS_TURNED.store(false, Relaxed);
    let count = |what: &str| problems.iter().filter(|problem| problem.what == what).count();
    assert!(count("a key that is not in order") > 50, "{problems:?}");
    assert!(count("the range ends before it begins") > 0, "{problems:?}");
    assert!(count("a key outside of its table's range") > 0, "{problems:?}");
}

/// Threads move amounts between two buckets, so that the sum stays, and count what was committed;
/// checkpoints run beside them. Each backup has the sum, and at least what was counted before it.
#[test]
fn a_backup_of_a_busy_database_is_one_moment_of_it() {
    let folder = tempdir().unwrap();
    let options = Options::new()
        .segment_bytes(64 << 10)
        .durability(Durability::Relaxed)
        .checkpoint_bytes_per_second(None)
        .table_bytes(4 << 10);
    let db = options.open(folder.path().join("db")).unwrap();
    let (left, right) =
        (db.bucket::<u64, i64>("left").unwrap(), db.bucket::<u64, i64>("right").unwrap());
    let counts = db.bucket::<u64, u64>("counts").unwrap();
    let stop = AtomicBool::new(false);
    let done: Vec<_> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let mut backups = Vec::new();
    std::thread::scope(|scope| {
        for (thread, done) in (0..).zip(&done) {
            let (db, left, right, counts, stop) = (&db, &left, &right, &counts, &stop);
            scope.spawn(move || {
                for n in 1.. {
                    db.write(|tx| {
                        let key = n % 50;
                        let amount = tx.get(left, &key)?.copied().unwrap_or(0);
                        tx.insert(left, key, amount - 1)?;
                        let amount = tx.get(right, &key)?.copied().unwrap_or(0);
                        tx.insert(right, key, amount + 1)?;
                        tx.insert(counts, thread, n)?;
                        Ok(())
                    })
                    .unwrap();
                    done.store(n, Relaxed);
                    if stop.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        let (db, stop) = (&db, &stop);
        scope.spawn(move || {
            while !stop.load(Relaxed) {
                db.checkpoint().unwrap();
                db.drop_bucket("passing").unwrap();
                db.bucket::<u8, u8>("passing").unwrap().insert(1, 1).unwrap();
            }
        });
        for round in 0..4 {
            let least: Vec<_> = done.iter().map(|done| done.load(Relaxed)).collect();
            let path = folder.path().join(format!("backup {round}"));
            let backup = db.backup(&path).unwrap();
            backups.push((path, least, backup));
            assert!(db.verify().unwrap().is_sound());
        }
        stop.store(true, Relaxed);
    });
    for (path, least, backup) in backups {
        assert!(options.verify(&path).unwrap().is_sound());
        let (db, recovery) = options.recover(&path).unwrap();
        assert_eq!(recovery.newest, backup.newest);
        let (left, right) = (db.bucket::<u64, i64>("left"), db.bucket::<u64, i64>("right"));
        let (left, right): (Vec<_>, Vec<_>) =
            (left.unwrap().iter().unwrap().collect(), right.unwrap().iter().unwrap().collect());
        assert!(left.iter().zip(&right).all(|(one, other)| *one == (other.0, -other.1)));
        let moved = right.iter().map(|(_, amount)| *amount as u64).sum();
        check_counts(&db, &least, moved);
    }
}

/// As many as were moved, none fewer than were known of; and the copy goes on by itself.
fn check_counts(db: &Database, least: &[u64], moved: u64) {
    let counts = db.bucket::<u64, u64>("counts").unwrap();
    let total: u64 = counts.iter().unwrap().map(|(_, count)| count).sum();
    assert_eq!(moved, total);
    for (thread, &least) in (0..).zip(least) {
        assert!(counts.get(&thread).unwrap().unwrap_or(0) >= least, "thread {thread}");
    }
    counts.insert(99, 1).unwrap();
    db.checkpoint().unwrap();
}

#[test]
fn a_backup_wants_a_place_of_its_own() {
    let disk = crashed();
    let db = on(&disk).open(HOME).unwrap();
    let made = db.backup("copies/one").unwrap();
    assert_eq!((made.buckets, made.newest), (3, db.stats().now));
    let before = files(&disk, "copies");
    for taken in ["copies/one", HOME] {
        let refused = db.backup(taken);
        assert!(matches!(refused, Err(Error::NotEmpty { .. })), "{refused:?}");
    }
    assert_eq!(files(&disk, "copies"), before);
    assert!(matches!(Database::in_memory().backup("x"), Err(Error::InMemory)));
    // Of a copy, of a database that is only read, and of one that was damaged meanwhile.
    drop(db);
    let copy = on(&disk).open_read_only("copies/one").unwrap();
    assert_eq!(words(&copy), filled(0, 80));
    copy.backup("copies/two").unwrap();
    on(&disk).open_read_only(HOME).unwrap().backup("copies/three").unwrap();
    for name in ["copies/two", "copies/three"] {
        let db = on(&disk).open(name).unwrap();
        assert_eq!(words(&db), filled(0, 80), "{name}");
        assert_eq!(db.bucket::<u8, u8>("other").unwrap().get(&1).unwrap(), Some(2));
    }
    let table = disk.paths().into_iter().find(|path| path.ends_with(".tab")).unwrap();
    let table = Path::new(HOME).join(Path::new(&table).file_name().unwrap());
    disk.edit(&table, |bytes| bytes[100] ^= 1);
    let refused = on(&disk).open(HOME).unwrap().backup("copies/four");
    assert!(matches!(refused, Err(Error::Checkpoint(_))), "{refused:?}");
    assert!(files(&disk, "copies/four").keys().all(|path| path.ends_with("LOCK")));
}

/// The files of a database and of its copy are never taken for each other's.
#[test]
fn a_backup_is_another_database() {
    let disk = crashed();
    on(&disk).open(HOME).unwrap().backup("copy").unwrap();
    drop(on(&disk).seed(8).open("copy").unwrap());
    let second = on(&disk).seed(9);
    second.open("copy").unwrap().backup("second").unwrap();
    let name = |path: &str| Path::new("copy").join(Path::new(path).file_name().unwrap());
    for (path, bytes) in files(&disk, "second") {
        let place = name(&path);
        if !path.ends_with(".tab") || disk.content(&place).is_none() {
            continue;
        }
        let disk = disk.kill(4);
        disk.put(&place, &bytes);
        assert!(!on(&disk).verify("copy").unwrap().is_sound(), "{path}");
    }
}

/// The power goes at every call of a backup: what is left is no database, or all of it.
#[test]
fn an_interrupted_backup_is_no_database() {
    let disk = crashed();
    let first = disk.calls();
    on(&disk).open(HOME).unwrap().backup("copy").unwrap();
    let last = disk.calls();
    let (mut nothing, mut refused, mut whole) = (0, 0, 0);
    for call in first..=last + 20 {
        let disk = crashed();
        let db = on(&disk).open(HOME).unwrap();
        disk.fail_at(call, Fault::PowerOff);
        let outcome = db.backup("copy");
        for seed in 0..3 {
            let left = disk.crash(seed);
            match on(&left).open_read_only("copy") {
                Err(Error::NotFound { .. }) => nothing += 1,
                Err(Error::Checkpoint(_)) => refused += 1,
                Ok(copy) => {
                    assert_eq!(words(&copy), filled(0, 80));
                    whole += 1;
                }
                Err(other) => panic!("call {call}: {other}"),
            }
            assert!(outcome.is_err() || on(&left).open_read_only("copy").is_ok(), "call {call}");
            assert_eq!(words(&on(&left).open(HOME).unwrap()), filled(0, 80));
        }
    }
    assert!(nothing > 0 && refused > 0 && whole > 0, "{nothing} {refused} {whole}");
}

/// A backup that fails for lack of space leaves nothing behind, and can be made again.
#[test]
fn a_failed_backup_takes_back_what_it_wrote() {
    for (op, nth) in [(Op::Write, 2), (Op::SyncAll, 1), (Op::SyncAll, 3), (Op::Rename, 2)] {
        let disk = crashed();
        let db = on(&disk).open(HOME).unwrap();
        disk.fail_nth(op, nth, Fault::NoSpace);
        assert!(db.backup("copy").is_err(), "{op:?}");
        let left: Vec<_> = files(&disk, "copy").into_keys().collect();
        assert_eq!(left, ["copy/LOCK"], "{op:?}");
        db.bucket::<u64, String>("words").unwrap().insert(1000, "more".into()).unwrap();
        db.backup("copy").unwrap();
        assert_eq!(words(&on(&disk).open("copy").unwrap()), words(&db));
    }
}

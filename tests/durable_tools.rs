//! The tools of durable databases: opened to be read, examined, verified, backed up, salvaged.
//!
//! Method: the same facts on real files, where the operating system is the witness, and on the
//! simulated disk, which shows every call and can be damaged at will. What a database holds is
//! compared with what was committed, key by key.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use common::files::{HOME, crashed, files, fill, filled, on, words};
use palisade::testing::Op;
use palisade::{Database, Error, Options};
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

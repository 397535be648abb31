//! A small durable database with a known past, and the judge of what opening its damaged files
//! gives.
#![allow(dead_code, reason = "every target compiles all of it and uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use palisade::testing::FaultDisk;
use palisade::{CheckpointError, Error, Options, WalError};

pub const HOME: &str = "db";

/// The entries of each bucket; none where they cannot be read.
pub type State = BTreeMap<String, Option<BTreeMap<u64, String>>>;

/// A database that was killed, and every state it went through, the newest last.
pub struct Past {
    pub disk: FaultDisk,
    pub history: Vec<State>,
}

pub fn options(disk: &FaultDisk) -> Options {
    Options::new()
        .storage(Arc::new(disk.clone()))
        .threads(false)
        .segment_bytes(8192)
        .table_bytes(500)
        .checkpoint_bytes_per_second(None)
        .seed(3)
}

/// The database that all inputs damage: ranges, a delta, two segments.
pub fn past() -> &'static Past {
    static PAST: OnceLock<Past> = OnceLock::new();
    PAST.get_or_init(|| {
        let disk = FaultDisk::new(3);
        disk.set_write_back(0);
        let mut history = vec![State::new()];
        for life in 0..3 {
            let db = options(&disk).open(HOME).expect("a whole database");
            // The first bucket is not opened in the second life, so it gets a delta.
            for name in ["fish", "moss"].into_iter().skip(usize::from(life == 1)) {
                let bucket = db.bucket::<u64, String>(name).expect("a whole bucket");
                let mut state = history.last().cloned().unwrap_or_default();
                let entries = state.entry(name.into()).or_insert(Some(BTreeMap::new()));
                if entries.as_ref().is_some_and(BTreeMap::is_empty) {
                    history.push(state.clone());
                }
                for n in life * 10..life * 10 + 14 {
                    let entries = state.get_mut(name).and_then(Option::as_mut).expect("there");
                    if n % 4 == 3 {
                        bucket.remove(&(n - 1)).expect("a sound disk");
                        entries.remove(&(n - 1));
                    } else {
                        bucket.insert(n, format!("{name} {n} {life}")).expect("a sound disk");
                        entries.insert(n, format!("{name} {n} {life}"));
                    }
                    history.push(state.clone());
                }
            }
            if life < 2 {
                db.checkpoint().expect("a sound disk");
            } else {
                let disk = disk.kill(1);
                return Past { disk, history };
            }
        }
        unreachable!("the last life is killed")
    })
}

/// The files that are read when a database is opened, sorted.
pub fn files(disk: &FaultDisk) -> Vec<PathBuf> {
    let is_read = |path: &String| !path.ends_with("LOCK");
    disk.paths().into_iter().filter(is_read).map(PathBuf::from).collect()
}

/// The file with this end that is the last by name.
pub fn last_with(disk: &FaultDisk, end: &str) -> PathBuf {
    let found = files(disk).into_iter().rfind(|path| path.to_string_lossy().ends_with(end));
    found.expect("the database has one")
}

/// The segment of the log that was written to last.
pub fn newest_segment(disk: &FaultDisk) -> PathBuf {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let written = files(disk).into_iter().filter(is_log).rfind(|path| {
        // Behind the header's page there is a record.
        content(disk, path).get(4096).is_some_and(|&byte| byte != 0)
    });
    written.expect("something was committed")
}

fn names_a_file(error: &Error) -> bool {
    match error {
        Error::Log(
            WalError::Corruption { path, .. }
            | WalError::Foreign { path }
            | WalError::Version { path, .. }
            | WalError::MissingSegment { directory: path, .. },
        )
        | Error::Checkpoint(
            CheckpointError::Corruption { path, .. } | CheckpointError::Version { path, .. },
        ) => path.starts_with(HOME),
        _ => false,
    }
}

/// Opens and reads everything.
pub fn read(disk: &FaultDisk) -> Result<State, Error> {
    let db = options(disk).open(HOME)?;
    let mut state = State::new();
    for bucket in db.buckets() {
        let entries = match db.bucket::<u64, String>(&bucket.name) {
            Ok(bucket) => Some(bucket.iter()?.collect()),
            Err(error) if names_a_file(&error) => None,
            Err(error) => return Err(error),
        };
        state.insert(bucket.name.to_string(), entries);
    }
    db.check();
    Ok(state)
}

/// Opening must give a state of the past, or an error that names a file. Looking at the files in
/// other ways must not panic, and must see what opening trips over.
pub fn judge(disk: &FaultDisk) {
    let verified = options(disk).verify(HOME);
    let examined = options(disk).examine(HOME);
    let outcome = read(&disk.kill(1));
    let is_whole = match &outcome {
        Ok(state) => state.values().all(Option::is_some),
        Err(_) => false,
    };
    match outcome {
        Ok(state) => {
            let agrees = |then: &&State| {
                then.len() == state.len()
                    && then.iter().zip(&state).all(|((one, then), (other, now))| {
                        one == other && (now.is_none() || now == then)
                    })
            };
            let is_of_the_past = past().history.iter().rev().any(|then| agrees(&then));
            assert!(is_of_the_past, "other data: {state:#?}");
        }
        Err(error) => {
            assert!(names_a_file(&error), "{error:?}");
            assert!(examined.is_err(), "the dry run does not see: {error}");
        }
    }
    match verified {
        Ok(verified) => assert!(is_whole || !verified.is_sound(), "verify sees nothing"),
        Err(error) => assert!(!is_whole, "{error}"),
    }
    salvage(disk);
}

/// Salvage must not panic, nor change what it saves, and its result must open.
pub fn salvage(disk: &FaultDisk) {
    if options(disk).salvage(HOME, "saved").is_ok() {
        let db = options(disk).open("saved").expect("what was saved opens");
        for bucket in db.buckets() {
            let bucket = db.bucket::<u64, String>(&bucket.name).expect("what was saved is sound");
            let entries: Vec<_> = bucket.iter().expect("it is not dropped").collect();
            for (key, value) in entries {
                assert!(value.ends_with(char::is_numeric) && key < 40, "{key} is {value}");
            }
        }
    }
}

/// Puts a file whose checksums are right in place of one. Nobody promises what it then holds;
/// but nothing may panic.
pub fn survive(disk: &FaultDisk) {
    let _ = options(disk).verify(HOME);
    let _ = options(disk).salvage(HOME, "saved");
    if let Ok(db) = options(disk).open_read_only(HOME) {
        for bucket in db.buckets() {
            let _ = db.bucket::<u64, String>(&bucket.name);
        }
    }
    let _ = read(disk);
}

/// Writes `bytes` into a copy of `old` from `offset` on.
pub fn overlay(old: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut new = old.to_vec();
    new.resize(new.len().max(offset + bytes.len()), 0);
    new[offset..offset + bytes.len()].copy_from_slice(bytes);
    new
}

pub fn content(disk: &FaultDisk, path: &Path) -> Vec<u8> {
    disk.content(path).expect("the file is there")
}

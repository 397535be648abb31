//! Damaged files never give other data, and never a panic.
//!
//! Method: small databases are written on the simulated disk, and what they held after each commit
//! is remembered. Then every bit of every file is flipped, every file is cut at every length, and
//! files and sectors are swapped, removed, doubled, zeroed and taken from another database, one
//! mishap at a time. Opening what is left and reading all of it must give
//!
//! * the same state, or
//! * an error that names a file of the database, or
//! * where the last record of the log was hit and nothing behind it proves that it had been
//!   durable, the state before it.
//!
//! What a database closed cleanly holds is proven to its end, so there the third never happens.
//! `verify` must see whatever opening trips over.
#![cfg(feature = "testing")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the files' names are ours, and the numbers small"
)]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::files::{HOME, files};
use common::rng::{Rng, env, seed};
use palisade::testing::FaultDisk;
use palisade::{CheckpointError, Database, Error, Options, WalError};

/// What a database holds: the entries of each bucket, or nothing if it could not be read.
type State = BTreeMap<String, Option<BTreeMap<u64, String>>>;

fn options(disk: &FaultDisk, seed: u64) -> Options {
    Options::new()
        .storage(Arc::new(disk.clone()))
        .threads(false)
        .segment_bytes(8192)
        .table_bytes(500)
        .checkpoint_bytes_per_second(None)
        .seed(seed)
}

/// A database as it was left, and every state it went through.
struct Left {
    name: &'static str,
    disk: FaultDisk,
    history: Vec<State>,
    was_closed: bool,
}

/// Writes to a database, and remembers what it holds after each commit.
struct Author {
    disk: FaultDisk,
    seed: u64,
    db: Option<Database>,
    history: Vec<State>,
}

impl Author {
    fn new(seed: u64) -> Self {
        let disk = FaultDisk::new(seed);
        disk.set_write_back(0);
        let mut author = Self { disk, seed, db: None, history: vec![State::new()] };
        author.open();
        author
    }

    fn open(&mut self) {
        self.db = Some(options(&self.disk, self.seed).open(HOME).unwrap());
    }

    fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    fn now(&self) -> State {
        self.history.last().unwrap().clone()
    }

    /// Puts and removes entries, each in a commit of its own.
    fn write(&mut self, name: &str, from: u64, to: u64) {
        let db = self.db().clone();
        let bucket = db.bucket::<u64, String>(name).unwrap();
        let mut state = self.now();
        if state
            .insert(name.into(), state.get(name).cloned().unwrap_or(Some(BTreeMap::new())))
            .is_none()
        {
            self.history.push(state.clone());
        }
        for n in from..to {
            let entries = state.get_mut(name).unwrap().as_mut().unwrap();
            if n % 4 == 3 {
                bucket.remove(&(n - 1)).unwrap();
                entries.remove(&(n - 1));
            } else {
                let value = format!("{name} {n} {}", "x".repeat(n as usize % 7));
                bucket.insert(n, value.clone()).unwrap();
                entries.insert(n, value);
            }
            self.history.push(state.clone());
        }
    }

    fn checkpoint(&mut self) {
        self.db().checkpoint().unwrap();
    }

    fn close(&mut self) {
        self.db.take().unwrap().close().unwrap();
    }

    fn closed(mut self, name: &'static str) -> Left {
        self.close();
        Left { name, disk: self.disk.kill(1), history: self.history, was_closed: true }
    }

    fn killed(self, name: &'static str) -> Left {
        let disk = self.disk.kill(1);
        Left { name, disk, history: self.history, was_closed: false }
    }
}

/// Tables, a delta, several segments, a clean end.
fn closed(seed: u64) -> Left {
    let mut author = Author::new(seed);
    author.write("birds", 0, 24);
    author.write("fish", 0, 3);
    author.checkpoint();
    author.write("birds", 24, 30);
    author.close();
    author.open();
    author.write("fish", 3, 6);
    author.checkpoint();
    author.write("moss", 0, 3);
    author.closed("closed")
}

/// Tables and a log of several segments, killed while it was written to.
fn killed(seed: u64) -> Left {
    let mut author = Author::new(seed);
    author.write("birds", 0, 24);
    author.checkpoint();
    author.write("fish", 0, 5);
    author.write("birds", 20, 110);
    author.killed("killed")
}

/// Killed in its second life, which went on behind a clean end.
fn reopened(seed: u64) -> Left {
    let mut author = Author::new(seed);
    author.write("birds", 0, 6);
    author.close();
    author.open();
    author.write("birds", 6, 12);
    author.killed("reopened")
}

/// Killed in its first life, before any checkpoint.
fn fresh(seed: u64) -> Left {
    let mut author = Author::new(seed);
    author.write("birds", 0, 6);
    author.killed("fresh")
}

fn all() -> Vec<Left> {
    vec![closed(11), killed(12), reopened(13), fresh(14)]
}

/// Whether an error says which file is wrong.
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

/// Opens and reads everything. An error is the state of what could not be read.
fn read(disk: &FaultDisk) -> Result<State, Error> {
    let db = options(disk, 99).open(HOME)?;
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

/// How far a state is from the newest one: 0 is the newest. Buckets that could not be read agree
/// with everything.
fn age(left: &Left, state: &State) -> Option<usize> {
    let agrees = |then: &&State| {
        then.len() == state.len()
            && then.iter().zip(state).all(|((one, entries), (other, found))| {
                one == other && (found.is_none() || found == entries)
            })
    };
    left.history.iter().rev().position(|then| agrees(&then))
}

/// What became of the mishaps.
#[derive(Debug, Default)]
struct Tally {
    same: usize,
    torn: usize,
    refused: usize,
}

/// How many commits may be missing after one record was hit: the last, which nothing proves.
const ONE: usize = 1;

impl Tally {
    /// Opens a damaged database and judges what it gives. At most `torn_max` commits may be missing
    /// from its end.
    fn judge(&mut self, left: &Left, disk: &FaultDisk, what: &str, torn_max: usize) {
        let name = left.name;
        let before = files(disk, HOME);
        let verified = options(disk, 99).verify(HOME).unwrap();
        assert_eq!(files(disk, HOME), before, "{name}, {what}: verify wrote something");
        let problems = verified.problems.len();
        match read(disk) {
            Err(error) => {
                assert!(names_a_file(&error), "{name}, {what}: {error:?}");
                assert!(problems > 0, "{name}, {what}: verify misses {error}");
                self.refused += 1;
            }
            Ok(state) => match age(left, &state) {
                None => panic!("{name}, {what}: other data: {state:#?}"),
                Some(age) => {
                    if state.values().any(Option::is_none) {
                        assert!(problems > 0, "{name}, {what}: verify misses a bad table");
                        assert_eq!(age, 0, "{name}, {what}: lost {age} commits and a table");
                        self.refused += 1;
                    } else if age == 0 {
                        assert_eq!(problems, 0, "{name}, {what}: {:?}", verified.problems);
                        self.same += 1;
                    } else {
                        let is_torn = !left.was_closed && age <= torn_max;
                        assert!(is_torn, "{name}, {what}: lost {age} commits");
                        self.torn += 1;
                    }
                }
            },
        }
    }
}

fn paths(disk: &FaultDisk) -> Vec<String> {
    let is_read = |path: &String| !path.ends_with("LOCK") && !path.ends_with(".tmp");
    disk.paths().into_iter().filter(is_read).collect()
}

fn length(disk: &FaultDisk, path: &str) -> u64 {
    disk.content(Path::new(path)).unwrap().len() as u64
}

/// Behind this byte a file holds zeros only.
fn used(disk: &FaultDisk, path: &str) -> u64 {
    let bytes = disk.content(Path::new(path)).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

/// The segment that was written to last.
fn newest_segment(disk: &FaultDisk) -> PathBuf {
    let is_written = |path: &String| path.ends_with(".log") && used(disk, path) > 4096;
    paths(disk).into_iter().rfind(is_written).unwrap().into()
}

#[test]
fn whole_databases_read_back() {
    for left in all() {
        let state = read(&left.disk.kill(1)).unwrap();
        assert_eq!(age(&left, &state), Some(0), "{}", left.name);
    }
}

/// Every bit of what was written, and some of the zeros behind it.
#[test]
fn flipped_bits() {
    let mut random = Rng::new(seed());
    for left in all() {
        let mut tally = Tally::default();
        for path in paths(&left.disk) {
            let bits = used(&left.disk, &path) * 8;
            let step = env("DAMAGE_STEP", 37);
            let zeros = length(&left.disk, &path) * 8 - bits;
            let mut offsets: Vec<_> = (random.next() % step..bits).step_by(step as usize).collect();
            offsets.extend((0..zeros.min(100)).map(|_| bits + random.next() % zeros));
            for bit in offsets {
                let disk = left.disk.kill(1);
                assert!(disk.flip_bit(Path::new(&path), bit));
                tally.judge(&left, &disk, &format!("bit {bit} of {path}"), ONE);
            }
        }
        println!("{}: {tally:?}", left.name);
        assert!(tally.same > 0 && tally.refused > tally.torn, "{}: {tally:?}", left.name);
    }
}

/// Cut at every length; of what was never written, at some.
#[test]
fn cut_files() {
    let mut random = Rng::new(seed());
    for left in all() {
        let mut tally = Tally::default();
        for path in paths(&left.disk) {
            let (used, whole) = (used(&left.disk, &path), length(&left.disk, &path));
            let step = env("DAMAGE_STEP", 23);
            let mut lengths: Vec<_> = (random.next() % step..used).step_by(step as usize).collect();
            lengths.extend((used..whole).step_by(997).chain([0, whole - 1]));
            for length in lengths {
                let disk = left.disk.kill(1);
                disk.truncate(Path::new(&path), length as usize);
                tally.judge(&left, &disk, &format!("{path} cut at {length}"), 0);
            }
        }
        println!("{}: {tally:?}", left.name);
        assert!(tally.refused > 10 && tally.torn == 0, "{}: {tally:?}", left.name);
    }
}

/// Files that are gone, that took each other's place, or that are there twice.
#[test]
fn lost_and_confused_files() {
    for left in all() {
        let mut tally = Tally::default();
        let paths = paths(&left.disk);
        for one in &paths {
            let disk = left.disk.kill(1);
            disk.delete(Path::new(one));
            tally.judge(&left, &disk, &format!("{one} is gone"), 0);
            for other in paths.iter().filter(|other| *other != one) {
                let disk = left.disk.kill(1);
                disk.swap_files(Path::new(one), Path::new(other));
                tally.judge(&left, &disk, &format!("{one} and {other} changed places"), 0);
                let disk = left.disk.kill(1);
                let bytes = disk.content(Path::new(one)).unwrap();
                disk.put(Path::new(other), &bytes);
                tally.judge(&left, &disk, &format!("{one} stands at {other} too"), 0);
            }
            // Under a name that nobody gave: of the next table, of the next segment.
            for name in ["tab-00000000000000ff.tab", "wal-000000ff.log", "MANIFEST.tmp", "x"] {
                let disk = left.disk.kill(1);
                let bytes = disk.content(Path::new(one)).unwrap();
                disk.put(&Path::new(HOME).join(name), &bytes);
                tally.judge(&left, &disk, &format!("{one} stands at {name} too"), 0);
            }
        }
        println!("{}: {tally:?}", left.name);
        assert!(tally.refused > 5 && tally.torn == 0, "{}: {tally:?}", left.name);
    }
}

/// Files of another database with the same past, and older files of this one.
#[test]
fn foreign_and_outdated_files() {
    let makers: [fn(u64) -> Left; 4] = [closed, killed, reopened, fresh];
    for make in makers {
        let (left, other) = (make(21), make(22));
        let mut tally = Tally::default();
        for path in paths(&left.disk) {
            let Some(bytes) = other.disk.content(Path::new(&path)) else { continue };
            let disk = left.disk.kill(1);
            disk.put(Path::new(&path), &bytes);
            tally.judge(&left, &disk, &format!("{path} of another database"), 0);
        }
        println!("{}: {tally:?}", left.name);
        assert!(tally.refused >= 2 && tally.torn == 0, "{}: {tally:?}", left.name);
    }
}

/// Sectors that were never written, were written to the wrong place, or to two places.
#[test]
fn lost_and_misplaced_sectors() {
    let mut random = Rng::new(seed());
    for left in all() {
        let mut tally = Tally::default();
        for path in paths(&left.disk) {
            let sectors = (length(&left.disk, &path) / 512) as usize;
            // Several commits end in the last sector that was written, with nothing behind them.
            let newest = newest_segment(&left.disk);
            let last = (used(&left.disk, &newest.to_string_lossy()) - 1) as usize / 512;
            for sector in 0..sectors {
                let other = random.next() as usize % sectors;
                let path = Path::new(&path);
                for way in 0..3 {
                    let disk = left.disk.kill(1);
                    let is_done = match way {
                        0 => disk.zero_sector(path, sector),
                        1 => disk.copy_sector(path, other, sector),
                        _ => disk.swap_sectors(path, other, sector),
                    };
                    if is_done {
                        let what = format!("sectors {sector} and {other} of {path:?}, way {way}");
                        let is_last = [sector, other].contains(&last) && *path == newest;
                        let torn_max = if is_last { 12 } else { 0 };
                        tally.judge(&left, &disk, &what, torn_max);
                    }
                }
            }
        }
        println!("{}: {tally:?}", left.name);
        assert!(tally.same > 0 && tally.refused > 5, "{}: {tally:?}", left.name);
    }
}

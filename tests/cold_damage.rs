//! Values that are cold and damaged, unreadable or of other code: whoever asks for one is told, and
//! nobody is shown anything else. All others go on.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

#[path = "common/rng.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod rng;
#[path = "common/stamped.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod stamped;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use palisade::testing::{Fault, FaultDisk, Op};
use palisade::{Bucket, CheckpointError, Database, Decode, DecodeError, Decoder, Durability};
use palisade::{Encode, EncodeError, Encoder, Error, FetchError, Options};
use rng::Rng;
use stamped::{stamped, version_of};

const LIMIT: u64 = 512 << 10;
const KEYS: u64 = 200;
const LENGTH: usize = 1500;

type Values = Bucket<u64, Vec<u8>>;

fn options(disk: &FaultDisk) -> Options {
    Options::new()
        .storage(Arc::new(disk.clone()))
        .durability(Durability::Relaxed)
        .threads(false)
        .segment_bytes(64 << 10)
        .table_bytes(40_000)
        .checkpoint_bytes_per_second(None)
        .memory_limit(LIMIT)
        .seed(7)
}

/// A bucket all of whose values are in tables only.
fn cold() -> (FaultDisk, Database, Values) {
    let disk = FaultDisk::new(1);
    let db = options(&disk).open("/db").unwrap();
    let bucket = db.bucket("values").unwrap();
    for key in 0..KEYS {
        bucket.set(key, stamped(key, 1, LENGTH)).unwrap();
    }
    db.checkpoint().unwrap();
    empty(&bucket);
    (disk, db, bucket)
}

fn empty(bucket: &Values) {
    for key in 0..KEYS {
        let _ = bucket.evict(&key).unwrap();
    }
    // A commit of nothing, so that the moment at which they left is past.
    bucket.remove(&u64::MAX).unwrap();
}

fn tables(disk: &FaultDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.contains("/tab-")).collect()
}

/// Where the value of a key is: of which file, and at which byte.
fn place(disk: &FaultDisk, key: u64) -> (String, usize) {
    let bytes = stamped(key, 1, LENGTH);
    let find = |path: &String| {
        let content = disk.content(Path::new(path))?;
        content.windows(64).position(|window| window == &bytes[..64])
    };
    let found = tables(disk).into_iter().find_map(|path| find(&path).map(|at| (path, at)));
    found.expect("it is in a table, not compressed")
}

fn file_error(error: &Error) -> Option<&CheckpointError> {
    match error {
        Error::Fetch(FetchError::File(error)) => Some(error),
        _ => None,
    }
}

/// Reads every key once. How many could not be read.
#[track_caller]
fn read_all(bucket: &Values, version: u64, file: &str) -> Vec<u64> {
    let mut lost = Vec::new();
    for key in 0..KEYS {
        match bucket.get(&key) {
            Ok(found) => assert_eq!(version_of(key, &found.unwrap()), version),
            Err(error) => {
                assert!(file_error(&error).is_some(), "{error}");
                let text = error.to_string();
                let name = file.rsplit('/').next().unwrap();
                assert!(text.contains(name), "{text} does not name {name}");
                lost.push(key);
            }
        }
    }
    lost
}

#[test]
fn damage_to_a_cold_value_is_told_and_others_are_read() {
    let (disk, db, bucket) = cold();
    let (file, at) = place(&disk, 50);
    assert!(disk.flip_bit(Path::new(&file), (at as u64 + 700) * 8 + 3));
    let lost = read_all(&bucket, 1, &file);
    assert!(lost.contains(&50), "{lost:?}");
    assert!(lost.len() < 60, "one block is lost, not {} values", lost.len());
    let error = bucket.get(&50).unwrap_err();
    let offset = error.to_string();
    assert!(offset.chars().any(|digit| digit.is_ascii_digit()), "{offset}");

    // The key is there, and can be written, read and removed.
    assert!(bucket.contains_key(&50).unwrap());
    assert_eq!(bucket.len().unwrap() as u64, KEYS);
    let refused = bucket.insert(50, stamped(50, 2, LENGTH)).unwrap_err();
    assert!(file_error(&refused).is_some(), "{refused}");
    bucket.set(50, stamped(50, 2, LENGTH)).unwrap();
    assert_eq!(version_of(50, &bucket.get(&50).unwrap().unwrap()), 2);
    // In a table of its own, and read by nobody since.
    empty(&bucket);
    let other = 120;
    let (file, at) = place(&disk, other);
    assert!(disk.flip_bit(Path::new(&file), at as u64 * 8));
    assert!(bucket.remove(&other).is_err(), "its value is asked for");
    assert_eq!(bucket.remove_range(other..=other).unwrap(), 1);
    assert_eq!(bucket.get(&other).unwrap(), None);
    assert!(!db.verify().unwrap().is_sound());
    db.check();
}

#[test]
fn iterations_that_meet_damage_end_and_say_why() {
    let (disk, db, bucket) = cold();
    let (file, at) = place(&disk, 100);
    assert!(disk.flip_bit(Path::new(&file), at as u64 * 8));
    let is_told = |error: Option<&FetchError>| matches!(error, Some(FetchError::File(_)));

    let mut entries = bucket.iter().unwrap();
    let found = entries.by_ref().map(|(key, bytes)| assert_eq!(version_of(key, &bytes), 1)).count();
    assert!(is_told(entries.error()) && found as u64 <= 100, "{found}");
    assert!(entries.next().is_none());
    let mut entries = bucket.iter().unwrap();
    let found = entries.by_ref().rev().count();
    assert!(is_told(entries.error()) && (found as u64) < KEYS - 100, "{found}");

    let snapshot = db.snapshot();
    let mut seen = 0;
    let visited = snapshot.iter(&bucket).unwrap().visit(|key, bytes| {
        assert_eq!((*key, version_of(*key, bytes)), (seen, 1));
        seen += 1;
        ControlFlow::Continue(())
    });
    assert!(is_told(visited.as_ref().err()), "{visited:?}");
    assert!(seen <= 100);
    let mut entries = snapshot.range::<_, _, u64>(&bucket, 90..).unwrap();
    for (key, bytes) in entries.by_ref() {
        assert_eq!(version_of(*key, bytes), 1);
    }
    assert!(is_told(entries.error()));

    let tx = db.begin();
    tx.set(&bucket, 0, stamped(0, 2, LENGTH)).unwrap();
    let mut entries = tx.iter(&bucket).unwrap();
    while entries.next().is_some() {}
    assert!(is_told(entries.error()));
    drop(entries);
    assert!(file_error(&tx.commit().unwrap_err()).is_some());
    assert_eq!(version_of(0, &bucket.get(&0).unwrap().unwrap()), 1, "it was not committed");
    // What only looks at keys goes on.
    assert_eq!(snapshot.len(&bucket).unwrap() as u64, KEYS);
    db.check();
}

/// Eviction looks at the block first: a value that cannot come back stays.
#[test]
fn a_value_whose_file_is_damaged_is_not_evicted() {
    let (disk, db, bucket) = cold();
    for key in 0..KEYS {
        assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
    }
    for key in [20, 120] {
        let (file, at) = place(&disk, key);
        assert!(disk.flip_bit(Path::new(&file), (at as u64 + 1000) * 8));
    }
    empty(&bucket);
    let mut last = 1000;
    for key in 1000..1500 {
        match bucket.set(key, stamped(key, 1, LENGTH)) {
            Ok(()) => last = key,
            // What cannot leave was asked first; see below.
            Err(Error::MemoryLimit { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(db.stats().memory.buckets.total() <= LIMIT);
    }
    assert!(last > 1100, "{last}");
    for key in (0..KEYS).chain(1000..=last) {
        assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
    }
    db.check();
}

/// Some values that cannot leave, of all that could, ended the search for room.
#[test]
fn damaged_values_do_not_keep_others_from_leaving() {
    let (disk, db, bucket) = cold();
    for key in 0..KEYS {
        bucket.get(&key).unwrap();
    }
    let (file, at) = place(&disk, 20);
    assert!(disk.flip_bit(Path::new(&file), (at as u64 + 1000) * 8));
    for key in 1000..1500 {
        bucket.set(key, stamped(key, 1, LENGTH)).unwrap();
    }
    db.check();
}

/// Any damage anywhere in any table, while the database is open: right values or errors.
#[test]
fn random_damage_never_shows_other_data() {
    let mut rng = Rng::new(rng::seed());
    for round in 0..rng::env("ROUNDS", 60) {
        let (disk, db, bucket) = cold();
        let files = tables(&disk);
        assert!(files.len() > 3, "{files:?}");
        let file = &files[rng.below(u32::try_from(files.len()).unwrap()) as usize];
        let path = Path::new(file);
        let length = disk.content(path).unwrap().len();
        match rng.below(4) {
            0 | 1 => assert!(disk.flip_bit(path, rng.next() % (length as u64 * 8))),
            2 => disk.truncate(path, usize::try_from(rng.next()).unwrap() % length),
            _ => {
                let sector = rng.below(u32::try_from(length / 512).unwrap()) as usize;
                assert!(disk.zero_sector(path, sector));
            }
        }
        let lost = read_all(&bucket, 1, file);
        assert!((lost.len() as u64) < KEYS, "round {round}: everything is lost");
        for key in 0..KEYS {
            bucket.set(key, stamped(key, 2, LENGTH)).unwrap();
        }
        assert!(read_all(&bucket, 2, file).is_empty());
        db.check();
    }
}

/// The files change places: a value of another key or bucket is found where one was.
#[test]
fn tables_that_changed_places_are_told() {
    let (disk, db, bucket) = cold();
    let files = tables(&disk);
    for pair in files.windows(2) {
        disk.swap_files(Path::new(&pair[0]), Path::new(&pair[1]));
    }
    for key in 0..KEYS {
        match bucket.get(&key) {
            Ok(found) => assert_eq!(version_of(key, &found.unwrap()), 1),
            Err(error) => assert!(file_error(&error).is_some(), "{error}"),
        }
    }
    db.check();
}

/// One read of a file fails: one answer is an error, and the next one is right.
#[test]
fn a_read_that_fails_is_an_error_once() {
    for fault in [Fault::Io, Fault::Interrupted, Fault::Short] {
        let (disk, db, bucket) = cold();
        for key in 0..KEYS / 2 {
            let before = db.stats().fetches;
            disk.fail_nth(Op::Read, 1, fault);
            match bucket.get(&key) {
                Ok(found) => {
                    assert_eq!(version_of(key, &found.unwrap()), 1);
                    let reads = fault != Fault::Io && db.stats().fetches > before;
                    assert!(reads, "{key}: read in spite of {fault:?}, or not read");
                }
                Err(error) => {
                    assert_eq!(fault, Fault::Io, "{error}");
                    assert!(file_error(&error).is_some(), "{error}");
                }
            }
            assert_eq!(version_of(key, &bucket.get(&key).unwrap().unwrap()), 1);
            if key % 10 == 0 {
                disk.fail_nth(Op::Read, 1, fault);
                let tx = db.begin();
                let read = tx.get(&bucket, &(key + 100)).map(|it| it.is_some());
                tx.set(&bucket, KEYS, stamped(KEYS, key, LENGTH)).unwrap();
                let committed = tx.commit();
                assert!(matches!(read, Ok(true)) || fault == Fault::Io, "{read:?}");
                assert!(committed.is_ok() || read.is_err(), "{committed:?}");
            }
        }
        assert!(db.stats().log.unwrap().failure.is_none());
        db.check();
    }
}

/// What decoding a value does, for the test below: nothing, fail, or panic.
static MOOD: AtomicU8 = AtomicU8::new(0);

#[derive(Clone, Debug, PartialEq)]
struct Moody(Vec<u8>);

impl Encode for Moody {
    fn type_identity() -> String {
        "moody".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.last(&self.0)
    }
}

impl Decode for Moody {
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        match MOOD.load(Ordering::SeqCst) {
            1 => Err(from.error("another mood")),
            2 => panic!("a mood"),
            _ => from.last().map(Self),
        }
    }
}

#[test]
fn a_decoder_that_fails_or_panics_hurts_only_who_called() {
    let disk = FaultDisk::new(1);
    let db = options(&disk).open("/db").unwrap();
    let measured = palisade::BucketOptions::new().measure_values(|it: &Moody| it.0.capacity());
    let bucket = db.bucket_with::<u64, Moody>("values", measured).unwrap();
    let value = |key| Moody(stamped(key, 1, LENGTH));
    for key in 0..KEYS {
        bucket.set(key, value(key)).unwrap();
    }
    db.checkpoint().unwrap();
    for mood in [1, 2, 1, 2] {
        for key in 0..KEYS {
            let _ = bucket.evict(&key).unwrap();
        }
        let snapshot = db.snapshot();
        MOOD.store(mood, Ordering::SeqCst);
        let ask =
            |read: &dyn Fn() -> Result<bool, Error>| match catch_unwind(AssertUnwindSafe(read)) {
                Ok(found) => {
                    let is_told = matches!(found, Err(Error::Fetch(FetchError::Decode(_))));
                    assert!(is_told && mood == 1, "{found:?}");
                }
                Err(_) => assert_eq!(mood, 2),
            };
        for key in 0..20 {
            ask(&|| bucket.get(&key).map(|it| it.is_some()));
            ask(&|| snapshot.get(&bucket, &key).map(|it| it.is_some()));
            ask(&|| snapshot.get_with(&bucket, &key, |_| true).map(|it| it.is_some()));
            ask(&|| db.begin().get(&bucket, &key).map(|it| it.is_some()));
            ask(&|| bucket.remove(&key).map(|it| it.is_some()));
            ask(&|| bucket.first_key_value().map(|it| it.is_some()));
            ask(&|| db.write(|tx| tx.pop_last(&bucket).map(|it| it.is_some())));
            ask(&|| {
                snapshot.iter(&bucket)?.visit(|_, _| ControlFlow::Continue(()))?;
                Ok(true)
            });
        }
        bucket.set(50, value(50)).unwrap();
        db.checkpoint().unwrap();
        MOOD.store(0, Ordering::SeqCst);
        drop(snapshot);
        for key in 0..KEYS {
            assert_eq!(bucket.get(&key).unwrap().unwrap(), value(key));
        }
        db.vacuum(usize::MAX);
        db.check();
    }
}

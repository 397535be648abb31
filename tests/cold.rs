//! Values that leave memory and come back: a durable bucket that is larger than its limit.

use palisade::{BucketOptions, Database, Durability, Options};

fn value(key: u64, round: u64) -> Vec<u8> {
    let mut bytes = vec![u8::try_from((key + round) % 251).unwrap(); 1000];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    bytes[8..16].copy_from_slice(&round.to_be_bytes());
    bytes
}

fn open(path: &std::path::Path, limit: u64) -> Database {
    Options::new().durability(Durability::Relaxed).memory_limit(limit).open(path).unwrap()
}

const KEYS: u64 = 20_000;
const LIMIT: u64 = 8 << 20;

#[test]
fn a_bucket_larger_than_the_limit_is_written_read_and_recovered() {
    let folder = tempfile::tempdir().unwrap();
    {
        let db = open(folder.path(), LIMIT);
        let bucket = db.bucket::<u64, Vec<u8>>("large").unwrap();
        for key in 0..KEYS {
            bucket.set(key, value(key, 0)).unwrap();
            assert!(db.stats().memory.buckets.total() <= LIMIT);
        }
        for key in (0..KEYS).rev() {
            assert_eq!(bucket.get(&key).unwrap().unwrap(), value(key, 0), "{key}");
        }
        assert!(db.stats().fetches > KEYS / 2);
        for key in (0..KEYS).step_by(3) {
            assert_eq!(bucket.insert(key, value(key, 1)).unwrap().unwrap(), value(key, 0));
        }
        db.close().unwrap();
    }
    let db = open(folder.path(), LIMIT);
    let bucket = db.bucket::<u64, Vec<u8>>("large").unwrap();
    let memory = db.stats().memory;
    assert!(memory.buckets.total() <= LIMIT, "{memory:?}");
    assert_eq!(bucket.len().unwrap() as u64, KEYS);
    for (place, (key, bytes)) in (0..).zip(bucket.iter().unwrap()) {
        assert_eq!((key, bytes), (place, value(place, u64::from(place % 3 == 0))));
    }
    db.check();
    let _ = BucketOptions::<u64, u64>::new();
}

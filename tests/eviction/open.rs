//! What open transactions have written and not committed counts, and what they have read.

use std::time::Duration;

use palisade::{Bucket, BucketOptions, Database, Error, EvictionPolicy, Options};

use super::used;

const LIMIT: u64 = 1 << 20;

fn limited() -> Database {
    Options::new().memory_limit(LIMIT).in_memory()
}

fn cache(db: &Database) -> Bucket<u64, Vec<u8>> {
    let options = BucketOptions::new().evict(EvictionPolicy::S3Fifo);
    db.volatile_bucket_with("cache", options).unwrap()
}

/// Inserts more than the limit has room for. Answers what is there then.
fn fill(db: &Database, cache: &Bucket<u64, Vec<u8>>, first: u64) -> u64 {
    for key in first..first + 1200 {
        cache.insert(key, vec![0; 1000]).unwrap();
    }
    let memory = used(db, "cache");
    memory.total() - memory.dead
}

fn total(db: &Database) -> u64 {
    db.stats().memory.buckets.total()
}

/// A transaction does not take more than the limit before somebody tells it.
#[test]
fn writes_of_a_transaction_end_at_the_limit() {
    let db = limited();
    let bucket: Bucket<u64, Vec<u8>> = db.volatile_bucket("values").unwrap();
    let tx = db.begin();
    let refused = (0..10_000).find_map(|key| {
        let error = tx.insert(&bucket, key, vec![0; 4096]).err()?;
        Some((key, error))
    });
    let (written, error) = refused.expect("ten thousand values of 4 KiB are 40 MiB");
    let Error::MemoryLimit { bucket: None, needed, limit: LIMIT, .. } = error else {
        panic!("{error:?}")
    };
    assert!(needed > LIMIT && written * 4096 <= needed && written < 256, "{written}: {error}");
    assert!(matches!(tx.commit(), Err(Error::MemoryLimit { .. })), "nor does it commit");
    assert_eq!((total(&db), bucket.len().unwrap()), (0, 0));
    bucket.insert(1, vec![0; 4096]).unwrap();
    db.check();
}

/// Others give way to what a transaction has not committed yet, and have the room back after.
#[test]
fn others_give_way_to_private_writes() {
    let db = limited();
    let cache = cache(&db);
    let bucket: Bucket<u64, Vec<u8>> = db.volatile_bucket("values").unwrap();
    let fill = |first| fill(&db, &cache, first);
    // It sees nothing of the cache, so nothing of that has to stay for it.
    let tx = db.begin();
    let before = fill(0);
    assert!(before > LIMIT / 10 * 9, "{before}");
    for key in 0..128 {
        tx.insert(&bucket, key, vec![0; 4096]).unwrap();
    }
    let squeezed = fill(2000);
    assert!(squeezed < LIMIT / 8 * 5, "{squeezed} beside half the limit");
    tx.rollback();
    let again = fill(4000);
    assert!(again > LIMIT / 10 * 9, "{again}");
    db.check();
}

/// What a transaction remembers of its reads counts, once for each key.
#[test]
fn others_give_way_to_what_a_transaction_has_read() {
    let db = limited();
    let cache = cache(&db);
    let fill = |first| fill(&db, &cache, first);
    // It sees nothing of the cache, so nothing of that has to stay for it.
    let tx = db.begin();
    let before = fill(0);
    for _ in 0..10 {
        for key in 1_000_000..1_020_000 {
            assert!(tx.get(&cache, &key).unwrap().is_none());
        }
    }
    let squeezed = fill(2000);
    let given = before - squeezed;
    assert!((160_000..400_000).contains(&given), "{given} bytes for 20 000 keys of 8 bytes");
    drop(tx);
    assert!(fill(4000) > LIMIT / 10 * 9);
    db.check();
}

/// A transaction that would remember more than the whole limit is told.
#[test]
fn reads_of_a_transaction_end_at_the_limit() {
    let db = limited();
    let bucket: Bucket<String, u64> = db.volatile_bucket("names").unwrap();
    let tx = db.begin();
    let read = |number: u64| tx.get(&bucket, format!("{number:040}").as_str());
    let refused = (0..100_000).find_map(|number| Some((number, read(number).err()?)));
    let (count, error) = refused.expect("a hundred thousand names of 40 bytes are 6.4 MB");
    assert!(matches!(error, Error::MemoryLimit { bucket: None, limit: LIMIT, .. }), "{error:?}");
    assert!((8_000..16_400).contains(&count), "{count} names of 40 bytes, each behind 24");
    let scan = || tx.range(&bucket, String::new()..).map(|mut range| range.next().is_some());
    assert!(scan().is_err(), "nor does it scan");
    drop(tx);
    let tx = db.begin();
    let scan = || tx.range(&bucket, "a".repeat(1000)..).map(|_| ());
    assert!((0..2000).any(|_| scan().is_err()), "two thousand scans from a key of a kilobyte");
    drop(tx);
    bucket.insert("all of it is there again".into(), 1).unwrap();
    assert!(total(&db) < 1000);
    db.check();
}

/// A time to live that no clock can show is as good as none.
#[test]
fn entry_may_live_for_ever() {
    let db = Database::in_memory();
    let options = BucketOptions::new().expires();
    let bucket: Bucket<u64, u64> = db.volatile_bucket_with("expiring", options).unwrap();
    bucket.insert_for(1, 7, Duration::MAX).unwrap();
    db.write(|tx| Ok(tx.insert_for(&bucket, 2, 8, Duration::MAX)?.copied())).unwrap();
    assert_eq!((bucket.get(&1).unwrap(), bucket.get(&2).unwrap()), (Some(7), Some(8)));
}

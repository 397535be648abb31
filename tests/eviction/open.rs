//! What open transactions have written and not committed counts.

use std::time::Duration;

use palisade::{Bucket, BucketOptions, Database, Error, EvictionPolicy, Options};

use super::used;

const LIMIT: u64 = 1 << 20;

fn limited() -> Database {
    Options::new().memory_limit(LIMIT).in_memory()
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
    let options = BucketOptions::new().evict(EvictionPolicy::S3Fifo);
    let cache: Bucket<u64, Vec<u8>> = db.volatile_bucket_with("cache", options).unwrap();
    let bucket: Bucket<u64, Vec<u8>> = db.volatile_bucket("values").unwrap();
    let fill = |first: u64| {
        for key in first..first + 1200 {
            cache.insert(key, vec![0; 1000]).unwrap();
        }
        let memory = used(&db, "cache");
        memory.total() - memory.dead
    };
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

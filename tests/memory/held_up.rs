//! A transaction that is left open holds up what others removed and what left a cache, since it may
//! be compared by it. No more than was allowed: then it is given up, and finds that out.

use palisade::{
    Bucket, BucketOptions, ConflictKind, Database, Error, EvictionPolicy, Isolation, Options,
    Transaction, TransactionOptions,
};

use super::{in_use, scale, turn};

/// What a transaction may hold up.
const ALLOWED: usize = 1 << 20;
/// Twice that, since what is given up is there until nobody can be comparing by it; what waits to
/// be freed; and a cache.
const BOUND: isize = 5 << 20;

fn database() -> Database {
    Options::new().retained_bytes_max(ALLOWED).in_memory()
}

fn cache(db: &Database) -> Bucket<u64, String> {
    let options = BucketOptions::new().memory_limit(160_000).evict(EvictionPolicy::Lru);
    let cache = db.volatile_bucket_with("cache", options).unwrap();
    for key in 0..5000 {
        cache.insert(key, key.to_string()).unwrap();
    }
    cache
}

/// So many entries come and leave, in transactions that take less memory than their entries.
fn churn(db: &Database, cache: &Bucket<u64, String>, count: u64) {
    for first in (10_000..10_000 + count).step_by(100) {
        let insert = |key: u64, tx: &Transaction<'_>| tx.set(cache, key, key.to_string());
        db.write(|tx| (first..first + 100).try_for_each(|key| insert(key, tx))).unwrap();
    }
}

fn is_lost(tx: Transaction<'_>) {
    let error = tx.commit().expect_err("its window was given up");
    let Error::Conflict(evidence) = &error else { panic!("{error:?}") };
    assert_eq!(evidence.kind(), ConflictKind::WindowLost, "{error}");
}

/// What it has been lent it keeps, also when it cannot commit any more.
#[test]
fn cache_beside_an_open_transaction_is_bounded() {
    let _turn = turn();
    let db = database();
    let cache = cache(&db);
    let key = cache.first_key_value().unwrap().unwrap().0;
    let tx = db.begin();
    let lent = tx.get(&cache, &key).unwrap().unwrap();
    tx.set(&cache, key, 7.to_string()).unwrap();
    let before = in_use();
    churn(&db, &cache, scale(300_000));
    let grown = in_use() - before;
    assert!(grown < BOUND, "{grown} bytes beside an open transaction");
    assert_eq!(lent, &key.to_string());
    assert_eq!(tx.get(&cache, &key).unwrap(), Some(&7.to_string()));
    assert!(cache.get(&key).unwrap().is_none(), "it left long ago");
    is_lost(tx);
    churn(&db, &cache, 1000);
    db.check();
}

/// One that only writes over what it saw, which is gone by the time it commits.
#[test]
fn writer_over_what_left_is_told() {
    let _turn = turn();
    let db = database();
    let cache = cache(&db);
    let keys: Vec<u64> = cache.iter().unwrap().map(|(key, _)| key).take(100).collect();
    let tx = db.begin_with(&TransactionOptions::new().isolation(Isolation::Snapshot));
    for &key in &keys {
        tx.set(&cache, key, 7.to_string()).unwrap();
    }
    churn(&db, &cache, scale(300_000));
    is_lost(tx);
    for key in keys {
        assert!(cache.get(&key).unwrap().is_none());
    }
    db.check();
}

/// The first committer wins, though nothing is left by which to tell.
#[test]
fn key_that_came_and_went_is_not_written_unseen() {
    let _turn = turn();
    let db = database();
    let bucket: Bucket<u64, u64> = db.bucket("queue").unwrap();
    let options = TransactionOptions::new().isolation(Isolation::Snapshot);
    let tx = db.begin_with(&options);
    assert_eq!(tx.get(&bucket, &5).unwrap(), None);
    bucket.insert(5, 1).unwrap();
    bucket.remove(&5).unwrap();
    let before = in_use();
    for key in 10..scale(200_000) {
        bucket.insert(key, key).unwrap();
        bucket.remove(&key).unwrap();
    }
    let grown = in_use() - before;
    assert!(grown < BOUND, "{grown} bytes beside an open transaction");
    tx.insert(&bucket, 5, 2).unwrap();
    is_lost(tx);
    assert!(bucket.is_empty().unwrap());
    db.check();
}

/// Nothing is given up before the allowance is used.
#[test]
fn transaction_within_the_allowance_commits() {
    let _turn = turn();
    let db = database();
    let cache = cache(&db);
    let tx = db.begin();
    assert!(tx.get(&cache, &9_999).unwrap().is_none());
    tx.set(&cache, 9_999, 1.to_string()).unwrap();
    churn(&db, &cache, 1000);
    tx.commit().unwrap();
    assert_eq!(cache.get(&9_999).unwrap().as_deref(), Some("1"));
}

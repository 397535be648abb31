//! Random histories of a cache: after each step what is counted is what is there, and within the
//! limit; when all is gone, nothing is counted.

use proptest::prelude::*;

use super::*;

const KEYS: u8 = 40;

#[derive(Clone, Debug)]
enum Step {
    /// So many bytes for the key.
    Insert(u8, u8),
    /// For a time that is over, or not, at some later step.
    InsertFor(u8, u8, u16),
    Get(u8),
    Remove(u8),
    Evict(u8),
    Pin(u8, bool),
    RemoveFrom(u8),
    Clear,
    Snapshot,
    /// Closes the one that is so many places from the oldest.
    Close(u8),
    /// Writes all of these, or sees to it that none is written.
    Transaction(Vec<(u8, Option<u8>)>, bool),
    Vacuum(u16),
}

impl Step {
    /// Bytes that it may take although there is no room: what removes is never refused, and leaves
    /// a tombstone where a snapshot sees what was there.
    fn tombstones(&self) -> u64 {
        const EACH: u64 = 64;
        match self {
            Step::Remove(_) => EACH,
            Step::RemoveFrom(_) | Step::Clear => EACH * u64::from(KEYS),
            Step::Transaction(writes, _) => EACH * writes.len() as u64,
            _ => 0,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let writes = prop::collection::vec((key(), prop::option::of(any::<u8>())), 0..6);
    prop_oneof![
        12 => (key(), any::<u8>()).prop_map(|(key, len)| Step::Insert(key, len)),
        3 => (key(), any::<u8>(), 0_u16..200).prop_map(|(key, len, for_us)| {
            Step::InsertFor(key, len, for_us)
        }),
        4 => key().prop_map(Step::Get),
        4 => key().prop_map(Step::Remove),
        3 => key().prop_map(Step::Evict),
        2 => (key(), any::<bool>()).prop_map(|(key, is_on)| Step::Pin(key, is_on)),
        1 => (KEYS - 10..KEYS).prop_map(Step::RemoveFrom),
        1 => Just(Step::Clear),
        2 => Just(Step::Snapshot),
        3 => any::<u8>().prop_map(Step::Close),
        4 => (writes, any::<bool>()).prop_map(|(writes, keep)| Step::Transaction(writes, keep)),
        2 => (0_u16..100).prop_map(Step::Vacuum),
    ]
}

fn value(len: u8) -> String {
    "x".repeat(len.into())
}

fn done<T>(outcome: Result<T, Error>) {
    outcome.unwrap();
}

fn transact(db: &Database, cache: &Bucket<u64, String>, writes: &[(u8, Option<u8>)], keep: bool) {
    let tx = db.begin();
    for &(key, len) in writes {
        let key = u64::from(key);
        match len {
            Some(len) => match tx.insert(cache, key, value(len)) {
                Ok(_) => {}
                // It has written more than there is room for altogether.
                Err(Error::MemoryLimit { needed, limit, .. }) if needed > limit => return,
                Err(error) => panic!("{error}"),
            },
            None => drop(tx.remove(cache, &key).unwrap()),
        }
    }
    if keep {
        unless_full(tx.commit());
    }
}

fn play(policy: EvictionPolicy, limit: u64, steps: &[Step]) {
    let db = Database::in_memory();
    let options = BucketOptions::new().memory_limit(limit).evict(policy).expires();
    let cache = db.volatile_bucket_with::<u64, String>("cache", options).unwrap();
    let (mut snapshots, mut before) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Insert(key, len) => unless_full(cache.insert(u64::from(*key), value(*len))),
            Step::InsertFor(key, len, for_us) => {
                let ttl = Duration::from_micros(u64::from(*for_us));
                unless_full(cache.insert_for(u64::from(*key), value(*len), ttl));
            }
            Step::Get(key) => done(cache.get(&u64::from(*key))),
            Step::Remove(key) => done(cache.remove(&u64::from(*key))),
            Step::Evict(key) => done(cache.evict(&u64::from(*key))),
            Step::Pin(key, true) => done(cache.pin(&u64::from(*key))),
            Step::Pin(key, false) => done(cache.unpin(&u64::from(*key))),
            Step::RemoveFrom(key) => done(cache.remove_range(u64::from(*key)..)),
            Step::Clear => done(cache.clear()),
            Step::Snapshot => snapshots.push(db.snapshot()),
            Step::Close(_) if snapshots.is_empty() => {}
            Step::Close(at) => drop(snapshots.remove(usize::from(*at) % snapshots.len())),
            Step::Transaction(writes, keep) => transact(&db, &cache, writes, *keep),
            Step::Vacuum(budget) => {
                db.vacuum(usize::from(*budget));
            }
        }
        db.check();
        let memory = used(&db, "cache");
        let most = limit.max(before) + step.tombstones();
        assert!(limited(&memory) <= most, "{memory:?} after {step:?}, before {before}");
        before = limited(&memory);
    }
    drop(snapshots);
    cache.clear().unwrap();
    for _ in 0..8 {
        db.vacuum(usize::MAX);
    }
    db.check();
    let stats = db.stats();
    assert_eq!(stats.memory.buckets.total(), 0, "{stats:?}");
    assert_eq!((stats.records, stats.retained_versions), (0, 0), "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn what_is_counted_is_what_is_there(
        policy in prop::sample::select(&POLICIES),
        limit in prop::sample::select(&[1_000_u64, 3_000, 10_000]),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        play(policy, limit, &steps);
    }
}

//! A durable database under a limit beside a sorted map, driven by a seed.
//!
//! After every step the limit holds; now and then all entries are compared, forwards and backwards,
//! one by one and through references; the database is reopened, backed up and verified.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use palisade::{Bucket, BucketOptions, Database, Error, EvictionPolicy, FetchError, Options};

use crate::rng::Rng;
use crate::stamped::{Name, stamped};

/// How a database is opened and filled.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) options: Options,
    pub(crate) policy: Option<EvictionPolicy>,
    pub(crate) limit: u64,
    /// Each bucket has the limit for itself, instead of all together.
    pub(crate) each: bool,
    pub(crate) buckets: usize,
    pub(crate) keys: u32,
    /// Lengths are drawn from these.
    pub(crate) lengths: &'static [usize],
    pub(crate) steps: u64,
    pub(crate) seed: u64,
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            options: Options::new().checkpoint_bytes_per_second(None).segment_bytes(256 << 10),
            policy: None,
            limit: 256 << 10,
            each: false,
            buckets: 1,
            keys: 200,
            lengths: &[0, 1, 15, 16, 100, 900, 1000, 2000, 4000, 5000, 12_000],
            steps: 300,
            seed,
        }
    }
}

type Model<K> = BTreeMap<K, Vec<u8>>;

pub(crate) struct World<K: Name> {
    folder: tempfile::TempDir,
    case: Case,
    limit: u64,
    rng: Rng,
    db: Database,
    buckets: Vec<Bucket<K, Vec<u8>>>,
    models: Vec<Model<K>>,
    version: u64,
}

fn open<K: Name>(
    case: &Case,
    limit: u64,
    path: &std::path::Path,
) -> (Database, Vec<Bucket<K, Vec<u8>>>) {
    let options =
        if case.each { case.options.clone() } else { case.options.clone().memory_limit(limit) };
    let db = options.open(path).unwrap();
    let bucket = |at: usize| {
        let mut options = BucketOptions::new();
        if case.each {
            options = options.memory_limit(limit);
        }
        if let Some(policy) = case.policy {
            options = options.evict(policy);
        }
        db.bucket_with(&format!("bucket {at}"), options).unwrap()
    };
    let buckets = (0..case.buckets).map(bucket).collect();
    (db, buckets)
}

/// All entries, as one iterator after the other tells them.
fn compare<K: Name>(db: &Database, bucket: &Bucket<K, Vec<u8>>, model: &Model<K>, way: u32) {
    let mut found = Model::new();
    match way % 4 {
        0 => {
            let mut entries = bucket.iter().unwrap();
            found.extend(entries.by_ref());
            assert!(entries.error().is_none(), "{:?}", entries.error());
        }
        1 => {
            let mut entries = bucket.iter().unwrap();
            found.extend(entries.by_ref().rev());
            assert!(entries.error().is_none(), "{:?}", entries.error());
        }
        2 => {
            let snapshot = db.snapshot();
            let visited = snapshot.iter(bucket).unwrap().visit(|key, value| {
                assert!(found.insert(key.clone(), value.clone()).is_none(), "{key:?} comes twice");
                ControlFlow::Continue(())
            });
            visited.unwrap();
        }
        _ => {
            let tx = db.begin();
            let visited = tx.iter(bucket).unwrap().visit(|key, value| {
                assert!(found.insert(key.clone(), value.clone()).is_none(), "{key:?} comes twice");
                ControlFlow::Continue(())
            });
            visited.unwrap();
            tx.commit().unwrap();
        }
    }
    assert_eq!(found.len(), model.len());
    for ((key, value), (known, expected)) in found.iter().zip(model) {
        assert_eq!(key, known);
        assert!(value == expected, "{key:?}: {} for {} bytes", value.len(), expected.len());
    }
    assert_eq!(bucket.len().unwrap(), model.len());
}

impl<K: Name> World<K> {
    pub(crate) fn new(case: Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (db, buckets) = open(&case, case.limit, &folder.path().join("db"));
        let models = vec![Model::new(); case.buckets];
        let (limit, rng) = (case.limit, Rng::new(case.seed));
        Self { folder, case, limit, rng, db, buckets, models, version: 0 }
    }

    /// Runs the case from its first step to its last comparison.
    pub(crate) fn run(mut self) {
        for step in 0..self.case.steps {
            let at = self.rng.below(u32::try_from(self.case.buckets).unwrap()) as usize;
            self.step(at);
            self.check_limit(&format!("SEED={:#x}, step {step}", self.case.seed));
        }
        for way in 0..4 {
            self.compare(way);
        }
        self.reopen(self.case.limit);
        for at in 0..self.case.buckets {
            // In an order that no policy expects.
            let mut keys: Vec<K> = self.models[at].keys().cloned().collect();
            while !keys.is_empty() {
                let next = self.rng.below(u32::try_from(keys.len()).unwrap()) as usize;
                let key = keys.swap_remove(next);
                assert!(self.buckets[at].get(&key).unwrap().as_ref() == self.models[at].get(&key));
                self.check_limit("the last reads");
            }
        }
        self.db.check();
        assert_sound(&self.db);
    }

    fn check_limit(&self, when: &str) {
        let most = self.limit + self.limit / 16;
        if self.case.each {
            for bucket in self.db.buckets() {
                assert!(bucket.memory.total() <= most, "{when}: {bucket:?}, limit {}", self.limit);
            }
        } else {
            let memory = self.db.stats().memory;
            assert!(memory.buckets.total() <= most, "{when}: {memory:?}");
        }
    }

    fn key(&mut self) -> (u32, K) {
        let number = self.rng.below(self.case.keys);
        (number, K::of(number))
    }

    fn value(&mut self, number: u32) -> Vec<u8> {
        self.version += 1;
        let at = self.rng.below(u32::try_from(self.case.lengths.len()).unwrap()) as usize;
        stamped(number.into(), self.version, self.case.lengths[at])
    }

    fn step(&mut self, at: usize) {
        match self.rng.below(100) {
            0..40 => self.write(at),
            40..50 => self.remove(at),
            50..80 => self.read(at),
            80..84 => self.transact(at),
            84..90 => drop(self.db.checkpoint().unwrap()),
            90..93 => drop(self.db.vacuum(usize::MAX)),
            93..95 => {
                let key = self.key().1;
                match self.buckets[at].evict(&key) {
                    Ok(_) | Err(Error::NotACache { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            95..97 => {
                let way = self.rng.below(4);
                self.compare(way);
            }
            97 => self.back_up(),
            98 => assert_sound(&self.db),
            _ => {
                let limit = self.case.limit - u64::from(self.rng.below(3)) * self.case.limit / 8;
                self.reopen(limit);
            }
        }
    }

    fn write(&mut self, at: usize) {
        let (number, key) = self.key();
        let value = self.value(number);
        let (bucket, model) = (&self.buckets[at], &mut self.models[at]);
        let before = model.get(&key).cloned();
        match self.rng.below(6) {
            0 | 1 => bucket.set(key.clone(), value.clone()).unwrap(),
            2 => {
                let insert = || bucket.insert(key.clone(), value.clone());
                assert!(with_room(&self.db, insert) == before);
            }
            3 => {
                let is_new = bucket.insert_if_absent(key.clone(), value.clone()).unwrap();
                assert_eq!(is_new, before.is_none());
                if !is_new {
                    return;
                }
            }
            4 => {
                let change = |old: Option<&Vec<u8>>| {
                    assert!(old == before.as_ref());
                    Some(value.clone())
                };
                let now = with_room(&self.db, || bucket.update(key.clone(), change));
                assert!(now.as_ref() == Some(&value));
            }
            _ => {
                let Some(before) = before else { return };
                let swap = || bucket.compare_and_swap(&key, &before, value.clone());
                assert!(with_room(&self.db, swap));
                assert!(
                    before == value || !bucket.compare_and_swap(&key, &before, vec![]).unwrap()
                );
            }
        }
        model.insert(key, value);
    }

    fn remove(&mut self, at: usize) {
        let (number, key) = self.key();
        let (bucket, model) = (&self.buckets[at], &mut self.models[at]);
        match self.rng.below(8) {
            0 => assert!(with_room(&self.db, || bucket.pop_first()) == model.pop_first()),
            1 => assert!(with_room(&self.db, || bucket.pop_last()) == model.pop_last()),
            2 => {
                let other = K::of((number + 3) % self.case.keys);
                let (low, high) = (key.clone().min(other.clone()), key.max(other));
                let gone: Vec<K> =
                    model.range(&low..&high).map(|it| it.0.clone()).take(9).collect();
                let high = if gone.len() < 9 { high } else { gone[8].clone() };
                let gone = model.range(&low..&high).map(|it| it.0.clone()).collect::<Vec<_>>();
                assert_eq!(bucket.remove_range(&low..&high).unwrap(), gone.len());
                for key in &gone {
                    model.remove(key);
                }
            }
            _ => assert!(with_room(&self.db, || bucket.remove(&key)) == model.remove(&key)),
        }
    }

    fn read(&mut self, at: usize) {
        let key = self.key().1;
        let (bucket, model) = (&self.buckets[at], &self.models[at]);
        let expected = model.get(&key);
        match self.rng.below(5) {
            0 | 1 => assert!(bucket.get(&key).unwrap().as_ref() == expected, "{key:?}"),
            2 => {
                let same = bucket.get_with(&key, |value| Some(value) == expected).unwrap();
                assert!(same.unwrap_or(expected.is_none()), "{key:?}");
            }
            3 => {
                let snapshot = self.db.snapshot();
                let found = with_room(&self.db, || snapshot.get(bucket, &key));
                assert!(found == expected, "{key:?}");
            }
            _ => {
                assert_eq!(bucket.contains_key(&key).unwrap(), expected.is_some());
                let first = bucket.first_key_value().unwrap();
                assert!(first.as_ref().map(|(key, value)| (key, value)) == model.first_key_value());
            }
        }
    }

    /// Reads and writes several keys at once, and rolls back now and then.
    fn transact(&mut self, at: usize) {
        let mut next = self.models[at].clone();
        let writes: Vec<_> = (0..3)
            .map(|_| {
                let (number, key) = self.key();
                (key, self.value(number))
            })
            .collect();
        let read = self.key().1;
        let (db, bucket) = (&self.db, &self.buckets[at]);
        let tx = db.begin();
        for (key, value) in writes {
            let found = with_room(db, || tx.get(bucket, &read));
            assert!(found == next.get(&read), "{read:?}");
            let before = with_room(db, || tx.insert(bucket, key.clone(), value.clone()));
            assert!(before == next.get(&key), "{key:?}");
            next.insert(key, value);
        }
        if self.rng.percent(30) {
            tx.rollback();
        } else {
            tx.commit().unwrap();
            self.models[at] = next;
        }
    }

    fn compare(&self, way: u32) {
        for (bucket, model) in self.buckets.iter().zip(&self.models) {
            compare(&self.db, bucket, model, way);
        }
    }

    fn back_up(&mut self) {
        let copy = self.folder.path().join(format!("copy {}", self.version));
        self.db.backup(&copy).unwrap();
        let (db, buckets) = open(&self.case, self.limit, &copy);
        for (bucket, model) in buckets.iter().zip(&self.models) {
            compare(&db, bucket, model, self.rng.below(4));
        }
        assert_sound(&db);
        drop((db, buckets));
        std::fs::remove_dir_all(copy).unwrap();
    }

    fn reopen(&mut self, limit: u64) {
        let closes = self.rng.percent(50);
        self.buckets.clear();
        let db = std::mem::replace(&mut self.db, Database::in_memory());
        if closes {
            db.close().unwrap();
        } else {
            drop(db);
        }
        (self.db, self.buckets) = open(&self.case, limit, &self.folder.path().join("db"));
        self.limit = limit;
    }
}

/// What `attempt` answers; once more after a checkpoint, if a value cannot be read back because all
/// that is in memory is in the log only.
fn with_room<T>(db: &Database, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    match attempt() {
        Err(Error::Fetch(FetchError::NoRoom { .. })) => {
            db.checkpoint().unwrap();
            attempt().unwrap()
        }
        outcome => outcome.unwrap(),
    }
}

#[track_caller]
pub(crate) fn assert_sound(db: &Database) {
    let verified = db.verify().unwrap();
    assert!(verified.is_sound(), "{:?}", verified.problems);
}

//! The engine under trial: the eight keys lie in two buckets, cut at any place.
//!
//! The names of the keys are prefixes of one another as the intervals in `program` want it: `a`
//! begins 0 to 2, `b` 3 to 6, `bb` 5 and 6, `c` 7. A scan over the cut is two ranges, one behind
//! the other.
//!
//! The buckets may be caches (`Cache`). Their listener collects what leaves, in the order in which
//! it is told.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade::testing::{FaultDisk, Moment};
use palisade::{Bucket, BucketOptions, ConflictKind, Database, Error, EvictionPolicy, Isolation};
use palisade::{Options, Snapshot};
use palisade::{Transaction as Txn, TransactionOptions};

use super::leaving::Leaving;
use super::store::{ABSENT, Abort, Key, Level, Reader, Scan, Store, Transaction, Yield};

const NAMES: [&str; 8] = ["a", "aa", "ab", "b", "ba", "bb", "bba", "c"];

pub(crate) struct Engine {
    db: Database,
    low: Bucket<String, u64>,
    high: Bucket<String, u64>,
    cut: Key,
    level: Level,
    cache: Cache,
    told: Arc<Mutex<Vec<u64>>>,
    /// Competes with the others for the room, where they share it.
    other: Option<Bucket<u64, u64>>,
    pressed: AtomicU64,
}

/// How much room caches have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    #[default]
    Unlimited,
    /// Each bucket has room for so many entries.
    Each(u64),
    /// All buckets together have, another one included.
    Shared(u64),
}

/// What makes the entries of the two buckets leave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cache {
    pub(crate) policy: Option<EvictionPolicy>,
    pub(crate) room: Room,
    pub(crate) ttl: Option<Duration>,
}

/// A transaction or a snapshot, and the store it belongs to.
pub(crate) struct Open<'s, T> {
    store: &'s Engine,
    inner: T,
}

fn isolation(level: Level) -> Isolation {
    match level {
        Level::Serializable => Isolation::Serializable,
        Level::Snapshot => Isolation::Snapshot,
    }
}

/// The rank of a key of the store.
fn rank(name: &str) -> Key {
    let at = NAMES.iter().position(|known| *known == name);
    u8::try_from(at.expect("only these keys were inserted")).expect("there are eight")
}

fn abort(error: Error) -> Abort {
    if let Error::MemoryLimit { .. } = error {
        return Abort::NoRoom;
    }
    let Error::Conflict(conflict) = error else { panic!("no conflict: {error}") };
    match conflict.kind() {
        ConflictKind::WriteWrite => Abort::WriteWrite,
        ConflictKind::Cycle => Abort::Cycle,
        ConflictKind::ReadOnlyPivot => Abort::ReadOnlyPivot,
        ConflictKind::WindowLost => Abort::WindowLost,
        ConflictKind::SearchBudget => Abort::SearchBudget,
        other => panic!("an unknown kind of conflict: {other}"),
    }
}

impl Engine {
    /// An empty database at `level`, with the keys below `cut` in one bucket and the others in
    /// another.
    pub(crate) fn new(level: Level, cut: Key) -> Self {
        Self::with(Options::new(), level, cut)
    }

    pub(crate) fn with(options: Options, level: Level, cut: Key) -> Self {
        Self::over(options.isolation(isolation(level)).in_memory(), level, cut)
    }

    /// A store whose commits are durable before they return, on a simulated disk that lets others
    /// run while it syncs, and with checkpoints all the time.
    pub(crate) fn on_disk(level: Level, cut: Key) -> Self {
        let disk = FaultDisk::new(cut.into());
        disk.observe(|_, _, moment| {
            if moment == Moment::During {
                std::thread::yield_now();
            }
        });
        let options = Options::new().isolation(isolation(level)).storage(Arc::new(disk));
        let options = options.segment_bytes(64 << 10).checkpoint_after(64 << 10, 0);
        Self::over(options.open("/db").expect("the disk is empty and sound"), level, cut)
    }

    fn over(db: Database, level: Level, cut: Key) -> Self {
        let low = db.bucket("low").expect("the name is free");
        let high = db.bucket("high").expect("the name is free");
        let (told, cache) = (Arc::default(), Cache::default());
        Self { db, low, high, cut, level, cache, told, other: None, pressed: AtomicU64::new(0) }
    }

    /// The same over two caches.
    pub(crate) fn caching(level: Level, cut: Key, cache: Cache) -> Self {
        let options = Options::new().isolation(isolation(level));
        let db = match cache.room {
            Room::Shared(entries) => options.memory_limit(entries * entry_bytes()).in_memory(),
            _ => options.in_memory(),
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let bucket = |name| {
            let told = Arc::clone(&told);
            let mut options = BucketOptions::new().on_departure(move |_: &String, value, _| {
                told.lock().expect("no listener panics").push(*value);
            });
            if let Some(policy) = cache.policy {
                options = options.evict(policy);
            }
            if let Room::Each(entries) = cache.room {
                options = options.memory_limit(entries * entry_bytes());
            }
            if let Some(ttl) = cache.ttl {
                options = options.time_to_live(ttl);
            }
            db.volatile_bucket_with(name, options).expect("the name is free")
        };
        let (low, high) = (bucket("low"), bucket("high"));
        let shared = cache.policy.filter(|_| matches!(cache.room, Room::Shared(_)));
        let other = shared.map(|policy| {
            let options = BucketOptions::new().evict(policy);
            db.volatile_bucket_with("other", options).expect("the name is free")
        });
        Self { db, low, high, cut, level, cache, told, other, pressed: AtomicU64::new(0) }
    }

    /// Counts what is there, and compares it with what was counted.
    #[cfg(feature = "testing")]
    pub(crate) fn check(&self) {
        self.db.check();
    }

    fn of(&self, key: Key) -> (&Bucket<String, u64>, &'static str) {
        let bucket = if key < self.cut { &self.low } else { &self.high };
        (bucket, NAMES[usize::from(key)])
    }

    /// The bounds of `lo..hi` in the low and in the high bucket, where there are any.
    fn parts(&self, lo: Key, hi: Key) -> [Option<(Key, Key)>; 2] {
        let (low, high) = ((lo, hi.min(self.cut)), (lo.max(self.cut), hi));
        [low, high].map(|part| (part.0 < part.1).then_some(part))
    }

    /// The bucket and the prefix that hold exactly `lo..hi`, if there is one.
    fn prefix(&self, scan: Scan) -> Option<(&Bucket<String, u64>, &'static str)> {
        let prefix = match (scan.lo, scan.hi) {
            (0, 3) => "a",
            (3, 7) => "b",
            (5, 7) => "bb",
            (7, 8) => "c",
            _ => return None,
        };
        let whole = scan.hi <= self.cut || scan.lo >= self.cut;
        (scan.prefix && whole).then(|| (self.of(scan.lo).0, prefix))
    }
}

/// What an entry of the store takes at most.
fn entry_bytes() -> u64 {
    let db = Database::in_memory();
    let bucket = db.volatile_bucket::<String, u64>("one").expect("the name is free");
    bucket.insert("bba".into(), 1).expect("nothing else runs");
    let memory = db.buckets()[0].memory;
    memory.keys + memory.live
}

fn bounds((lo, hi): (Key, Key)) -> (Bound<&'static str>, Bound<&'static str>) {
    let end = NAMES.get(usize::from(hi)).map_or(Bound::Unbounded, |name| Bound::Excluded(*name));
    (Bound::Included(NAMES[usize::from(lo)]), end)
}

fn ranked((name, value): (&String, &u64)) -> (Key, u64) {
    (rank(name), *value)
}

/// Transactions and snapshots have the same reads, but no trait in common.
macro_rules! reads {
    ($type:ty, $timestamp:ident) => {
        impl Reader for Open<'_, $type> {
            fn snapshot_timestamp(&self) -> u64 {
                self.inner.$timestamp().get()
            }

            fn get(&self, key: Key) -> Result<u64, Abort> {
                let (bucket, name) = self.store.of(key);
                let found = self.inner.get(bucket, name).map_err(abort)?;
                Ok(found.copied().unwrap_or(ABSENT))
            }

            fn contains(&self, key: Key) -> Result<bool, Abort> {
                let (bucket, name) = self.store.of(key);
                self.inner.contains_key(bucket, name).map_err(abort)
            }

            fn scan(&self, scan: Scan) -> Result<Yield, Abort> {
                let Engine { low, high, .. } = self.store;
                if let Some((bucket, prefix)) = self.store.prefix(scan) {
                    let found = self.inner.prefix::<_, _, str>(bucket, prefix).map_err(abort)?;
                    return Ok(Yield::collect(scan, found.map(ranked)));
                }
                let [below, above] = self.store.parts(scan.lo, scan.hi);
                let open = |bucket, part: Option<(Key, Key)>| {
                    part.map(|part| {
                        self.inner.range::<_, _, str>(bucket, bounds(part)).map_err(abort)
                    })
                    .transpose()
                };
                let below = open(low, below)?.into_iter().flatten();
                let found = below.chain(open(high, above)?.into_iter().flatten());
                Ok(Yield::collect(scan, found.map(ranked)))
            }

            fn end(&self, last: bool) -> Result<Option<(Key, u64)>, Abort> {
                let Engine { low, high, .. } = self.store;
                for bucket in if last { [high, low] } else { [low, high] } {
                    let found = match last {
                        true => self.inner.last_key_value(bucket),
                        false => self.inner.first_key_value(bucket),
                    };
                    if let Some(entry) = found.map_err(abort)? {
                        return Ok(Some(ranked(entry)));
                    }
                }
                Ok(None)
            }

            fn len(&self) -> Result<usize, Abort> {
                let Engine { low, high, .. } = self.store;
                let low = self.inner.len(low).map_err(abort)?;
                Ok(low + self.inner.len(high).map_err(abort)?)
            }
        }
    };
}

reads!(Txn<'_>, snapshot_timestamp);
reads!(Snapshot, timestamp);

impl Transaction for Open<'_, Txn<'_>> {
    fn peek(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.peek(bucket, name).map_err(abort)?.copied().unwrap_or(ABSENT))
    }

    fn get_for_update(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.get_for_update(bucket, name).map_err(abort)?.copied().unwrap_or(ABSENT))
    }

    fn insert(&self, key: Key, value: u64) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        let before = self.inner.insert(bucket, name.into(), value).map_err(abort)?;
        Ok(before.copied().unwrap_or(ABSENT))
    }

    fn update(&self, key: Key, value: u64) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        let mut before = ABSENT;
        let change = |now: Option<&u64>| {
            before = now.copied().unwrap_or(ABSENT);
            Some(value)
        };
        self.inner.update(bucket, name.into(), change).map_err(abort)?;
        Ok(before)
    }

    fn remove(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.remove(bucket, name).map_err(abort)?.copied().unwrap_or(ABSENT))
    }

    fn insert_if_absent(&self, key: Key, value: u64) -> Result<bool, Abort> {
        let (bucket, name) = self.store.of(key);
        self.inner.insert_if_absent(bucket, name.into(), value).map_err(abort)
    }

    fn remove_range(&self, lo: Key, hi: Key) -> Result<usize, Abort> {
        let buckets = [&self.store.low, &self.store.high];
        let mut removed = 0;
        for (bucket, part) in buckets.into_iter().zip(self.store.parts(lo, hi)) {
            if let Some(part) = part {
                let found = self.inner.remove_range::<_, _, str>(bucket, bounds(part));
                removed += found.map_err(abort)?;
            }
        }
        Ok(removed)
    }

    fn pop(&self, last: bool) -> Result<Option<(Key, u64)>, Abort> {
        let Engine { low, high, .. } = self.store;
        for bucket in if last { [high, low] } else { [low, high] } {
            let found = match last {
                true => self.inner.pop_last(bucket),
                false => self.inner.pop_first(bucket),
            };
            if let Some(entry) = found.map_err(abort)? {
                return Ok(Some(ranked(entry)));
            }
        }
        Ok(None)
    }

    fn savepoint(&self, name: u8) {
        self.inner.savepoint(NAMES[usize::from(name)]);
    }

    fn roll_back_to(&self, name: u8) {
        self.inner.rollback_to(NAMES[usize::from(name)]).expect("the savepoint was made");
    }

    fn commit(self) -> Result<u64, Abort> {
        self.inner.commit().map(|receipt| receipt.timestamp().get()).map_err(abort)
    }

    fn roll_back(self) {
        self.inner.rollback();
    }
}

impl Store for Engine {
    type Txn<'s> = Open<'s, Txn<'s>>;
    type Snap<'s> = Open<'s, Snapshot>;

    fn begin(&self, level: Level) -> Self::Txn<'_> {
        let inner = if level == self.level {
            self.db.begin()
        } else {
            self.db.begin_with(&TransactionOptions::new().isolation(isolation(level)))
        };
        Open { store: self, inner }
    }

    fn snapshot(&self) -> Self::Snap<'_> {
        Open { store: self, inner: self.db.snapshot() }
    }

    fn look(&self, key: Key) -> u64 {
        let (bucket, name) = self.of(key);
        let found = bucket.get_with(name, |value| *value);
        found.expect("a read is not refused").unwrap_or(ABSENT)
    }

    fn vacuum(&self) {
        self.db.vacuum(16);
    }

    fn leaving(&self) -> Leaving {
        let evicts = self.cache.policy.is_some();
        Leaving { evicts, ttl: self.cache.ttl, cut: self.cut }
    }

    fn departed(&self) -> Vec<u64> {
        std::mem::take(&mut *self.told.lock().expect("no listener panics"))
    }

    fn evict(&self, key: Key) {
        if self.cache.policy.is_some() {
            let (bucket, name) = self.of(key);
            bucket.evict(name).expect("the bucket is a cache");
        }
    }

    fn press(&self) {
        let Some(other) = &self.other else { return };
        let next = self.pressed.fetch_add(1, Ordering::Relaxed);
        match other.insert(next % 8, next) {
            Ok(_) | Err(Error::MemoryLimit { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

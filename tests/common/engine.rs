//! The engine under trial: the eight keys lie in two buckets, cut at any place.
//!
//! The names of the keys are prefixes of one another as the intervals in `program` want it: `a`
//! begins 0 to 2, `b` 3 to 6, `bb` 5 and 6, `c` 7. A scan over the cut is two ranges, one behind
//! the other.
//!
//! The buckets may be caches (`Cache`). Their listener collects what leaves, in the order in which
//! it is told. Or they are durable, with larger values that leave memory and come back (`Page`).

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade::testing::{FaultDisk, Moment};
use palisade::{Bucket, BucketOptions, ConflictKind, Database, Decode, Encode, Error};
use palisade::{EvictionPolicy, FetchError, Isolation, Options, Range, Snapshot};
use palisade::{Transaction as Txn, TransactionOptions, Value};

use super::leaving::Leaving;
use super::store::{ABSENT, Abort, Key, Level, Reader, Scan, Store, Transaction, Yield};

const NAMES: [&str; 8] = ["a", "aa", "ab", "b", "ba", "bb", "bba", "c"];

pub(crate) struct Engine<V: Stamp = u64> {
    db: Database,
    low: Bucket<String, V>,
    high: Bucket<String, V>,
    cut: Key,
    level: Level,
    cache: Cache,
    told: Arc<Mutex<Vec<u64>>>,
    /// Competes with the others for the room, where they share it.
    other: Option<Bucket<u64, V>>,
    pressed: AtomicU64,
}

/// A value that names the write that made it.
pub(crate) trait Stamp: Value + Encode + Decode + Clone {
    fn of(write: u64) -> Self;
    fn write(&self) -> u64;
}

impl Stamp for u64 {
    fn of(write: u64) -> Self {
        write
    }

    fn write(&self) -> u64 {
        *self
    }
}

/// A value of some size, all of which says which write made it.
pub(crate) type Page = Vec<u8>;

impl Stamp for Page {
    fn of(write: u64) -> Self {
        write.to_be_bytes().repeat(20 + usize::try_from(write % 50).expect("is below fifty"))
    }

    fn write(&self) -> u64 {
        let (first, rest) = self.split_at(8);
        assert_eq!(rest, &self[..rest.len()], "a torn value");
        u64::from_be_bytes(first.try_into().expect("eight bytes"))
    }
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
    /// So many bytes of what transactions are compared with are remembered.
    pub(crate) memory: Option<usize>,
}

/// A transaction or a snapshot, and the store it belongs to.
pub(crate) struct Open<'s, T, V: Stamp = u64> {
    store: &'s Engine<V>,
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

/// Why an operation failed. There may be no room only where the transaction has taken more than
/// the whole limit by itself, with what it rolled back.
fn abort(error: Error) -> Abort {
    if let Error::MemoryLimit { needed, limit, .. } = error {
        assert!(needed > limit, "an operation was refused for want of room: {error}");
    }
    refusal(error)
}

/// Why a commit failed.
fn refusal(error: Error) -> Abort {
    if let Error::MemoryLimit { .. } | Error::Fetch(FetchError::NoRoom { .. }) = error {
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
        let mut options = Options::new().isolation(isolation(level));
        if let Some(bytes) = cache.memory {
            options = options.retained_bytes_max(bytes);
        }
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
}

impl Engine<Page> {
    /// A store of durable buckets under a limit, with checkpoints all the time. The others have
    /// most of the room; so values of the eight keys leave for the files and come back.
    pub(crate) fn cold(options: Options, level: Level, cut: Key, policy: EvictionPolicy) -> Self {
        let disk = FaultDisk::new(cut.into());
        let options = options.isolation(isolation(level)).storage(Arc::new(disk));
        let options = options.segment_bytes(64 << 10).memory_limit(COLD_LIMIT);
        let db = options.open("/db").expect("the disk is empty and sound");
        let bucket = |name| {
            let options = BucketOptions::new().evict(policy);
            db.bucket_with(name, options).expect("the name is free")
        };
        let (low, high) = (bucket("low"), bucket("high"));
        let options = BucketOptions::new().evict(policy);
        let other = Some(db.bucket_with("other", options).expect("the name is free"));
        let (told, cache) = (Arc::default(), Cache { policy: Some(policy), ..Cache::default() });
        Self { db, low, high, cut, level, cache, told, other, pressed: AtomicU64::new(0) }
    }

    /// How many values were read back, and how many left.
    pub(crate) fn exchanged(&self) -> (u64, u64) {
        let stats = self.db.stats();
        (stats.fetches, stats.departures)
    }
}

impl<V: Stamp> Engine<V> {
    /// Counts what is there, and compares it with what was counted.
    #[cfg(feature = "testing")]
    pub(crate) fn check(&self) {
        self.db.check();
    }

    fn of(&self, key: Key) -> (&Bucket<String, V>, &'static str) {
        let bucket = if key < self.cut { &self.low } else { &self.high };
        (bucket, NAMES[usize::from(key)])
    }

    /// Whether the buckets are durable, and values leave memory only.
    fn is_cold(&self) -> bool {
        self.db.stats().log.is_some() && self.cache.policy.is_some()
    }

    /// The bounds of `lo..hi` in the low and in the high bucket, where there are any.
    fn parts(&self, lo: Key, hi: Key) -> [Option<(Key, Key)>; 2] {
        let (low, high) = ((lo, hi.min(self.cut)), (lo.max(self.cut), hi));
        [low, high].map(|part| (part.0 < part.1).then_some(part))
    }

    /// The bucket and the prefix that hold exactly `lo..hi`, if there is one.
    fn prefix(&self, scan: Scan) -> Option<(&Bucket<String, V>, &'static str)> {
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

/// How many entries, or values, have left since they were asked to, in all stores.
static LEFT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn left() -> u64 {
    LEFT.load(Ordering::Relaxed)
}

/// Room for the entries of the eight keys, for what open transactions hold of them, and for some
/// of the others.
const COLD_LIMIT: u64 = 48 << 10;

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

fn ranked<V: Stamp>((name, value): (&String, &V)) -> (Key, u64) {
    (rank(name), value.write())
}

/// What an iterator yields; an error if it ends because a value could not be read.
fn drive<V: Stamp>(scan: Scan, mut parts: Vec<Range<'_, String, V>>) -> Result<Yield, Abort> {
    let entries = parts.iter_mut().map(|part| part.by_ref().map(ranked));
    let entries = entries.collect::<Vec<_>>();
    let found = match <[_; 2]>::try_from(entries) {
        Ok([below, above]) => Yield::collect(scan, below.chain(above)),
        Err(one) => Yield::collect(scan, one.into_iter().next().into_iter().flatten()),
    };
    match parts.iter().find_map(|part| part.error()) {
        Some(error) => Err(abort(error.clone().into())),
        None => Ok(found),
    }
}

/// Transactions and snapshots have the same reads, but no trait in common.
macro_rules! reads {
    ($type:ty, $timestamp:ident) => {
        impl<V: Stamp> Reader for Open<'_, $type, V> {
            fn snapshot_timestamp(&self) -> u64 {
                self.inner.$timestamp().get()
            }

            fn get(&self, key: Key) -> Result<u64, Abort> {
                let (bucket, name) = self.store.of(key);
                let found = self.inner.get(bucket, name).map_err(abort)?;
                Ok(found.map_or(ABSENT, V::write))
            }

            fn contains(&self, key: Key) -> Result<bool, Abort> {
                let (bucket, name) = self.store.of(key);
                self.inner.contains_key(bucket, name).map_err(abort)
            }

            fn scan(&self, scan: Scan) -> Result<Yield, Abort> {
                let Engine { low, high, .. } = self.store;
                if let Some((bucket, prefix)) = self.store.prefix(scan) {
                    let found = self.inner.prefix::<_, _, str>(bucket, prefix).map_err(abort)?;
                    return drive(scan, vec![found]);
                }
                let parts = self.store.parts(scan.lo, scan.hi);
                let open = |(bucket, part): (_, Option<(Key, Key)>)| {
                    Some(self.inner.range::<_, _, str>(bucket, bounds(part?)).map_err(abort))
                };
                let found = [low, high].into_iter().zip(parts).filter_map(open);
                drive(scan, found.collect::<Result<_, _>>()?)
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

impl<V: Stamp> Transaction for Open<'_, Txn<'_>, V> {
    fn peek(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.peek(bucket, name).map_err(abort)?.map_or(ABSENT, V::write))
    }

    fn get_for_update(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.get_for_update(bucket, name).map_err(abort)?.map_or(ABSENT, V::write))
    }

    fn insert(&self, key: Key, value: u64) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        let before = self.inner.insert(bucket, name.into(), V::of(value)).map_err(abort)?;
        Ok(before.map_or(ABSENT, V::write))
    }

    fn update(&self, key: Key, value: u64) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        let mut before = ABSENT;
        let change = |now: Option<&V>| {
            before = now.map_or(ABSENT, V::write);
            Some(V::of(value))
        };
        self.inner.update(bucket, name.into(), change).map_err(abort)?;
        Ok(before)
    }

    fn remove(&self, key: Key) -> Result<u64, Abort> {
        let (bucket, name) = self.store.of(key);
        Ok(self.inner.remove(bucket, name).map_err(abort)?.map_or(ABSENT, V::write))
    }

    fn insert_if_absent(&self, key: Key, value: u64) -> Result<bool, Abort> {
        let (bucket, name) = self.store.of(key);
        self.inner.insert_if_absent(bucket, name.into(), V::of(value)).map_err(abort)
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
        self.inner.commit().map(|receipt| receipt.timestamp().get()).map_err(refusal)
    }

    fn roll_back(self) {
        self.inner.rollback();
    }
}

impl<V: Stamp> Store for Engine<V> {
    type Txn<'s> = Open<'s, Txn<'s>, V>;
    type Snap<'s> = Open<'s, Snapshot, V>;

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
        let found = bucket.get_with(name, V::write);
        found.expect("a read is not refused").unwrap_or(ABSENT)
    }

    fn vacuum(&self) {
        if self.is_cold() && self.pressed.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            self.db.checkpoint().expect("the disk is sound");
        }
        self.db.vacuum(16);
    }

    fn leaving(&self) -> Leaving {
        // What leaves a durable bucket comes back: nobody misses anything.
        let evicts = self.cache.policy.is_some() && !self.is_cold();
        Leaving { evicts, ttl: self.cache.ttl, cut: self.cut }
    }

    fn departed(&self) -> Vec<u64> {
        std::mem::take(&mut *self.told.lock().expect("no listener panics"))
    }

    fn evict(&self, key: Key) {
        if self.cache.policy.is_some() {
            let (bucket, name) = self.of(key);
            let has_left = bucket.evict(name).expect("the bucket evicts");
            LEFT.fetch_add(u64::from(has_left), Ordering::Relaxed);
        }
    }

    fn press(&self) {
        let Some(other) = &self.other else { return };
        let next = self.pressed.fetch_add(1, Ordering::Relaxed);
        match other.set(next % 8, V::of(next)) {
            Ok(()) | Err(Error::MemoryLimit { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

//! What a limit costs: an insert into a full cache, at every size, and a hit.
//!
//! ```text
//! insert   a full cache of n entries in which every entry has been replaced, new keys only: each
//!          insert evicts about one; keys in ascending order, or in none. Beside it a `BTreeMap`
//!          that a key enters and the oldest key leaves: what of this is the memory's own price
//! hit      present keys at random, beside the same reads of the same entries in a bucket without
//!          a limit; of entries that were read before, and the first three times or so
//! nothing grows   operations on a full cache, memory counted by the allocator at the tenths
//! ```
//!
//! Times are processor time of the thread, medians of interleaved rounds.

use std::collections::BTreeMap;

use palisade::{Bucket, BucketOptions, Database, EvictionPolicy};
use peers::lab::{Random, median, mix, nanoseconds, ratio, sized};
use peers::pace::{Counting, allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that an entry of a number and a number takes in a cache, about.
const ENTRY: u64 = 102;

/// In which order keys come.
#[derive(Clone, Copy, Debug)]
enum Order {
    Ascending,
    Mixed,
}

impl Order {
    fn key(self, number: u64) -> u64 {
        match self {
            Self::Ascending => number,
            Self::Mixed => mix(number),
        }
    }
}

/// Something full, into which new keys go.
trait Full {
    fn insert(&mut self, count: u64) -> f64;
}

struct Cache {
    order: Order,
    bucket: Bucket<u64, u64>,
    next: u64,
    _db: Database,
}

impl Cache {
    fn new(policy: EvictionPolicy, order: Order, entries: u64) -> palisade::Result<Self> {
        let db = Database::in_memory();
        let options = BucketOptions::new().memory_limit(entries * ENTRY).evict(policy);
        let bucket = db.volatile_bucket_with("cache", options)?;
        Ok(Self { order, bucket, next: 0, _db: db })
    }
}

impl Full for Cache {
    fn insert(&mut self, count: u64) -> f64 {
        let first = self.next;
        self.next += count;
        nanoseconds(count, |step| {
            let key = self.order.key(first + step);
            self.bucket.insert(key, step).expect("a cache gives way");
        })
    }
}

struct Map {
    order: Order,
    entries: u64,
    entries_by_key: BTreeMap<u64, u64>,
    next: u64,
}

impl Full for Map {
    fn insert(&mut self, count: u64) -> f64 {
        let first = self.next;
        self.next += count;
        nanoseconds(count, |step| {
            self.entries_by_key.insert(self.order.key(first + step), step);
            if let Some(oldest) = (first + step).checked_sub(self.entries) {
                self.entries_by_key.remove(&self.order.key(oldest));
            }
        })
    }
}

/// Inserts into full ones of several sizes by turns.
fn inserts(
    name: &str,
    order: Order,
    (sizes, rounds): (&[u64], u64),
    make: impl Fn(u64) -> palisade::Result<Box<dyn Full>>,
) -> palisade::Result<()> {
    let mut all = Vec::new();
    for &entries in sizes {
        let mut full = make(entries)?;
        // Twice full, so that no entry lies where it lay while there was room.
        full.insert(2 * entries + entries / 2);
        all.push((entries, full, Vec::new()));
    }
    for _ in 0..rounds {
        for (_, full, times) in &mut all {
            times.push(full.insert(20_000));
        }
    }
    let (_, _, smallest) = &all[0];
    for (entries, _, times) in &all {
        let (time, times_smallest) = (median(times), ratio(times, smallest));
        let order = format!("{order:?}");
        println!("{name:<8} {order:<10} {entries:>10} {time:>10.0} {times_smallest:>10.2}");
    }
    Ok(())
}

fn all_inserts(policies: &[EvictionPolicy], sizes: &[u64], rounds: u64) -> palisade::Result<()> {
    println!("insert into a full cache, ns, and beside the smallest");
    println!("{:<8} {:<10} {:>10} {:>10} {:>10}", "policy", "keys", "entries", "ns", "times");
    for order in [Order::Ascending, Order::Mixed] {
        for &policy in policies {
            inserts(&format!("{policy:?}"), order, (sizes, rounds), |entries| {
                Ok(Box::new(Cache::new(policy, order, entries)?))
            })?;
        }
        inserts("BTreeMap", order, (sizes, rounds), |entries| {
            Ok(Box::new(Map { order, entries, entries_by_key: BTreeMap::new(), next: 0 }))
        })?;
    }
    Ok(())
}

fn hits(policy: EvictionPolicy, entries: u64, rounds: u64) -> palisade::Result<()> {
    let db = Database::in_memory();
    let free: Bucket<u64, u64> = db.volatile_bucket("free")?;
    let options = BucketOptions::new().memory_limit(entries * ENTRY * 2).evict(policy);
    let cache = db.volatile_bucket_with::<u64, u64>("cache", options)?;
    for number in 0..entries {
        free.insert(mix(number), number)?;
        cache.insert(mix(number), number)?;
    }
    let read = |bucket: &Bucket<u64, u64>, seed| {
        let mut random = Random::new(seed);
        nanoseconds(100_000, |_| {
            let number = random.below(entries);
            let found = bucket.get(&mix(number)).expect("the bucket is there");
            assert_eq!(found, Some(number));
        })
    };
    // The first reads of an entry note that it was read.
    let mut first = (read(&free, rounds), read(&cache, rounds));
    for seed in 1..=entries / 100_000 * 3 {
        first.0 += read(&free, rounds + seed);
        first.1 += read(&cache, rounds + seed);
    }
    let (mut in_cache, mut in_free) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        in_free.push(read(&free, round));
        in_cache.push(read(&cache, round));
    }
    let (time, bare, times) = (median(&in_cache), median(&in_free), ratio(&in_cache, &in_free));
    let first = first.1 / first.0;
    println!("{policy:<8?} {entries:>10} {time:>10.0} {bare:>10.0} {times:>10.2} {first:>10.2}");
    Ok(())
}

fn flat(policy: EvictionPolicy, operations: u64) -> palisade::Result<()> {
    let cache = Cache::new(policy, Order::Mixed, 10_000)?;
    let mut random = Random::new(1);
    let (mut least, mut most) = (usize::MAX, 0);
    for tenth in 0..10 {
        for _ in 0..operations / 10 {
            let key = mix(random.below(40_000));
            if cache.bucket.get(&key)?.is_none() {
                cache.bucket.insert(key, 1)?;
            }
        }
        if tenth > 0 {
            let held = allocated();
            (least, most) = (least.min(held), most.max(held));
        }
    }
    println!("{policy:<8?} {operations:>12} {least:>12} {most:>12}");
    Ok(())
}

fn all_flat(policies: &[EvictionPolicy], operations: u64) -> palisade::Result<()> {
    println!(
        "\nbytes allocated during operations on a full cache of 10 000, after the first tenth"
    );
    println!("{:<8} {:>12} {:>12} {:>12}", "policy", "operations", "least", "most");
    for &policy in policies {
        flat(policy, operations)?;
    }
    Ok(())
}

fn main() -> palisade::Result<()> {
    use EvictionPolicy::{Arc, Lfu, Lru, Random, S3Fifo};
    let policies = [S3Fifo, Lru, Lfu, Arc, Random];
    // So many operations on a full cache under the usual policy, and nothing else.
    if let Some(operations) = std::env::var("CACHE_OPERATIONS").ok().and_then(|it| it.parse().ok())
    {
        return all_flat(&policies[..1], operations);
    }
    let sizes: &[u64] = sized(&[10_000, 100_000, 1_000_000, 10_000_000], &[10_000, 100_000]);
    let rounds = sized(15, 3);
    all_inserts(sized(&policies[..], &policies[..1]), sizes, rounds)?;
    println!("\na hit, ns, and beside a bucket without a limit");
    let heads = ["entries", "cache", "free", "times", "at first"];
    println!("policy   {}", heads.map(|head| format!("{head:>10}")).join(" "));
    for policy in policies {
        hits(policy, sized(1_000_000, 100_000), rounds)?;
    }
    all_flat(&policies, sized(20_000_000, 200_000))
}

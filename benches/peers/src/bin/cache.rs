//! What a limit costs: an insert into a full cache, at every size, and a hit.
//!
//! ```text
//! insert   a full cache of n entries, new keys only: each insert evicts about one
//! hit      present keys at random, beside the same reads of the same entries in a bucket without
//!          a limit
//! nothing grows   operations on a full cache, memory counted by the allocator at the tenths
//! ```
//!
//! Times are processor time of the thread, medians of interleaved rounds.

use palisade::{Bucket, BucketOptions, Database, EvictionPolicy};
use peers::lab::{Random, median, mix, nanoseconds, ratio, sized};
use peers::pace::{Counting, allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that an entry of a number and a number takes in a cache, about.
const ENTRY: u64 = 102;

struct Full {
    entries: u64,
    bucket: Bucket<u64, u64>,
    next: u64,
    _db: Database,
}

impl Full {
    fn new(policy: EvictionPolicy, entries: u64) -> palisade::Result<Self> {
        let db = Database::in_memory();
        let options = BucketOptions::new().memory_limit(entries * ENTRY).evict(policy);
        let bucket = db.volatile_bucket_with("cache", options)?;
        let mut full = Self { entries, bucket, next: 0, _db: db };
        full.insert(entries + entries / 4);
        Ok(full)
    }

    fn insert(&mut self, count: u64) -> f64 {
        let first = self.next;
        self.next += count;
        nanoseconds(count, |step| {
            let key = mix(first + step);
            self.bucket.insert(key, step).expect("a cache gives way");
        })
    }
}

fn inserts(policy: EvictionPolicy, sizes: &[u64], rounds: u64) -> palisade::Result<()> {
    let mut caches = Vec::new();
    for &entries in sizes {
        caches.push((Full::new(policy, entries)?, Vec::new()));
    }
    for _ in 0..rounds {
        for (cache, times) in &mut caches {
            times.push(cache.insert(20_000));
        }
    }
    let (_, smallest) = &caches[0];
    for (cache, times) in &caches {
        let (entries, time, times_smallest) =
            (cache.entries, median(times), ratio(times, smallest));
        println!("{policy:<8?} {entries:>10} {time:>10.0} {times_smallest:>10.2}");
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
    let (mut in_cache, mut in_free) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        in_free.push(read(&free, round));
        in_cache.push(read(&cache, round));
    }
    let (time, bare, times) = (median(&in_cache), median(&in_free), ratio(&in_cache, &in_free));
    println!("{policy:<8?} {entries:>10} {time:>10.0} {bare:>10.0} {times:>10.2}");
    Ok(())
}

fn flat(policy: EvictionPolicy, operations: u64) -> palisade::Result<()> {
    let mut cache = Full::new(policy, 10_000)?;
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
    cache.next += 1;
    Ok(())
}

fn main() -> palisade::Result<()> {
    use EvictionPolicy::{Arc, Lfu, Lru, Random, S3Fifo};
    let policies = [S3Fifo, Lru, Lfu, Arc, Random];
    let sizes: &[u64] = sized(&[10_000, 100_000, 1_000_000, 10_000_000], &[10_000, 100_000]);
    let rounds = sized(15, 3);
    println!("insert into a full cache, ns, and beside the smallest");
    println!("{:<8} {:>10} {:>10} {:>10}", "policy", "entries", "ns", "times");
    for policy in sized(&policies[..], &policies[..1]) {
        inserts(*policy, sizes, rounds)?;
    }
    println!("\na hit, ns, and beside a bucket without a limit");
    println!("{:<8} {:>10} {:>10} {:>10} {:>10}", "policy", "entries", "cache", "free", "times");
    for policy in policies {
        hits(policy, sized(1_000_000, 100_000), rounds)?;
    }
    println!(
        "\nbytes allocated during operations on a full cache of 10 000, after the first tenth"
    );
    println!("{:<8} {:>12} {:>12} {:>12}", "policy", "operations", "least", "most");
    for policy in policies {
        flat(policy, sized(20_000_000, 200_000))?;
    }
    Ok(())
}

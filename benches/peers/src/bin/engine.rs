//! What the engine adds to its index, and how it behaves under two threads.
//!
//! 1. Reads of a bucket through a snapshot beside crossbeam's skiplist: get, and a scan of 100.
//! 2. A serializable transaction of two reads and two writes of known keys beside four operations
//!    on the bare index: four gets, and two gets and two inserts of new keys.
//! 3. The same transaction on one thread and on two.
//! 4. A writer alone and beside a scan of everything, in Palisade and under one lock.
//! 5. How long one commit takes.
//!
//! Where a ratio stands for itself it is one of processor time; 3 and 4 give the ratio of what got
//! done in a second and, beside it, in a second of processor time, which other jobs on the machine
//! do not disturb.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_skiplist::SkipMap;
use palisade::testing::Index;
use palisade::{Bucket, Database};
use parking_lot::RwLock;
use peers::lab::{Random, Rate, median, mix, nanoseconds, quick, rate, ratio, sized};

struct Store {
    db: Database,
    bucket: Bucket<u64, u64>,
    entries: u64,
}

impl Store {
    fn open(entries: u64) -> palisade::Result<Self> {
        let db = Database::in_memory();
        let bucket: Bucket<u64, u64> = db.bucket("numbers")?;
        for start in (0..entries).step_by(1_000) {
            db.write(|tx| {
                for number in start..start + 1_000 {
                    tx.insert(&bucket, mix(number), number)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { db, bucket, entries })
    }

    fn key(&self, random: &mut Random) -> u64 {
        mix(random.below(self.entries))
    }

    /// Two reads and two writes of four keys.
    fn transact(&self, random: &mut Random) {
        let keys: [u64; 4] = std::array::from_fn(|_| self.key(random));
        let [first, second, third, fourth] = keys;
        let done = self.db.write(|tx| {
            let one = tx.get(&self.bucket, &first)?.copied().unwrap_or(0);
            let two = tx.get(&self.bucket, &second)?.copied().unwrap_or(0);
            tx.insert(&self.bucket, third, one)?;
            tx.insert(&self.bucket, fourth, two)?;
            Ok(())
        });
        done.expect("conflicts are retried and nothing else fails");
    }
}

/// Reads through a snapshot beside crossbeam's skiplist.
fn reads(store: &Store, rounds: u64) {
    let peer: SkipMap<u64, u64> = SkipMap::new();
    (0..store.entries).for_each(|number| drop(peer.insert(mix(number), number)));
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        let [ours, theirs, our_scan, their_scan] = &mut times;
        let snapshot = store.db.snapshot();
        let mut random = Random::new(round);
        ours.push(nanoseconds(20_000, |_| {
            let found = snapshot.get(&store.bucket, &store.key(&mut random));
            black_box(found.expect("the bucket exists"));
        }));
        let mut random = Random::new(round);
        theirs.push(nanoseconds(20_000, |_| {
            black_box(peer.get(&store.key(&mut random)).map(|entry| *entry.value()));
        }));
        let mut random = Random::new(round);
        our_scan.push(nanoseconds(400, |_| {
            let range = snapshot.range(&store.bucket, store.key(&mut random)..);
            black_box(range.expect("it exists").take(100).map(|(_, value)| value).sum::<u64>());
        }));
        let mut random = Random::new(round);
        their_scan.push(nanoseconds(400, |_| {
            let range = peer.range(store.key(&mut random)..).take(100);
            black_box(range.map(|entry| *entry.value()).sum::<u64>());
        }));
    }
    let [ours, theirs, our_scan, their_scan] = &times;
    println!("1. ns                   palisade  crossbeam  faster by");
    for (what, ours, theirs) in [("get", ours, theirs), ("scan of 100", our_scan, their_scan)] {
        let (mine, other, times) = (median(ours), median(theirs), ratio(theirs, ours));
        println!("   {what:<20} {mine:>8.0} {other:>10.0} {times:>10.2}");
    }
}

/// The transaction beside the index operations that it cannot do without.
fn beside_index(store: &Store, rounds: u64) {
    let index: Index<u64, u64> = Index::new();
    (0..store.entries).for_each(|number| assert!(index.insert(mix(number), number)));
    let mut fresh = store.entries;
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let [transaction, gets, inserts] = &mut times;
        let mut random = Random::new(round);
        transaction.push(nanoseconds(4_000, |_| store.transact(&mut random)));
        let get = |random: &mut Random| {
            black_box(index.get_with(&store.key(random), |value| *value));
        };
        let mut random = Random::new(round);
        gets.push(nanoseconds(4_000, |_| (0..4).for_each(|_| get(&mut random))));
        let mut random = Random::new(round);
        inserts.push(nanoseconds(4_000, |_| {
            (0..2).for_each(|_| get(&mut random));
            for key in fresh..fresh + 2 {
                black_box(index.insert(mix(key), key));
            }
            fresh += 2;
        }));
    }
    let [transaction, gets, inserts] = &times;
    println!("2. ns                transaction       bare  dearer by");
    for (what, bare) in [("4 gets", gets), ("2 gets, 2 inserts", inserts)] {
        let (ours, theirs, times) = (median(transaction), median(bare), ratio(transaction, bare));
        println!("   {what:<20} {ours:>8.0} {theirs:>10.0} {times:>10.2}");
    }
}

/// Rates before and after something, and by how much they differ.
#[derive(Default)]
struct Pair {
    first: Vec<Rate>,
    second: Vec<Rate>,
}

impl Pair {
    /// Prints both rates, and the ratio of the second to the first, or the other way round.
    fn print(&self, name: &str, falls: bool) {
        let thousands = |rates: &[Rate], of: fn(&Rate) -> f64| {
            median(&rates.iter().map(of).collect::<Vec<_>>()) / 1e3
        };
        let times = |of: fn(&Rate) -> f64| {
            let first: Vec<f64> = self.first.iter().map(of).collect();
            let second: Vec<f64> = self.second.iter().map(of).collect();
            if falls { ratio(&first, &second) } else { ratio(&second, &first) }
        };
        let (before, after) =
            (thousands(&self.first, |rate| rate.wall), thousands(&self.second, |rate| rate.wall));
        let (wall, used) = (times(|rate| rate.wall), times(|rate| rate.used));
        println!("   {name:<20} {before:>8.0} {after:>10.0} {wall:>10.2} {used:>10.2}");
    }
}

/// One thread and two.
fn scaling(store: &Store, rounds: u64, span: Duration) {
    let mut rates = Pair::default();
    for round in 0..rounds {
        for (threads, rates) in [(1, &mut rates.first), (2, &mut rates.second)] {
            rates.push(rate(threads, span, |thread, stop| {
                let mut random = Random::new(round << 8 | thread);
                let mut done = 0;
                // Relaxed: see `rate`.
                while !stop.load(Ordering::Relaxed) {
                    (0..64).for_each(|_| store.transact(&mut random));
                    done += 64;
                }
                done
            }));
        }
    }
    println!("3. thousand a second    1 thread  2 threads  faster by  processor");
    rates.print("2 reads, 2 writes", false);
}

/// Rates of a writer alone and beside a thread that scans everything without end.
fn beside_scan(
    span: Duration,
    write: impl Fn(&mut Random) + Sync,
    read_all: impl Fn() + Sync,
) -> [Rate; 2] {
    let work = |thread: u64, stop: &AtomicBool| {
        let mut random = Random::new(thread);
        let mut done = 0;
        // Relaxed: see `rate`.
        while !stop.load(Ordering::Relaxed) {
            write(&mut random);
            done += 1;
        }
        done
    };
    let alone = rate(1, span, work);
    let over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: the flag only ends the loop soon.
            while !over.load(Ordering::Relaxed) {
                read_all();
            }
        });
        let beside = rate(1, span, work);
        over.store(true, Ordering::Relaxed);
        beside
    });
    [alone, beside]
}

fn writer_slowdown(store: &Store, rounds: u64, span: Duration) {
    let lock: RwLock<BTreeMap<u64, u64>> =
        RwLock::new((0..store.entries).map(|number| (mix(number), number)).collect());
    let mut rates: [Pair; 2] = Default::default();
    for _ in 0..rounds {
        let ours = beside_scan(
            span,
            |random| {
                let done = store.bucket.insert(store.key(random), 1);
                done.expect("conflicts are retried and nothing else fails");
            },
            || {
                let snapshot = store.db.snapshot();
                let all = snapshot.iter(&store.bucket).expect("the bucket exists");
                black_box(all.map(|(_, value)| value).fold(0_u64, |sum, n| sum.wrapping_add(*n)));
            },
        );
        let locked = beside_scan(
            span,
            |random| {
                lock.write().insert(store.key(random), 1);
            },
            || {
                black_box(lock.read().values().fold(0_u64, |sum, n| sum.wrapping_add(*n)));
            },
        );
        for (rates, [alone, beside]) in rates.iter_mut().zip([ours, locked]) {
            rates.first.push(alone);
            rates.second.push(beside);
        }
    }
    println!("4. thousand writes/s       alone     beside  slower by  processor");
    for (name, rates) in ["palisade", "RwLock<BTreeMap>"].iter().zip(&rates) {
        rates.print(name, true);
    }
}

fn commit_latency(store: &Store) {
    let mut random = Random::new(1);
    let mut times: Vec<Duration> = (0..sized(500_000, 20_000))
        .map(|_| {
            let key = store.key(&mut random);
            let started = Instant::now();
            store.bucket.insert(key, 1).expect("nothing conflicts");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_nanos();
    println!(
        "5. one write and its commit, ns: median {}, 99 % {}, 99.9 % {}",
        at(500),
        at(990),
        at(999)
    );
}

fn main() -> palisade::Result<()> {
    let (rounds, span) = if quick() { (3, 50) } else { (31, 200) };
    let store = Store::open(sized(1_000_000, 100_000))?;
    let span = Duration::from_millis(span);
    reads(&store, rounds);
    beside_index(&store, rounds);
    scaling(&store, rounds.min(15), span);
    writer_slowdown(&store, rounds.min(9), span);
    commit_latency(&store);
    Ok(())
}

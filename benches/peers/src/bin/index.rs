//! The index alone beside crossbeam's skiplist, scc's tree and a locked standard map.
//!
//! All maps live in one process and are visited in turns, in slices of some thousand operations;
//! a slice is measured in thread CPU time, and the figures are medians over slices, the ratios
//! medians over pairs of slices. Every read checks its value.
//!
//! `cargo run --release --bin index [-- keys [kind]]`, kind: u64, sequential, string, prefix.

use crossbeam_skiplist::SkipMap;
use palisade::testing::Index;
use parking_lot::RwLock;
use peers::lab::{Random, median, quick, ratio};
use peers::pace::{Counting, allocated, thread_cpu_ns};
use scc::TreeIndex;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Barrier;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GETS: usize = 20_000;
const SCANS: usize = 400;
const SCAN_LEN: usize = 100;
const ROUNDS: usize = 31;

trait Key: Ord + Clone + Debug + Send + Sync + 'static {}
impl<K: Ord + Clone + Debug + Send + Sync + 'static> Key for K {}

/// A map under test, given work by the slice.
trait Peer<K>: Sync {
    fn name(&self) -> &'static str;
    fn insert(&self, keys: &[(K, u64)]);
    /// Reads keys whose values are known.
    fn get(&self, keys: &[&(K, u64)]);
    /// Walks on from each key; gives a number that depends on what was seen.
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64;
}

impl<K: Key> Peer<K> for Index<K, u64> {
    fn name(&self) -> &'static str {
        "palisade"
    }
    fn insert(&self, keys: &[(K, u64)]) {
        keys.iter().for_each(|(key, value)| assert!(Index::insert(self, key.clone(), *value)));
    }
    fn get(&self, keys: &[&(K, u64)]) {
        keys.iter().for_each(|(key, value)| assert_eq!(self.get_with(key, |it| *it), Some(*value)));
    }
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64 {
        let mut sum = 0_u64;
        for (key, _) in keys {
            let mut left = SCAN_LEN;
            let visit = |_: &K, value: &u64| {
                sum = sum.wrapping_add(*value);
                left -= 1;
                left > 0
            };
            if forward {
                self.range((Bound::Included(key), Bound::Unbounded), visit);
            } else {
                self.range_back((Bound::Unbounded, Bound::Included(key)), visit);
            }
        }
        sum
    }
}

fn total(values: impl Iterator<Item = u64>) -> u64 {
    values.take(SCAN_LEN).fold(0, u64::wrapping_add)
}

impl<K: Key> Peer<K> for SkipMap<K, u64> {
    fn name(&self) -> &'static str {
        "crossbeam SkipMap"
    }
    fn insert(&self, keys: &[(K, u64)]) {
        for (key, value) in keys {
            SkipMap::insert(self, key.clone(), *value);
        }
    }
    fn get(&self, keys: &[&(K, u64)]) {
        for (key, value) in keys {
            assert_eq!(SkipMap::get(self, key).map(|it| *it.value()), Some(*value));
        }
    }
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64 {
        let one = |(key, _): &&(K, u64)| match forward {
            true => {
                total(self.range((Bound::Included(key), Bound::Unbounded)).map(|it| *it.value()))
            }
            false => total(
                self.range((Bound::Unbounded, Bound::Included(key))).rev().map(|it| *it.value()),
            ),
        };
        keys.iter().map(one).fold(0, u64::wrapping_add)
    }
}

struct Inline<K>(RwLock<BTreeMap<K, u64>>);

impl<K: Key> Peer<K> for Inline<K> {
    fn name(&self) -> &'static str {
        "RwLock<BTreeMap>"
    }
    fn insert(&self, keys: &[(K, u64)]) {
        for (key, value) in keys {
            self.0.write().insert(key.clone(), *value);
        }
    }
    fn get(&self, keys: &[&(K, u64)]) {
        keys.iter().for_each(|(key, value)| assert_eq!(self.0.read().get(key), Some(value)));
    }
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64 {
        let one = |(key, _): &&(K, u64)| {
            let map = self.0.read();
            match forward {
                true => total(map.range((Bound::Included(key), Bound::Unbounded)).map(|it| *it.1)),
                false => {
                    total(map.range((Bound::Unbounded, Bound::Included(key))).rev().map(|it| *it.1))
                }
            }
        };
        keys.iter().map(one).fold(0, u64::wrapping_add)
    }
}

/// A standard map whose records are boxed, as those of a map with versions would be.
struct Boxed<K>(RwLock<BTreeMap<K, Box<(u64, u64)>>>);

impl<K: Key> Peer<K> for Boxed<K> {
    fn name(&self) -> &'static str {
        "RwLock<BTreeMap<Box>>"
    }
    fn insert(&self, keys: &[(K, u64)]) {
        for (key, value) in keys {
            self.0.write().insert(key.clone(), Box::new((*value, 0)));
        }
    }
    fn get(&self, keys: &[&(K, u64)]) {
        for (key, value) in keys {
            assert_eq!(self.0.read().get(key).map(|it| it.0), Some(*value));
        }
    }
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64 {
        let one = |(key, _): &&(K, u64)| {
            let map = self.0.read();
            match forward {
                true => total(map.range((Bound::Included(key), Bound::Unbounded)).map(|it| it.1.0)),
                false => total(
                    map.range((Bound::Unbounded, Bound::Included(key))).rev().map(|it| it.1.0),
                ),
            }
        };
        keys.iter().map(one).fold(0, u64::wrapping_add)
    }
}

impl<K: Key> Peer<K> for TreeIndex<K, u64> {
    fn name(&self) -> &'static str {
        "scc TreeIndex"
    }
    fn insert(&self, keys: &[(K, u64)]) {
        for (key, value) in keys {
            assert!(self.insert_sync(key.clone(), *value).is_ok());
        }
    }
    fn get(&self, keys: &[&(K, u64)]) {
        for (key, value) in keys {
            assert_eq!(self.peek_with(key, |_, it| *it), Some(*value));
        }
    }
    fn scan(&self, keys: &[&(K, u64)], forward: bool) -> u64 {
        let one = |(key, _): &&(K, u64)| {
            let guard = scc::Guard::new();
            match forward {
                true => total(
                    self.range::<K, _>((Bound::Included(key), Bound::Unbounded), &guard)
                        .map(|it| *it.1),
                ),
                false => total(
                    self.range::<K, _>((Bound::Unbounded, Bound::Included(key)), &guard)
                        .rev()
                        .map(|it| *it.1),
                ),
            }
        };
        keys.iter().map(one).fold(0, u64::wrapping_add)
    }
}

/// Slices of one workload, for each peer nanoseconds per operation.
struct Samples(Vec<Vec<f64>>);

impl Samples {
    fn new(peers: usize) -> Self {
        Self(vec![Vec::new(); peers])
    }

    fn take(&mut self, peer: usize, operations: usize, work: impl FnOnce()) {
        let start = thread_cpu_ns();
        work();
        self.0[peer].push((thread_cpu_ns() - start) as f64 / operations as f64);
    }

    fn report(&self, workload: &str, names: &[&str]) {
        for (samples, name) in self.0.iter().zip(names) {
            let (time, ratio) = (median(samples), ratio(samples, &self.0[0]));
            println!("{workload:14} {name:22} {time:9.1} ns   x {ratio:5.2}");
        }
    }
}

fn run<K: Key>(keys: &[(K, u64)], fresh: &[(K, u64)]) {
    let ours: Index<K, u64> = Index::new();
    let skip_map = SkipMap::new();
    let inline = Inline(RwLock::new(BTreeMap::new()));
    let boxed = Boxed(RwLock::new(BTreeMap::new()));
    let tree = TreeIndex::new();
    let peers: [&dyn Peer<K>; 5] = [&ours, &skip_map, &inline, &boxed, &tree];
    let names = peers.map(Peer::name);
    let mut random = Random::new(7);

    let (mut inserts, mut bytes) = (Samples::new(5), [0_isize; 5]);
    for slice in keys.chunks(GETS) {
        for (at, peer) in peers.iter().enumerate() {
            let before = allocated().cast_signed();
            inserts.take(at, slice.len(), || peer.insert(slice));
            bytes[at] += allocated().cast_signed() - before;
        }
    }
    inserts.report("insert", &names);

    let pick = |random: &mut Random, count: usize| -> Vec<&(K, u64)> {
        (0..count).map(|_| random.pick(keys)).collect()
    };
    let (mut gets, mut scans, mut backs) = (Samples::new(5), Samples::new(5), Samples::new(5));
    for _ in 0..ROUNDS {
        let (points, starts) = (pick(&mut random, GETS), pick(&mut random, SCANS));
        let mut sums = [[0; 5]; 2];
        for (at, peer) in peers.iter().enumerate() {
            gets.take(at, GETS, || peer.get(&points));
            scans.take(at, SCANS, || sums[0][at] = peer.scan(&starts, true));
            backs.take(at, SCANS, || sums[1][at] = peer.scan(&starts, false));
        }
        assert!(sums.iter().all(|sums| sums.iter().all(|sum| *sum == sums[0])), "{sums:?}");
    }
    gets.report("get", &names);
    scans.report("scan 100", &names);
    backs.report("scan 100 back", &names);

    mixed(&peers, fresh, |count| pick(&mut random, count)).report("mixed 2 threads", &names);
    for (bytes, name) in bytes.iter().zip(names) {
        let each = *bytes as f64 / keys.len() as f64;
        println!("{:14} {name:22} {each:9.1} B", "bytes/entry");
    }
}

/// Two threads that each insert one fresh key after nineteen reads.
fn mixed<'k, K: Key>(
    peers: &[&dyn Peer<K>],
    fresh: &[(K, u64)],
    mut pick: impl FnMut(usize) -> Vec<&'k (K, u64)>,
) -> Samples {
    let mut samples = Samples::new(peers.len());
    let fresh: Vec<_> = fresh.chunks(GETS / 20).collect();
    for pair in fresh.chunks_exact(2).take(ROUNDS) {
        for (at, peer) in peers.iter().enumerate() {
            let points = [pick(GETS), pick(GETS)];
            let barrier = Barrier::new(2);
            let times = std::thread::scope(|scope| {
                let threads = [0, 1].map(|thread| {
                    let (points, new, barrier) = (&points[thread], pair[thread], &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let start = thread_cpu_ns();
                        for (reads, write) in points.chunks(20).zip(new) {
                            peer.get(&reads[1..]);
                            peer.insert(std::slice::from_ref(write));
                        }
                        thread_cpu_ns() - start
                    })
                });
                threads.map(|thread| thread.join().expect("a benchmark thread failed"))
            });
            samples.0[at].push((times[0] + times[1]) as f64 / (2 * GETS) as f64);
        }
    }
    samples
}

fn keyed<K>(numbers: &[u64], key: impl Fn(u64) -> K) -> Vec<(K, u64)> {
    numbers.iter().map(|number| (key(*number), *number ^ 0x55)).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--quick");
    let usual = if quick() { 50_000 } else { 1_000_000 };
    let count: u64 = arguments.next().map_or(usual, |it| it.parse().expect("a number of keys"));
    let kind = arguments.next().unwrap_or_else(|| "u64".into());
    let extra = (GETS / 20 * 2 * ROUNDS) as u64;
    let mut random = Random::new(42);
    println!("{count} keys, {kind}");
    let mut numbers: Vec<u64> = match kind.as_str() {
        "sequential" => (0..count + extra).collect(),
        _ => (0..count + extra).map(|_| random.next()).collect(),
    };
    let fresh = numbers.split_off(usize::try_from(count).expect("keys fit into memory"));
    match kind.as_str() {
        "u64" | "sequential" => run(&keyed(&numbers, |it| it), &keyed(&fresh, |it| it)),
        "string" => {
            let key = |number: u64| format!("{number:016x}");
            run(&keyed(&numbers, key), &keyed(&fresh, key));
        }
        "prefix" => {
            let key = |number: u64| format!("user/{:011x}", number >> 20);
            run(&keyed(&numbers, key), &keyed(&fresh, key));
        }
        other => panic!("no such kind: {other}"),
    }
}

//! Each policy hits as often as its textbook form, within a point of a hundred, on every trace.
//!
//! `cargo test --lib evict::tests::hit_ratios -- --nocapture` prints the table.

use super::bucket::{Bucket, records};
use super::reference::reference;
use super::traces::trace;
use super::{EvictionPolicy, POLICIES};
use std::sync::atomic::Ordering::SeqCst;

const KEYS: u32 = 20_000;
const ACCESSES: usize = 400_000;
const WEIGHT: u64 = 100;
const TRACES: [&str; 7] = ["zipf 0.8", "zipf 1.0", "zipf 1.2", "scans", "loop", "shifts", "drift"];
/// Points of a hundred.
const TOLERANCE: f64 = 1.0;

fn percent(hits: usize, all: usize) -> f64 {
    f64::from(u32::try_from(hits).unwrap()) * 100.0 / f64::from(u32::try_from(all).unwrap())
}

/// Hits of a bucket with room for so many entries.
fn ours(policy: EvictionPolicy, shards: usize, capacity: usize, trace: &[u64]) -> f64 {
    let records = records(trace.iter().max().unwrap() + 1);
    let bucket = Bucket::new(policy, shards, WEIGHT * capacity as u64, &records);
    let hits = trace.iter().filter(|key| bucket.access(**key, WEIGHT)).count();
    let (steps, evicted) = (bucket.steps.load(SeqCst), bucket.evicted.load(SeqCst));
    assert!(steps < 4 * evicted, "{policy:?}: {steps} steps for {evicted} victims");
    percent(hits, trace.len())
}

fn textbook(name: &str, capacity: usize, trace: &[u64]) -> f64 {
    let mut reference = reference(name, capacity);
    percent(trace.iter().filter(|key| reference.access(**key)).count(), trace.len())
}

fn compare(policy: EvictionPolicy, shards: usize, parts: &[u32]) {
    let (_, name) = POLICIES.into_iter().find(|(known, _)| *known == policy).unwrap();
    for title in TRACES {
        let trace = trace(title, KEYS, ACCESSES, 7);
        for part in parts {
            let capacity = usize::try_from(KEYS / part).unwrap();
            let expected = textbook(name, capacity, &trace);
            let found = ours(policy, shards, capacity, &trace);
            let line = format!("{name:8} {shards} {title:9} {capacity:5}: {found:6.2}");
            println!("{line} beside {expected:6.2}, {:+.2}", found - expected);
            assert!((found - expected).abs() <= TOLERANCE, "{line} beside {expected:6.2}");
        }
    }
}

#[test]
fn s3_fifo_hits_like_the_textbook() {
    compare(EvictionPolicy::S3Fifo, 1, &[100, 10]);
}

#[test]
fn lru_hits_like_the_textbook() {
    compare(EvictionPolicy::Lru, 1, &[100, 10]);
}

#[test]
fn lfu_hits_like_the_textbook() {
    compare(EvictionPolicy::Lfu, 1, &[100, 10]);
}

#[test]
fn arc_hits_like_the_textbook() {
    compare(EvictionPolicy::Arc, 1, &[100, 10]);
}

#[test]
fn random_hits_like_the_textbook() {
    compare(EvictionPolicy::Random, 1, &[100, 10]);
}

#[test]
fn shards_hit_like_one() {
    for (policy, _) in POLICIES {
        compare(policy, 4, &[10]);
    }
}

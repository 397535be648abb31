//! Hit ratios of the eviction policies, of their textbook forms, and of two caches: in percent.
//!
//! Each trace is played to every contender with room for a hundredth and for a tenth of its keys. A
//! key that is missed is put in. Beside each policy stands by how much its textbook form, exact and
//! for one thread, hits more or less. `words` is the sequence of words of the text files of this
//! repository and of the crates that cargo has downloaded.

#[path = "../../../../src/evict/tests/reference.rs"]
mod reference;
#[path = "../../../../src/evict/tests/traces.rs"]
mod traces;

use std::collections::HashMap;
use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use palisade::EvictionPolicy;
use palisade::testing::KeptKeys;

/// Something that holds some of the keys it was asked for.
trait Cache {
    /// Reads a key, and puts it in if it was not there. True for a hit.
    fn access(&mut self, key: u64) -> bool;
}

impl Cache for KeptKeys {
    fn access(&mut self, key: u64) -> bool {
        Self::access(self, key)
    }
}

impl Cache for Box<dyn reference::Reference> {
    fn access(&mut self, key: u64) -> bool {
        self.as_mut().access(key)
    }
}

/// Moka puts its house in order when it is told to, so that the figures repeat.
impl Cache for moka::sync::Cache<u64, ()> {
    fn access(&mut self, key: u64) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
        }
        self.run_pending_tasks();
        hit
    }
}

impl Cache for quick_cache::sync::Cache<u64, ()> {
    fn access(&mut self, key: u64) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
        }
        hit
    }
}

const POLICIES: [(EvictionPolicy, &str); 5] = [
    (EvictionPolicy::S3Fifo, "S3-FIFO"),
    (EvictionPolicy::Lru, "LRU"),
    (EvictionPolicy::Lfu, "LFU"),
    (EvictionPolicy::Arc, "ARC"),
    (EvictionPolicy::Random, "random"),
];

/// Hits in percent.
fn play(mut cache: impl Cache, trace: &[u64]) -> f64 {
    let hits = trace.iter().filter(|key| cache.access(**key)).count();
    hits as f64 * 100.0 / trace.len() as f64
}

fn row(name: &str, keys: usize, trace: &[u64]) {
    for part in [100, 10] {
        let capacity = keys / part;
        print!("{name:<9} {keys:>8} {:>3} %", 100 / part);
        for (policy, name) in POLICIES {
            let ours = play(KeptKeys::new(policy, capacity), trace);
            let textbook = play(reference::reference(name, capacity), trace);
            print!("  {ours:6.2} {:+5.2}", ours - textbook);
        }
        let moka = play(moka::sync::Cache::new(capacity as u64), trace);
        let quick = play(quick_cache::sync::Cache::new(capacity), trace);
        println!("  {moka:6.2}  {quick:6.2}");
    }
}

/// Text files below a folder.
fn text_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            text_files(&path, files);
        } else if [".rs", ".md", ".toml", ".txt"].iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
}

/// Words in the order in which they stand, each by a number of its own.
fn words(max: usize) -> Vec<u64> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut files = Vec::new();
    text_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), &mut files);
    text_files(&home.unwrap_or_default().join("registry/src"), &mut files);
    let (mut numbers, mut trace) = (HashMap::new(), Vec::new());
    for file in files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        for word in text.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
            if !word.is_empty() && trace.len() < max {
                let next = numbers.len() as u64;
                trace.push(*numbers.entry(word.to_owned()).or_insert(next));
            }
        }
    }
    trace
}

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    let (keys, accesses) = if quick { (10_000, 200_000) } else { (100_000, 2_000_000) };
    print!("trace         keys  room");
    POLICIES.iter().for_each(|(_, name)| print!("  {name:>12}"));
    println!("    moka   quick_cache");
    for name in ["zipf 0.8", "zipf 1.0", "zipf 1.2", "scans", "loop", "shifts", "drift"] {
        row(name, keys as usize, &traces::trace(name, keys, accesses, 11));
    }
    let words = words(2 * accesses);
    row("words", words.iter().collect::<HashSet<_>>().len(), &words);
}

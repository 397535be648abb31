//! Builds an inverted index of real text files, in parallel, and proves that it is right.
//!
//! ```text
//! cargo run --release --example index [--store DIR] [--limit FILES] [--find WORD]
//!     [--prefix LETTERS] [FOLDER..]
//! ```
//!
//! Without folders it reads this repository and the sources that cargo has downloaded.
//!
//! Worker threads read and count files; one serializable transaction per file then writes to three
//! buckets (see `inverted`). Two files of one folder meet in the folder's totals, so transactions
//! do conflict now and then, and are retried. Meanwhile a reader takes snapshot after snapshot and
//! checks that the three agree in each. At the end everything is compared with a plain count on one
//! thread, and the exit code tells.
//!
//! With `--store` the index is kept in a directory. The program may be killed at any moment: the
//! next run goes on with the files that are missing or have changed.

mod inverted;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use palisade::{Database, Options, Snapshot};

use inverted::{Fallible, FileNumber, Index, Posting, Tally};
use sources::{Source, gather};

const FILES_MAX_DEFAULT: usize = 5_000;

fn main() -> Fallible<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let mut sources = gather(&arguments.folders, arguments.files_max);
    println!("{} files in {} folders", sources.len(), arguments.folders.len());

    let index = Index::open(open(arguments.store.as_deref())?)?;
    let unchanged = index.settle(&mut sources)?;
    if arguments.store.is_some() {
        println!("{unchanged} of them are in the store, unchanged");
    }
    let before = total(&index)?;
    let started = Instant::now();
    let checks = build(&index, &sources)?;
    report(&index, started.elapsed(), before, checks)?;

    let snapshot = index.db.snapshot();
    for word in &arguments.words {
        answer_word(&index, &snapshot, word)?;
    }
    for prefix in &arguments.prefixes {
        answer_prefix(&index, &snapshot, prefix)?;
    }
    let started = Instant::now();
    index.verify(&snapshot, &sources)?;
    let elapsed = started.elapsed().as_secs_f64();
    println!("\nequal to a plain count on one thread; counting and comparing took {elapsed:.2} s");
    drop(snapshot);
    let Index { db, .. } = index;
    Ok(db.close()?)
}

/// The database in a directory, or one in memory.
fn open(store: Option<&Path>) -> palisade::Result<Database> {
    let Some(store) = store else { return Ok(Database::in_memory()) };
    let (db, recovery) = Options::new().recover(store)?;
    if !recovery.is_new && !recovery.was_closed {
        let (commits, took) = (recovery.commits, recovery.took);
        println!("the last run was cut short; {commits} commits recovered in {took:.0?}");
    }
    Ok(db)
}

/// Indexes all files, and shows how far it is.
fn build(index: &Index, sources: &[Source]) -> Fallible<u64> {
    let style = "{bar:40} {pos}/{len} files  {per_sec}  {eta} left";
    let progress = ProgressBar::new(sources.len() as u64);
    progress.set_style(ProgressStyle::with_template(style)?);
    let checks = index.build(sources, |_| progress.inc(1));
    progress.finish_and_clear();
    checks
}

fn total(index: &Index) -> palisade::Result<Tally> {
    Ok(index.db.snapshot().iter(&index.totals)?.map(|(_, total)| total).sum())
}

fn report(index: &Index, elapsed: Duration, before: Tally, checks: u64) -> Fallible<()> {
    let all = total(index)?;
    let total = all - before;
    let per_second = |count: u64| thousands(as_float(count) / elapsed.as_secs_f64());
    println!("{:<12} {:>10}   per second", "indexed", "");
    for (what, count) in [
        ("files", total.files),
        ("kB", total.bytes / 1000),
        ("words", total.words),
        ("postings", total.postings),
    ] {
        println!("  {what:<10} {count:>10}   {:>10}", per_second(count));
    }
    let stats = index.db.stats();
    println!("transactions");
    for (what, count) in [
        ("committed", stats.commits),
        ("retried", stats.retries),
        ("write-write", stats.aborts.write_conflicts),
        ("cycle", stats.aborts.cycles),
        ("read-only", stats.aborts.read_only_pivots),
        ("window", stats.aborts.windows_lost),
        ("budget", stats.aborts.search_budgets),
    ] {
        println!("  {what:<11} {count:>9}");
    }
    println!("snapshots checked beside them: {checks}, all in agreement");
    if let Some(bytes) = resident_bytes() {
        let each = as_float(bytes) / as_float(all.postings.max(1));
        println!(
            "memory: {} MB resident, {each:.0} bytes a posting all included",
            bytes / 1_000_000
        );
    }
    Ok(())
}

fn thousands(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0} k", value / 1000.0) } else { format!("{value:.0}") }
}

#[expect(clippy::cast_precision_loss, reason = "counts of files and words stay far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// What the system says this process holds, where it says so.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Prints how often `word` occurs and the files that hold it most often.
fn answer_word(index: &Index, snapshot: &Snapshot, word: &str) -> Fallible<()> {
    let started = Instant::now();
    let mut found: Vec<(u32, FileNumber)> = snapshot
        .range(&index.words, Posting::all_of(word))?
        .map(|(posting, &count)| (count, posting.file))
        .collect();
    let sum: u64 = found.iter().map(|&(count, _)| u64::from(count)).sum();
    found.sort_unstable_by(|one, other| other.cmp(one));
    println!("\n{word:?}: {sum} times in {} files, {:.0?}", found.len(), started.elapsed());
    for (count, number) in found.into_iter().take(3) {
        let mut files = snapshot.iter(&index.files)?;
        let name = files.find(|(_, entry)| entry.number == number).map(|(name, _)| name.as_str());
        println!("  {count:>6}  {}", name.unwrap_or("?"));
    }
    Ok(())
}

/// Prints the most frequent words that begin with `prefix`.
fn answer_prefix(index: &Index, snapshot: &Snapshot, prefix: &str) -> Fallible<()> {
    let started = Instant::now();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (posting, &count) in snapshot.range(&index.words, Posting::first_of(prefix)..)? {
        if !posting.word.starts_with(prefix) {
            break;
        }
        *counts.entry(&posting.word).or_default() += u64::from(count);
    }
    println!("\n{prefix}*: {} words, {:.0?}", counts.len(), started.elapsed());
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    for (word, count) in counts.into_iter().take(5) {
        println!("  {count:>6}  {word}");
    }
    Ok(())
}

struct Arguments {
    store: Option<PathBuf>,
    folders: Vec<PathBuf>,
    words: Vec<String>,
    prefixes: Vec<String>,
    files_max: usize,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut arguments = Self {
            store: None,
            folders: vec![],
            words: vec![],
            prefixes: vec![],
            files_max: FILES_MAX_DEFAULT,
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| missing(&argument));
            match argument.as_str() {
                "--store" => arguments.store = Some(value()?.into()),
                "--find" => arguments.words.push(value()?.to_lowercase()),
                "--prefix" => arguments.prefixes.push(value()?.to_lowercase()),
                "--limit" => arguments.files_max = value()?.parse()?,
                _ => arguments.folders.push(argument.into()),
            }
        }
        if arguments.folders.is_empty() {
            arguments.folders = default_folders();
        }
        if arguments.words.is_empty() && arguments.prefixes.is_empty() {
            arguments.words = vec!["transaction".into(), "serializable".into()];
            arguments.prefixes = vec!["snap".into()];
        }
        Ok(arguments)
    }
}

fn missing(argument: &str) -> String {
    format!("{argument} needs a value")
}

/// This repository, and what cargo has downloaded if that can be found.
fn default_folders() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let registry = cargo.map(|home| home.join("registry").join("src"));
    [Some(repository), registry].into_iter().flatten().filter(|folder| folder.is_dir()).collect()
}

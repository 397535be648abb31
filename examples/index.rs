//! Builds an inverted index of real text files, in parallel, and proves that it is right.
//!
//! ```text
//! cargo run --release --example index [--limit FILES] [--find WORD] [--prefix LETTERS] [FOLDER..]
//! ```
//!
//! Without folders it reads this repository and the sources that cargo has downloaded.
//!
//! Worker threads read and count files; one serializable transaction per file then writes to three
//! buckets. Two files of one folder meet in the folder's totals, so transactions do conflict now
//! and then, and are retried.
//!
//! ```text
//! files   path          -> number and tally of the file
//! words   (word, file)  -> how often the word is in the file
//! totals  folder        -> sum of the tallies of the folder's files
//! ```
//!
//! Meanwhile a reader takes snapshot after snapshot and checks that the three agree in each. At the
//! end everything is compared with a plain count on one thread, and the exit code tells.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Read;
use std::iter::Sum;
use std::ops::{Add, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use palisade::{Bucket, Database, Snapshot};
use rayon::iter::{ParallelBridge, ParallelIterator};

/// Files that are larger are data rather than text.
const FILE_BYTES_MAX: u64 = 1 << 20;
const WORD_BYTES_MAX: usize = 40;
const FILES_MAX_DEFAULT: usize = 5_000;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let sources = gather(&arguments.folders, arguments.files_max);
    println!("{} files in {} folders", sources.len(), arguments.folders.len());

    let index = Index::new()?;
    let started = Instant::now();
    let checks = build(&index, &sources)?;
    report(&index, started.elapsed(), checks)?;

    let snapshot = index.db.snapshot();
    for word in &arguments.words {
        answer_word(&index, &snapshot, word)?;
    }
    for prefix in &arguments.prefixes {
        answer_prefix(&index, &snapshot, prefix)?;
    }
    verify(&index, &snapshot, &sources)
}

/// What one file, or all files of a folder, hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    files: u64,
    bytes: u64,
    words: u64,
    postings: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            words: self.words + other.words,
            postings: self.postings + other.postings,
        }
    }
}

impl<'t> Sum<&'t Tally> for Tally {
    fn sum<I: Iterator<Item = &'t Tally>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, tally| sum + *tally)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileNumber(u32);

/// A word in a file. All files of a word stand side by side, and so do all words of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Posting {
    word: Box<str>,
    file: FileNumber,
}

impl Posting {
    fn all_of(word: &str) -> RangeInclusive<Self> {
        Self::first_of(word)..=Self { word: word.into(), file: FileNumber(u32::MAX) }
    }

    /// Not after any posting of `word`, nor of a word that begins with it.
    fn first_of(word: &str) -> Self {
        Self { word: word.into(), file: FileNumber(0) }
    }
}

struct FileEntry {
    number: FileNumber,
    tally: Tally,
}

struct Index {
    db: Database,
    files: Bucket<String, FileEntry>,
    words: Bucket<Posting, u32>,
    totals: Bucket<String, Tally>,
}

impl Index {
    fn new() -> palisade::Result<Self> {
        let db = Database::in_memory();
        let (files, words, totals) = (
            db.volatile_bucket("files")?,
            db.volatile_bucket("words")?,
            db.volatile_bucket("totals")?,
        );
        Ok(Self { db, files, words, totals })
    }

    /// Adds a file with all its words, or nothing. A file that is there already stays as it is.
    fn add(&self, source: &Source, counted: &Counted) -> palisade::Result<()> {
        self.db.write(|tx| {
            let entry = FileEntry { number: source.number, tally: counted.tally };
            if !tx.insert_if_absent(&self.files, source.name.clone(), entry)? {
                return Ok(());
            }
            for (word, &count) in &counted.words {
                let posting = Posting { word: word.clone(), file: source.number };
                tx.insert(&self.words, posting, count)?;
            }
            tx.update(&self.totals, source.folder().to_owned(), |total| {
                Some(total.copied().unwrap_or_default() + counted.tally)
            })?;
            Ok(())
        })
    }

    /// Checks that per-file tallies add up to the totals of each folder and, when `deep`, that the
    /// words add up to them too. True in every snapshot, however many writers are at work.
    fn audit(&self, snapshot: &Snapshot, deep: bool) -> Fallible<()> {
        let mut expected: BTreeMap<&str, Tally> = BTreeMap::new();
        for (name, entry) in snapshot.iter(&self.files)? {
            let total = expected.entry(folder_of(name)).or_default();
            *total = *total + entry.tally;
        }
        let totals = snapshot.iter(&self.totals)?.map(|(folder, total)| (folder.as_str(), *total));
        ensure(totals.eq(expected.iter().map(|(&folder, &total)| (folder, total))), "totals")?;
        if deep {
            let total: Tally = expected.values().sum();
            let (mut postings, mut words) = (0, 0);
            for (_, &count) in snapshot.iter(&self.words)? {
                postings += 1;
                words += u64::from(count);
            }
            ensure((postings, words) == (total.postings, total.words), "words")?;
        }
        Ok(())
    }
}

fn ensure(agrees: bool, bucket: &str) -> Fallible<()> {
    if agrees { Ok(()) } else { Err(format!("bucket {bucket:?} does not agree").into()) }
}

/// A file to read.
struct Source {
    number: FileNumber,
    name: String,
    path: PathBuf,
    bytes: u64,
}

impl Source {
    fn folder(&self) -> &str {
        folder_of(&self.name)
    }

    /// Reads the file and counts its words; `None` if it is not text.
    fn count(&self) -> Option<Counted> {
        let text = String::from_utf8(fs::read(&self.path).ok()?).ok()?;
        let mut words: BTreeMap<Box<str>, u32> = BTreeMap::new();
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if word.starts_with(char::is_alphabetic) && word.len() <= WORD_BYTES_MAX {
                *words.entry(word.to_lowercase().into()).or_default() += 1;
            }
        }
        let tally = Tally {
            files: 1,
            bytes: text.len() as u64,
            words: words.values().copied().map(u64::from).sum(),
            postings: words.len() as u64,
        };
        Some(Counted { tally, words })
    }
}

struct Counted {
    tally: Tally,
    words: BTreeMap<Box<str>, u32>,
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder)
}

/// The first `files_max` files under `folders` that may be text, numbered by folder and name, the
/// largest first so that no worker is left with a big one at the end.
fn gather(folders: &[PathBuf], files_max: usize) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        let mut below = files_below(folder);
        below.sort_unstable();
        found.append(&mut below);
    }
    let texts = found.into_iter().filter(|(path, _)| looks_like_text(path)).take(files_max);
    let source = |(number, (path, bytes)): (u32, (PathBuf, u64))| Source {
        number: FileNumber(number),
        name: path.display().to_string(),
        path,
        bytes,
    };
    let mut sources: Vec<Source> = (0..).zip(texts).map(source).collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.bytes));
    sources
}

/// Whether the file begins with text.
fn looks_like_text(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut start));
    // A character that is cut off at the end is an error without a length.
    let is_text = str::from_utf8(&start).map_or_else(|error| error.error_len().is_none(), |_| true);
    read.is_ok() && is_text && !start.contains(&0)
}

fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let (Ok(kind), Ok(about)) = (entry.file_type(), entry.metadata()) else { continue };
            if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                open.push(entry.path());
            } else if kind.is_file() && about.len() <= FILE_BYTES_MAX {
                found.push((entry.path(), about.len()));
            }
        }
    }
    found
}

/// Indexes all files on the worker threads while a reader checks snapshots. Returns the number of
/// snapshots that were checked.
fn build(index: &Index, sources: &[Source]) -> Fallible<u64> {
    let style = "{bar:40} {pos}/{len} files  {per_sec}  {eta} left";
    let progress = ProgressBar::new(sources.len() as u64);
    progress.set_style(ProgressStyle::with_template(style)?);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Fallible<u64> {
            let mut checks = 0;
            // Relaxed: a round more or less does not matter.
            while !done.load(Ordering::Relaxed) {
                index.audit(&index.db.snapshot(), checks % 16 == 0)?;
                checks += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(checks)
        });
        let written = sources.iter().par_bridge().try_for_each(|source| {
            if let Some(counted) = source.count() {
                index.add(source, &counted)?;
            }
            progress.inc(1);
            Ok::<(), palisade::Error>(())
        });
        done.store(true, Ordering::Relaxed);
        progress.finish_and_clear();
        let checks = reader.join().map_err(|_| "the reader panicked")??;
        written?;
        Ok(checks)
    })
}

fn report(index: &Index, elapsed: Duration, checks: u64) -> Fallible<()> {
    let snapshot = index.db.snapshot();
    let total: Tally = snapshot.iter(&index.totals)?.map(|(_, total)| total).sum();
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
        let each = as_float(bytes) / as_float(total.postings.max(1));
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

/// Counts everything once more, on one thread and in plain maps, and compares.
fn verify(index: &Index, snapshot: &Snapshot, sources: &[Source]) -> Fallible<()> {
    let started = Instant::now();
    let mut words: BTreeMap<Posting, u32> = BTreeMap::new();
    let mut totals: BTreeMap<&str, Tally> = BTreeMap::new();
    for source in sources {
        if let Some(counted) = source.count() {
            let total = totals.entry(source.folder()).or_default();
            *total = *total + counted.tally;
            let file = source.number;
            words.extend(counted.words.into_iter().map(|(word, n)| (Posting { word, file }, n)));
        }
    }
    let elapsed = started.elapsed();
    index.audit(snapshot, true)?;
    ensure(snapshot.iter(&index.words)?.eq(words.iter()), "words")?;
    let found = snapshot.iter(&index.totals)?.map(|(folder, total)| (folder.as_str(), total));
    ensure(found.eq(totals.iter().map(|(folder, total)| (*folder, total))), "totals")?;
    println!("\nequal to a plain count on one thread, which took {:.2} s", elapsed.as_secs_f64());
    Ok(())
}

struct Arguments {
    folders: Vec<PathBuf>,
    words: Vec<String>,
    prefixes: Vec<String>,
    files_max: usize,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut arguments =
            Self { folders: vec![], words: vec![], prefixes: vec![], files_max: FILES_MAX_DEFAULT };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| missing(&argument));
            match argument.as_str() {
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

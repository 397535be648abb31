//! The index: three buckets, and the transactions that keep them in agreement.
//!
//! ```text
//! files   path          -> number, time and tally of the file
//! words   (word, file)  -> how often the word is in the file
//! totals  folder        -> sum of the tallies of the folder's files
//! ```
//!
//! Our own types as keys and values: in a durable database they say how they become bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::iter::Sum;
use std::ops::{Add, RangeInclusive, Sub};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use palisade::{
    Bucket, Database, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Snapshot,
};
use rayon::iter::{ParallelBridge, ParallelIterator};

use crate::sources::{Counted, Source, folder_of};

pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What one file, or all files of a folder, hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) words: u64,
    pub(crate) postings: u64,
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

impl Sub for Tally {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            files: self.files - other.files,
            bytes: self.bytes - other.bytes,
            words: self.words - other.words,
            postings: self.postings - other.postings,
        }
    }
}

impl<'t> Sum<&'t Tally> for Tally {
    fn sum<I: Iterator<Item = &'t Tally>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, tally| sum + *tally)
    }
}

impl Encode for Tally {
    // There is no order of tallies; they are values.
    const ORDERED: bool = false;

    fn type_identity() -> String {
        "tally".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.part(&self.files)?.part(&self.bytes)?.part(&self.words)?.last(&self.postings)
    }
}

impl Decode for Tally {
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        let (files, bytes, words) = (from.part()?, from.part()?, from.part()?);
        Ok(Self { files, bytes, words, postings: from.last()? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileNumber(pub(crate) u32);

/// A word in a file. All files of a word stand side by side, and so do all words of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posting {
    pub(crate) word: Box<str>,
    pub(crate) file: FileNumber,
}

impl Posting {
    pub(crate) fn all_of(word: &str) -> RangeInclusive<Self> {
        Self::first_of(word)..=Self { word: word.into(), file: FileNumber(u32::MAX) }
    }

    /// Not after any posting of `word`, nor of a word that begins with it.
    pub(crate) fn first_of(word: &str) -> Self {
        Self { word: word.into(), file: FileNumber(0) }
    }
}

impl Encode for Posting {
    // `Ord` compares the same parts in the same order.
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "posting".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.part(&self.word)?.last(&self.file.0)
    }
}

impl Decode for Posting {
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { word: from.part()?, file: FileNumber(from.last()?) })
    }
}

/// By what a file is seen to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    pub(crate) modified_ns: u128,
}

pub(crate) struct FileEntry {
    pub(crate) number: FileNumber,
    stamp: Stamp,
    tally: Tally,
}

impl Encode for FileEntry {
    const ORDERED: bool = false;

    fn type_identity() -> String {
        "file".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        let Stamp { bytes, modified_ns } = &self.stamp;
        to.part(&self.number.0)?.part(bytes)?.part(modified_ns)?.last(&self.tally)
    }
}

impl Decode for FileEntry {
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        let number = FileNumber(from.part()?);
        let stamp = Stamp { bytes: from.part()?, modified_ns: from.part()? };
        Ok(Self { number, stamp, tally: from.last()? })
    }
}

pub(crate) struct Index {
    pub(crate) db: Database,
    pub(crate) files: Bucket<String, FileEntry>,
    pub(crate) words: Bucket<Posting, u32>,
    pub(crate) totals: Bucket<String, Tally>,
}

impl Index {
    /// The index in a database: a new one, or what an earlier run left.
    pub(crate) fn open(db: Database) -> palisade::Result<Self> {
        let (files, words, totals) =
            (db.bucket("files")?, db.bucket("words")?, db.bucket("totals")?);
        Ok(Self { db, files, words, totals })
    }

    /// Takes files out that are gone or have changed, and gives every source the number by which
    /// the index knows it, or will. Returns how many are there already, unchanged.
    pub(crate) fn settle(&self, sources: &mut [Source]) -> palisade::Result<usize> {
        let wanted: BTreeMap<&str, Stamp> =
            sources.iter().map(|source| (source.name.as_str(), source.stamp)).collect();
        let snapshot = self.db.snapshot();
        let is_stale = |name: &str, entry: &FileEntry| wanted.get(name) != Some(&entry.stamp);
        let files = || snapshot.iter(&self.files);
        let stale: Vec<_> = files()?.filter(|(name, entry)| is_stale(name, entry)).collect();
        self.remove(&snapshot, &stale)?;
        let mut next = files()?.map(|(_, entry)| entry.number.0 + 1).max().unwrap_or(0);
        let mut unchanged = 0;
        for source in sources {
            let known = snapshot.get(&self.files, &source.name)?;
            if let Some(entry) = known.filter(|entry| entry.stamp == source.stamp) {
                (source.number, unchanged) = (entry.number, unchanged + 1);
            } else {
                (source.number, next) = (FileNumber(next), next + 1);
            }
        }
        Ok(unchanged)
    }

    /// Takes files out with all their words, one transaction each.
    fn remove(&self, snapshot: &Snapshot, stale: &[(&String, &FileEntry)]) -> palisade::Result<()> {
        let numbers: BTreeSet<_> = stale.iter().map(|(_, entry)| entry.number).collect();
        let mut postings: BTreeMap<FileNumber, Vec<&Posting>> = BTreeMap::new();
        if !numbers.is_empty() {
            let words = snapshot.iter(&self.words)?.map(|(posting, _)| posting);
            for posting in words.filter(|posting| numbers.contains(&posting.file)) {
                postings.entry(posting.file).or_default().push(posting);
            }
        }
        for (name, entry) in stale {
            self.db.write(|tx| {
                tx.remove(&self.files, name.as_str())?;
                for posting in postings.get(&entry.number).into_iter().flatten() {
                    tx.remove(&self.words, *posting)?;
                }
                tx.update(&self.totals, folder_of(name).to_owned(), |total| {
                    let rest = total.copied().unwrap_or_default() - entry.tally;
                    Some(rest).filter(|rest| *rest != Tally::default())
                })?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Adds a file with all its words, or nothing. A file that is there already stays as it is.
    pub(crate) fn add(&self, source: &Source, counted: &Counted) -> palisade::Result<()> {
        self.db.write(|tx| {
            let Source { number, stamp, .. } = *source;
            let entry = FileEntry { number, stamp, tally: counted.tally };
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

    /// Indexes all files that are not there on the worker threads, while a reader checks snapshots;
    /// calls `done` after each. Returns the number of snapshots that were checked.
    pub(crate) fn build(&self, sources: &[Source], done: impl Fn(&Source) + Sync) -> Fallible<u64> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| -> Fallible<u64> {
                let mut checks = 0;
                // Relaxed: a round more or less does not matter.
                while !is_over.load(Ordering::Relaxed) {
                    self.audit(&self.db.snapshot(), checks % 16 == 0)?;
                    checks += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(checks)
            });
            let written = sources.iter().par_bridge().try_for_each(|source| {
                if !self.files.contains_key(&source.name)?
                    && let Some(counted) = source.count()
                {
                    self.add(source, &counted)?;
                }
                done(source);
                Ok::<(), palisade::Error>(())
            });
            is_over.store(true, Ordering::Relaxed);
            let checks = reader.join().map_err(|_| "the reader panicked")??;
            written?;
            Ok(checks)
        })
    }

    /// Checks that per-file tallies add up to the totals of each folder and, when `deep`, that the
    /// words add up to them too. True in every snapshot, however many writers are at work.
    pub(crate) fn audit(&self, snapshot: &Snapshot, deep: bool) -> Fallible<()> {
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

    /// Counts everything once more, on one thread and in plain maps, and compares.
    pub(crate) fn verify(&self, snapshot: &Snapshot, sources: &[Source]) -> Fallible<()> {
        let mut words: BTreeMap<Posting, u32> = BTreeMap::new();
        let mut totals: BTreeMap<&str, Tally> = BTreeMap::new();
        for source in sources {
            if let Some(counted) = source.count() {
                let total = totals.entry(source.folder()).or_default();
                *total = *total + counted.tally;
                let file = source.number;
                words
                    .extend(counted.words.into_iter().map(|(word, n)| (Posting { word, file }, n)));
            }
        }
        self.audit(snapshot, true)?;
        ensure(snapshot.iter(&self.words)?.eq(words.iter()), "words")?;
        let found = snapshot.iter(&self.totals)?.map(|(folder, total)| (folder.as_str(), total));
        ensure(found.eq(totals.iter().map(|(folder, total)| (*folder, total))), "totals")
    }
}

fn ensure(agrees: bool, bucket: &str) -> Fallible<()> {
    if agrees { Ok(()) } else { Err(format!("bucket {bucket:?} does not agree").into()) }
}

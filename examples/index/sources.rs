//! Text files: finding them, and counting their words.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::inverted::{FileNumber, Stamp, Tally};

/// Files that are larger are data rather than text.
const FILE_BYTES_MAX: u64 = 1 << 20;
const WORD_BYTES_MAX: usize = 40;

/// A file to read.
pub(crate) struct Source {
    pub(crate) number: FileNumber,
    pub(crate) name: String,
    pub(crate) stamp: Stamp,
    path: PathBuf,
}

/// What a file holds.
pub(crate) struct Counted {
    pub(crate) tally: Tally,
    pub(crate) words: BTreeMap<Box<str>, u32>,
}

impl Source {
    pub(crate) fn folder(&self) -> &str {
        folder_of(&self.name)
    }

    /// Reads the file and counts its words; `None` if it is not text.
    pub(crate) fn count(&self) -> Option<Counted> {
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

pub(crate) fn folder_of(name: &str) -> &str {
    name.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder)
}

/// The first `files_max` files under `folders` that may be text, numbered by folder and name, the
/// largest first so that no worker is left with a big one at the end.
pub(crate) fn gather(folders: &[PathBuf], files_max: usize) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        let mut below = files_below(folder);
        below.sort_unstable();
        found.append(&mut below);
    }
    found.dedup();
    let texts = found.into_iter().filter(|(path, _)| looks_like_text(path)).take(files_max);
    let source = |(number, (path, stamp)): (u32, (PathBuf, Stamp))| Source {
        number: FileNumber(number),
        name: path.display().to_string(),
        stamp,
        path,
    };
    let mut sources: Vec<Source> = (0..).zip(texts).map(source).collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.stamp.bytes));
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

fn files_below(folder: &Path) -> Vec<(PathBuf, Stamp)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let (Ok(kind), Ok(about)) = (entry.file_type(), entry.metadata()) else { continue };
            if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                open.push(entry.path());
            } else if kind.is_file() && about.len() <= FILE_BYTES_MAX {
                let modified = about.modified().ok();
                let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified_ns = since.map_or(0, |since| since.as_nanos());
                found.push((entry.path(), Stamp { bytes: about.len(), modified_ns }));
            }
        }
    }
    found
}

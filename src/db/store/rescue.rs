//! What every way of saving a damaged database has in common.
//!
//! 1. The damaged database is only read, through a storage that cannot write.
//! 2. What is taken over was under a checksum that matched. What is not is told, with file and
//!    offset.

use std::path::{Path, PathBuf};

use crate::checkpoint::remains::{Gap, read_blocks, walk_blocks};
use crate::checkpoint::table::Table;
use crate::checkpoint::{CheckpointError, Entry, Origin, TableKind};
use crate::db::files::Files;
use crate::db::store::changes::{Changed, Changes};
use crate::db::store::lenient::Lenient;
use crate::db::store::open::Visit;
use crate::db::store::state::BucketState;
use crate::db::store::verify::Problem;
use crate::error::{Error, Result};
use crate::id::{Lsn, Timestamp};
use crate::sync::Arc;
use crate::wal::{Flaw, Recovered, Scope, path_of, read_log};

/// What a salvage has brought over, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Whether the manifest could not be read, so that the rest had to speak for itself.
    pub is_manifest_lost: bool,
    /// Buckets in the new database.
    pub buckets: usize,
    /// Those of them whose names were lost, under the names that they were given. They can be
    /// opened with any types, and should be opened with those they had.
    pub named: Vec<String>,
    /// Entries and operations read from tables.
    pub entries: u64,
    /// Commits read from the log.
    pub commits: u64,
    /// The newest commit in the new database.
    pub newest: Timestamp,
    /// What is damaged or missing, and was left out.
    pub dropped: Vec<Dropped>,
}

/// A part of a database that could not be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// The file, or the directory if a file is missing.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes, as far as that is known.
    pub bytes: u64,
    /// How many entries of a table were in them, as far as that is known.
    pub entries: u64,
    /// How many whole records of the log were in them or behind them, and cannot be used.
    pub records: u64,
    /// What is wrong there.
    pub why: String,
}

impl Dropped {
    pub(super) fn of(error: impl Into<Error>) -> Self {
        let Problem { path, offset, what, .. } = Problem::of(&error.into());
        Self { offset, ..Self::whole(path, what) }
    }

    /// A file of which nothing can be used.
    pub(super) fn whole(path: PathBuf, why: impl Into<String>) -> Self {
        Self { path, offset: 0, bytes: 0, entries: 0, records: 0, why: why.into() }
    }
}

impl From<Gap> for Dropped {
    fn from(gap: Gap) -> Self {
        let Gap { place, why } = gap;
        let (offset, bytes, entries) = (place.offset, place.length, place.entries);
        Self { offset, bytes, entries, ..Self::of(why) }
    }
}

/// A salvage under way.
pub(super) struct Rescue<'a> {
    pub(super) source: Arc<Lenient>,
    pub(super) from: &'a Path,
    pub(super) files: &'a Files,
    pub(super) done: Salvaged,
}

impl Rescue<'_> {
    /// Reads the log once, for what is wrong with it. Whether it reaches up to the newest table.
    pub(super) fn look_at_log(&mut self, scope: &Scope, newest_table: Lsn) -> Result<bool> {
        let recovered = self.scan(scope, &mut |_| Ok(()))?;
        let mut dropped: Vec<_> = recovered.damage.iter().cloned().map(Dropped::of).collect();
        let is_cut = !matches!(recovered.flaw, Flaw::Empty | Flaw::End);
        if dropped.is_empty() && (is_cut || recovered.discarded_bytes > 0) {
            let (path, offset) = (path_of(self.from, recovered.end), recovered.end.offset());
            let why = format!("{}: a torn tail, which nobody was promised", recovered.flaw);
            let (bytes, entries, records) = (0, 0, 0);
            dropped.push(Dropped { path, offset: offset.into(), bytes, entries, records, why });
        }
        if let Some(end) = dropped.last_mut() {
            (end.bytes, end.records) = (recovered.discarded_bytes, recovered.discarded_records);
        }
        self.done.dropped.extend(dropped);
        Ok(recovered.end >= newest_table)
    }

    /// Reads the log into the changes, but for what `is_known` says to be in the tables.
    pub(super) fn read_log(
        &mut self,
        scope: &Scope,
        changes: &mut Changes<'_>,
        is_known: &dyn Fn(&BucketState, &[u8], Timestamp) -> bool,
    ) -> Result<()> {
        let from = self.from;
        self.scan(scope, &mut |record| changes.apply(from, &record, is_known)).map(drop)
    }

    fn scan(&self, scope: &Scope, visit: &mut Visit<'_>) -> Result<Recovered> {
        let source: Arc<Lenient> = Arc::clone(&self.source);
        read_log(source, self.from, scope, &self.files.wal_options(), visit)
    }

    /// Passes on what can be read of a table, which should have so many entries if that is known,
    /// and tells of the rest.
    pub(super) fn entries(
        &mut self,
        opened: std::result::Result<Table, CheckpointError>,
        (origin, kind, expected): (Origin, TableKind, Option<u64>),
        each: &mut dyn FnMut(Entry<'_>) -> std::result::Result<(), CheckpointError>,
    ) -> Result<()> {
        let why = match opened {
            Ok(table) => {
                let gaps = read_blocks(&table, each)?;
                self.done.dropped.extend(gaps.into_iter().map(Dropped::from));
                return Ok(());
            }
            Err(why) => why,
        };
        let mut found = 0;
        let walked = walk_blocks(&*self.source, self.from, (origin, kind), &mut |entry| {
            found += 1;
            each(entry)
        });
        let entries = expected.map(|expected| expected.saturating_sub(found));
        self.done.dropped.push(Dropped { entries: entries.unwrap_or(0), ..Dropped::of(why) });
        let mut gaps = walked?;
        if entries == Some(0) {
            // What is left is the index, and what is wrong with it was told.
            gaps.clear();
        }
        self.done.dropped.extend(gaps.into_iter().map(Dropped::from));
        Ok(())
    }

    /// Tells of what the device did not give.
    pub(super) fn tell_unreadable(&mut self) {
        let unreadable = self.source.unreadable().into_iter();
        self.done.dropped.extend(unreadable.map(|it| Dropped {
            path: it.path,
            offset: it.offset,
            bytes: it.length,
            entries: 0,
            records: 0,
            why: it.why,
        }));
    }

    /// Ends the tables of what the log says.
    pub(super) fn finish(&mut self, changes: Changes<'_>) -> Result<Changed> {
        let applied = changes.finish()?;
        self.done.commits = applied.records;
        self.done.newest = applied.last;
        Ok(applied)
    }
}

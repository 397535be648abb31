//! Reading the whole log: which segments are alive, in which order, and where it ends.
//!
//! ```text
//!   [link 0 | a b c seal]   [link 1:end | d e .. torn]   [link 2:end ..]   [link 2:torn | f ]
//!      segment 1   alive       segment 2   alive           3   dead           4   alive
//! ```
//!
//! 1. After a segment comes the newest one whose link points into it. Nothing is appended to a
//!    segment that a recovery found, so what that recovery cut off stays behind its link.
//! 2. The first flaw ends the log: a torn tail. If a record anywhere behind it, or the manifest,
//!    proves that the log had been durable beyond the flaw, it is damage.
//! 3. A position that a link jumps over stands for the beginning of the segment with that link.
//! 4. A seal names the segment in which the log goes on, whose name was durable before. It stays
//!    until something else follows on the seal; if it is not there, what was in it is lost.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use crate::id::{Lsn, SegmentId, Timestamp};
use crate::storage::Access;
use crate::wal::disk::Disk;
use crate::wal::error::{Flaw, WalError};
use crate::wal::find::{Files, Found, find};
use crate::wal::options::Scope;
use crate::wal::reader::{Remains, Scanner, Step, probe};
use crate::wal::record::{Kind, Record};
use crate::wal::segment::{RECORDS, Segment, path_of};

/// How the log was found.
#[derive(Clone, Debug)]
pub(crate) struct Recovered {
    /// Where it ends.
    pub(crate) end: Lsn,
    /// The last commit that the log tells of; zero if it tells of none.
    pub(crate) last: Timestamp,
    /// Commits that were read.
    pub(crate) commits: u64,
    /// Bytes of all records that were read.
    pub(crate) bytes: u64,
    /// Why it ends there. [`Flaw::Empty`] and [`Flaw::End`] mean that no record was cut in two.
    pub(crate) flaw: Flaw,
    /// Valid records behind the end: written by commits that nobody was promised.
    pub(crate) discarded_records: u64,
    /// The bytes of those.
    pub(crate) discarded_bytes: u64,
    /// How far the log is known to have been durable.
    pub(crate) durable: Lsn,
    /// What is damaged, where that is tolerated; the last one is what the log ended at, if it did.
    pub(crate) damage: Vec<WalError>,
}

/// A segment in which a part of the log lies.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) segment: Segment,
    /// Where reading began: at its first record, or at what is needed.
    pub(super) start: u32,
    /// Where its part of the log ends.
    pub(super) end: u32,
    /// The end of the log before it, if it was read from its beginning.
    pub(super) link: Option<Lsn>,
    /// Commits in it.
    pub(super) commits: u64,
}

/// The log as it was found, with its files.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) live: Vec<Live>,
    /// Segments in which nothing of the log lies.
    pub(super) free: Vec<Segment>,
    /// The one of them that the seal at the end of the log names (keeps 4).
    pub(super) promised: Option<SegmentId>,
    /// Files with the name of a segment and a bad header.
    pub(super) junk: Vec<PathBuf>,
    /// Files that were being made.
    pub(super) temporary: Vec<PathBuf>,
    /// The highest number ever used.
    pub(super) highest: Option<SegmentId>,
    pub(super) recovered: Recovered,
}

/// Reads the log and writes nothing; calls `visit` with each record from what is needed on.
pub(super) fn scan<E: From<WalError>>(
    disk: &Disk,
    scope: &Scope,
    access: Access,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut files = find(disk, scope, access)?;
    let mut walk = Walk::new(disk, scope);
    let mut damage = std::mem::take(&mut files.damage);
    let start = walk.start(&files.found).unwrap_or_else(|missing| {
        damage.push(missing);
        None
    });
    refuse(&damage, scope)?;
    if let Some(start) = start {
        walk.follow(start, &mut files.found, visit)?;
    }
    let remains = walk.remains(&files.found)?;
    damage.extend(walk.lost_segment(&files).or_else(|| walk.proven_damage()));
    refuse(&damage, scope)?;
    let recovered = Recovered {
        end: walk.position,
        last: walk.last,
        commits: walk.live.iter().map(|live| live.commits).sum(),
        bytes: walk.bytes,
        flaw: walk.flaw,
        discarded_records: remains.records,
        discarded_bytes: remains.bytes,
        durable: walk.durable,
        damage,
    };
    Ok(Scanned {
        live: walk.live,
        promised: walk.sealed.map(Lsn::segment),
        free: files.found.into_values().map(|found| found.segment).collect(),
        junk: files.junk,
        temporary: files.temporary,
        highest: files.highest,
        recovered,
    })
}

/// Damage is an error, unless it is tolerated.
fn refuse(damage: &[WalError], scope: &Scope) -> Result<(), WalError> {
    match damage.first() {
        Some(first) if !scope.tolerates_damage => Err(first.clone()),
        _ => Ok(()),
    }
}

/// The way along the log.
struct Walk<'a> {
    disk: &'a Disk,
    scope: &'a Scope,
    /// How far it came, and why not further.
    position: Lsn,
    flaw: Flaw,
    last: Timestamp,
    /// How far the log is known to have been durable.
    durable: Lsn,
    bytes: u64,
    live: Vec<Live>,
    /// Where the log goes on, if it came to a seal.
    sealed: Option<Lsn>,
}

impl<'a> Walk<'a> {
    fn new(disk: &'a Disk, scope: &'a Scope) -> Self {
        Self {
            disk,
            scope,
            position: scope.needed,
            flaw: Flaw::End,
            last: Timestamp::ZERO,
            durable: scope.clean_end.unwrap_or(Lsn::ZERO).max(scope.durable),
            bytes: 0,
            live: Vec::new(),
            sealed: None,
        }
    }

    /// Where reading begins; nowhere if the log is new.
    fn start(&self, found: &BTreeMap<SegmentId, Found>) -> Result<Option<Lsn>, WalError> {
        let needed = self.scope.needed;
        let jumps = |found: &&Found| {
            let is_later = needed < found.segment.at(0);
            is_later && found.link.is_some_and(|link| link <= needed)
        };
        // Invariant 3.
        if let Some(over) = found.values().rev().find(jumps) {
            return Ok(Some(over.segment.at(RECORDS)));
        }
        if needed == Lsn::ZERO {
            return Ok(None);
        }
        if !found.contains_key(&needed.segment()) {
            return Err(WalError::missing(self.disk.directory(), needed.segment()));
        }
        Ok(Some(needed.max(Lsn::new(needed.segment(), RECORDS))))
    }

    /// Goes along the log as far as it is whole, and takes its segments out of `found`.
    fn follow<E: From<WalError>>(
        &mut self,
        start: Lsn,
        found: &mut BTreeMap<SegmentId, Found>,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut from = start;
        while let Some(Found { segment, link }) = found.remove(&from.segment()) {
            let next = successor(found, from.segment());
            let limit = next.map_or(segment.size(), |(_, end)| end.offset());
            let link = link.filter(|_| from.offset() == RECORDS);
            let mut live = Live { segment, start: from.offset(), end: 0, link, commits: 0 };
            let flaw = self.read(&mut live, limit, visit)?;
            live.end = self.position.offset();
            self.live.push(live);
            match (flaw, next) {
                (None, Some((next, end))) if end == self.position => {
                    from = Lsn::new(next, RECORDS);
                }
                (flaw, next) => {
                    let otherwise = if next.is_some() { Flaw::Link } else { Flaw::End };
                    self.flaw = flaw.unwrap_or(otherwise);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads one segment. `None` if it came to the limit or to a seal.
    fn read<E: From<WalError>>(
        &mut self,
        live: &mut Live,
        limit: u32,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Option<Flaw>, E> {
        let bounds = (live.start, limit);
        let mut scanner = Scanner::new(&live.segment, bounds, self.last, self.disk.sabotages());
        let flaw = loop {
            match scanner.step()? {
                Step::Limit => break None,
                Step::Flaw(flaw) => break Some(flaw),
                Step::Record(record) => {
                    self.durable = self.durable.max(record.durable);
                    self.bytes += record.end.get().saturating_sub(record.lsn.get());
                    live.commits += u64::from(record.kind == Kind::Commit);
                    self.sealed = record.seal();
                    visit(record)?;
                    if self.sealed.is_some() {
                        break None;
                    }
                }
            }
        };
        self.position = scanner.position();
        self.last = scanner.last();
        Ok(flaw)
    }

    /// What lies behind the end, and what it says about how far the log was durable.
    fn remains(&mut self, found: &BTreeMap<SegmentId, Found>) -> Result<Remains, WalError> {
        let mut all = Remains::default();
        if self.scope.clean_end == Some(self.position) {
            // Nothing was written behind a clean end.
            return Ok(all);
        }
        let mut add = |remains: Remains| {
            all.records += remains.records;
            all.bytes += remains.bytes;
            all.durable = all.durable.max(remains.durable);
        };
        if let Some(live) = self.live.last() {
            add(probe(&live.segment, live.end)?);
        }
        let later = (Bound::Excluded(self.position.segment()), Bound::Unbounded);
        for (_, found) in found.range(later) {
            add(probe(&found.segment, RECORDS)?);
        }
        self.durable = self.durable.max(all.durable);
        Ok(all)
    }

    /// Invariant 4.
    fn lost_segment(&self, files: &Files) -> Option<WalError> {
        let next = self.sealed.filter(|_| self.flaw == Flaw::End)?;
        let is_there = files.found.contains_key(&next.segment());
        let is_junk = files.junk.contains(&path_of(self.disk.directory(), next));
        let is_lost = !is_there && !is_junk;
        is_lost.then(|| WalError::missing(self.disk.directory(), next.segment()))
    }

    /// Invariant 2.
    fn proven_damage(&self) -> Option<WalError> {
        if self.durable <= self.position {
            return None;
        }
        let Some(live) = self.live.last() else {
            return Some(WalError::missing(self.disk.directory(), SegmentId::FIRST));
        };
        Some(WalError::Corruption {
            path: live.segment.path().to_owned(),
            offset: u64::from(self.position.offset()),
            flaw: self.flaw,
            durable: self.durable,
        })
    }
}

/// Invariant 1: the segment after `segment`, and the end of the log before it.
fn successor(found: &BTreeMap<SegmentId, Found>, segment: SegmentId) -> Option<(SegmentId, Lsn)> {
    let later = (Bound::Excluded(segment), Bound::Unbounded);
    let linked = found.range(later).filter_map(|(id, found)| Some((*id, found.link?)));
    linked.rev().find(|(_, link)| link.segment() == segment)
}

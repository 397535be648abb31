//! The tail: the segment that grows, and those before it that are still needed.
//!
//! ```text
//!   sealed                                active
//!   [start .. end] [start .. end] ..      [start .. offset │ room ]
//! ```
//!
//! Guarded by the mutex of the log. A segment before the active one keeps its map and its file
//! until its last sync returned: a failure to write it back is told only to those who hold it.

use std::collections::VecDeque;

use crate::id::{Lsn, Timestamp};
use crate::storage::{Map, Pages};
use crate::sync::Arc;
use crate::wal::error::WalError;
use crate::wal::segment::{Ready, Segment};

/// Frames from this size on are written; smaller ones are stored if there is a map.
const WRITTEN_MIN: usize = 4096;

/// A segment and the part of the log in it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    pub(super) start: u32,
    pub(super) end: u32,
    /// The end of the log before it, where known.
    pub(super) link: Option<Lsn>,
    pub(super) map: Option<Box<dyn Map>>,
}

impl Part {
    /// An empty part of a new segment.
    pub(super) fn new(ready: Ready, start: u32, link: Lsn) -> Self {
        let Ready { segment, map } = ready;
        Self { segment: Arc::new(segment), start, end: start, link: Some(link), map }
    }

    pub(super) fn end(&self) -> Lsn {
        self.segment.at(self.end)
    }

    /// What it has in a map from `position` on.
    fn stored(&self, position: Lsn) -> Option<Stored> {
        let from = self.segment.at(self.start).max(position).offset() as usize;
        let pages = self.map.as_ref()?.pages()?;
        Some(Stored { pages, from, to: self.end as usize })
    }

    /// Bytes of the log in it from `position` on.
    fn bytes_since(&self, position: Lsn) -> u64 {
        let from = self.segment.at(self.start).max(position);
        self.end().get().saturating_sub(from.get())
    }
}

/// A piece of the log in a map, for advice that is given outside the lock.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) pages: Arc<dyn Pages>,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) active: Part,
    pub(super) sealed: VecDeque<Part>,
    /// The last commit.
    pub(super) last: Timestamp,
    /// Whether nothing was appended since the last mark.
    pub(super) is_marked: bool,
    /// Records, commits and bytes appended since the log was opened.
    pub(super) records: u64,
    pub(super) commits: u64,
    pub(super) bytes: u64,
}

impl Tail {
    pub(super) fn new(active: Part, sealed: VecDeque<Part>, last: Timestamp) -> Self {
        Self { active, sealed, last, is_marked: true, records: 0, commits: 0, bytes: 0 }
    }

    /// Where the next record begins.
    pub(super) fn end(&self) -> Lsn {
        self.active.end()
    }

    /// Bytes left in the active segment.
    pub(super) fn room(&self) -> usize {
        self.active.segment.size().saturating_sub(self.active.end) as usize
    }

    /// Writes a frame for which there is room. Only a write can fail, not a store.
    pub(super) fn put(&mut self, frame: &[u8]) -> Result<(), WalError> {
        let active = &mut self.active;
        match &mut active.map {
            Some(map) if frame.len() < WRITTEN_MIN => map.store(active.end as usize, frame),
            _ => active.segment.write(frame, active.end)?,
        }
        active.end += u32::try_from(frame.len()).expect("there is room for it");
        self.is_marked = false;
        self.records += 1;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Goes on in `next`, whose link is still to be written.
    pub(super) fn switch(&mut self, next: Part) {
        let full = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(full);
    }

    /// The segments with bytes behind `durable`, oldest first.
    pub(super) fn unsynced(&self, durable: Lsn) -> Vec<Arc<Segment>> {
        let sealed = self.sealed.iter().filter(|part| part.end() > durable);
        let parts = sealed.chain(Some(&self.active));
        parts.map(|part| Arc::clone(&part.segment)).collect()
    }

    /// What was stored behind `durable`, oldest first.
    pub(super) fn stored(&self, durable: Lsn) -> Vec<Stored> {
        let sealed = self.sealed.iter().filter(|part| part.end() > durable);
        sealed.chain(Some(&self.active)).filter_map(|part| part.stored(durable)).collect()
    }

    /// What was stored in the active segment; the next record comes to its end.
    pub(super) fn growing(&self) -> Option<Stored> {
        self.active.stored(Lsn::ZERO)
    }

    /// Takes the maps of segments that are durable to their end, to be dropped outside the lock.
    pub(super) fn take_maps(&mut self, durable: Lsn) -> Vec<Box<dyn Map>> {
        let done = self.sealed.iter_mut().filter(|part| part.end() <= durable);
        done.filter_map(|part| part.map.take()).collect()
    }

    /// Takes out the segments that lie before the one of `needed`, all of them durable.
    pub(super) fn release(&mut self, needed: Lsn) -> Vec<Arc<Segment>> {
        let is_done = |part: &Part| part.segment.id() < needed.segment();
        let count = self.sealed.iter().take_while(|part| is_done(part)).count();
        self.sealed.drain(..count).map(|part| part.segment).collect()
    }

    pub(super) fn bytes_since(&self, position: Lsn) -> u64 {
        self.sealed.iter().chain(Some(&self.active)).map(|part| part.bytes_since(position)).sum()
    }
}

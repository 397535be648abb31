//! What is done beside the commits: syncs that nobody waits for, marks, spare segments, letting go
//! of what a checkpoint has taken over, and reading back.
//!
//! Each is a method with a bounded amount of work, for a thread of the database or for its caller.

use std::time::{Duration, Instant};

use crate::id::{Lsn, Timestamp};
use crate::storage::Sabotage;
use crate::sync::Arc;
use crate::wal::error::WalError;
use crate::wal::reader::{Scanner, Step};
use crate::wal::record::Record;
use crate::wal::segment::Segment;
use crate::wal::tail::Stored;
use crate::wal::writer::{Idle, Wal, count};

/// After so long without a commit a mark is appended, so that the last sync has a witness.
const IDLE: Duration = Duration::from_millis(100);

/// What the log has done since it was opened, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalStats {
    /// Segments in which a part of the log lies.
    pub(crate) segments: usize,
    /// Segments ready to be used.
    pub(crate) spares: usize,
    /// Records appended, of every kind.
    pub(crate) records: u64,
    /// Commits appended.
    pub(crate) commits: u64,
    /// Commits that a sync covered.
    pub(crate) synced_commits: u64,
    /// Bytes appended.
    pub(crate) bytes: u64,
    /// Syncs of the log.
    pub(crate) syncs: u64,
    /// Where the log ends.
    pub(crate) position: Lsn,
    /// Everything before this position is on the device.
    pub(crate) durable: Lsn,
}

impl Wal {
    /// Whether so much waits to be synced that the flush policy wants it done now.
    #[inline]
    pub(crate) fn is_flush_due(&self) -> bool {
        let flush = &self.options.flush;
        flush.commits.is_some_and(|max| self.unsynced_commits() >= max)
            || flush.bytes.is_some_and(|max| self.unsynced_bytes() >= max)
    }

    /// Syncs if the flush policy wants it, and marks a log that came to rest. Returns when to
    /// call it again.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`].
    pub(crate) fn tick(&self, now: Instant) -> Result<Duration, WalError> {
        let position = self.position();
        let mut idle = self.idle.lock();
        let mut seen = idle.unwrap_or(Idle { position, since: now, synced: now });
        if seen.position != position {
            seen = Idle { position, since: now, ..seen };
        }
        if now.saturating_duration_since(seen.since) >= IDLE && self.mark()? {
            seen = Idle { position: self.position(), since: now, ..seen };
        }
        let interval = self.options.flush.interval.unwrap_or(Duration::MAX);
        let is_over = now.saturating_duration_since(seen.synced) >= interval;
        if is_over || self.is_flush_due() {
            seen.synced = now;
            let before = count(&self.counts.synced_bytes);
            self.sync_to(self.position())?;
            // As much as came since the sync before is as good a guess as any.
            self.expect(count(&self.counts.synced_bytes).saturating_sub(before));
        }
        *idle = Some(seen);
        Ok(interval.min(IDLE))
    }

    /// Has the pages made writable to which so many bytes would go: a sync takes that from every
    /// page, and else each commit that comes to a new one would stop there for it.
    fn expect(&self, bytes: u64) {
        let growing = self.tail.lock().growing();
        if let Some(Stored { pages, to, .. }) = growing {
            pages.begin(to, usize::try_from(bytes).unwrap_or(usize::MAX));
        }
    }

    /// Appends a mark, unless nothing was appended since the last one or the segment is full.
    /// Says whether it did.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`].
    pub(crate) fn mark(&self) -> Result<bool, WalError> {
        let mut tail = self.tail.lock();
        self.disk.poison().check()?;
        self.append_mark(&mut tail)
    }

    /// Makes everything durable, and leaves a witness of it. Returns the end of the log, for the
    /// manifest: nothing may be appended afterwards.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`].
    pub(crate) fn close(&self) -> Result<Lsn, WalError> {
        self.disk.poison().check()?;
        self.sync_to(self.position())?;
        self.mark()?;
        let end = self.position();
        self.sync_to(end)?;
        Ok(end)
    }

    /// Makes one more segment ready, unless there are enough. Says whether it made one.
    ///
    /// # Errors
    ///
    /// [`WalError::NoSpace`] and [`WalError::Io`]: nothing is damaged; try again later.
    pub(crate) fn prepare_spare(&self) -> Result<bool, WalError> {
        self.disk.poison().check()?;
        self.stock.prepare(&self.disk)
    }

    /// Lets go of the segments before the one of `needed`. The manifest that says so is durable.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`] if a file cannot be removed: it stays until the next opening.
    pub(crate) fn release(&self, needed: Lsn) -> Result<(), WalError> {
        self.disk.poison().check()?;
        let durable = self.durable();
        let is_early = self.disk.breaks(Sabotage::RecycleEarly);
        let needed = if is_early { durable } else { needed.min(durable) };
        let segments = self.tail.lock().release(needed);
        self.stock.put_back(segments);
        self.stock.trim(&self.disk)
    }

    /// Bytes of the log from `position` on.
    pub(crate) fn bytes_since(&self, position: Lsn) -> u64 {
        self.tail.lock().bytes_since(position)
    }

    /// Calls `visit` with each record from `from` to `to`, both positions of this log that were
    /// not released, while others append.
    ///
    /// # Errors
    ///
    /// [`WalError::MissingSegment`] if a part was released; failures to read; and what `visit`
    /// returns.
    pub(crate) fn read<E: From<WalError>>(
        &self,
        from: Lsn,
        to: Lsn,
        visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (segment, start, end) in self.parts(from, to)? {
            let bounds = (start, end);
            let mut scanner =
                Scanner::new(&segment, bounds, Timestamp::ZERO, self.options.sabotages);
            loop {
                let at = scanner.position();
                match scanner.step()? {
                    Step::Limit => break,
                    Step::Record(record) => visit(record)?,
                    Step::Flaw(flaw) => {
                        let (path, offset) = (segment.path().to_owned(), at.offset().into());
                        let durable = self.durable();
                        return Err(WalError::Corruption { path, offset, flaw, durable }.into());
                    }
                }
            }
        }
        Ok(())
    }

    /// The segments between two positions, each with its bounds.
    fn parts(&self, from: Lsn, to: Lsn) -> Result<Vec<(Arc<Segment>, u32, u32)>, WalError> {
        let tail = self.tail.lock();
        let parts = || tail.sealed.iter().chain(Some(&tail.active));
        let first = parts()
            .next()
            .map_or(Lsn::ZERO, |part| part.link.unwrap_or(part.segment.at(part.start)));
        if from < first {
            return Err(WalError::missing(self.disk.directory(), from.segment()));
        }
        let bounds = parts().filter_map(|part| {
            let start = part.segment.at(part.start).max(from);
            let end = part.end().min(to);
            let is_inside = start < end;
            is_inside.then(|| (Arc::clone(&part.segment), start.offset(), end.offset()))
        });
        Ok(bounds.collect())
    }

    /// Totals; each is a moment old.
    pub(crate) fn stats(&self) -> WalStats {
        let spares = self.stock.spares();
        let tail = self.tail.lock();
        WalStats {
            segments: tail.sealed.len() + 1,
            spares,
            records: tail.records,
            commits: tail.commits,
            synced_commits: count(&self.counts.synced_commits),
            bytes: tail.bytes,
            syncs: count(&self.counts.syncs),
            position: tail.end(),
            durable: self.durable(),
        }
    }
}

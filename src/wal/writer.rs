//! Appending: one mutex orders the records, one sync serves all who wait.
//!
//! ```text
//! reserve   lock; room, or the next segment     may fail, and nothing happened
//! append    time and place together; copy       cannot fail through a map; else poisons
//!           unlock
//! sync_to   lead or follow                      fails only together with the log
//! ```
//!
//! 1. Between `reserve` and `append` nobody else appends, so what the caller does there has the
//!    order of the log.
//! 2. The position known to be durable enters each record as it is at that moment: never ahead of
//!    a sync that has returned.
//! 3. Whatever can fail without damage, making a segment above all, fails in `reserve`.
//! 4. After a failed write or sync nothing more is written (`poison`).
//!
//! Locks are taken in the order: the log, then those of `stock`. Whoever syncs holds neither.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::storage::Sabotage;
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, thread::yield_now};
use crate::wal::disk::Disk;
use crate::wal::error::WalError;
use crate::wal::group::Group;
use crate::wal::options::WalOptions;
use crate::wal::record::{HEADER, Kind, LINK_FRAME, Note, Payload};
use crate::wal::segment::RECORDS;
use crate::wal::stock::Stock;
use crate::wal::tail::{Part, Stored, Tail};

/// Room that is kept in every segment for the record that says where the log goes on.
const SEAL: usize = LINK_FRAME;

/// The log of one database, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    pub(super) disk: Disk,
    pub(super) database: DatabaseId,
    pub(super) options: WalOptions,
    pub(super) tail: CachePadded<Mutex<Tail>>,
    pub(super) group: CachePadded<Group>,
    pub(super) stock: Stock,
    pub(super) counts: Counts,
    /// What the last call of `tick` saw.
    pub(super) idle: Mutex<Option<Idle>>,
}

/// The log at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) position: Lsn,
    /// Since when it ends there.
    pub(super) since: Instant,
    /// When it was last synced by `tick`.
    pub(super) synced: Instant,
}

/// Totals that are read without the lock of the log. The first two are copies of those of the
/// tail; the others belong to whoever leads a sync.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) commits: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) synced_commits: AtomicU64,
    pub(super) synced_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    /// Commits in the last sync.
    pub(super) batch: AtomicU64,
    /// How long a sync takes, in nanoseconds, smoothed.
    pub(super) sync_ns: AtomicU64,
}

impl Counts {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            commits: zero(),
            bytes: zero(),
            synced_commits: zero(),
            synced_bytes: zero(),
            syncs: zero(),
            batch: zero(),
            sync_ns: zero(),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    // Relaxed: totals and estimates; nothing is read because of them.
    counter.load(Ordering::Relaxed)
}

fn set(counter: &AtomicU64, value: u64) {
    // Relaxed: as above.
    counter.store(value, Ordering::Relaxed);
}

/// The right to append next. Dropped unused, it leaves the log as it is.
#[derive(Debug)]
pub(crate) struct Reservation<'w> {
    wal: &'w Wal,
    tail: MutexGuard<'w, Tail>,
    payload: Option<&'w mut Payload>,
}

impl Wal {
    /// Locks the log and sees to it that there is room for the payload. Without one, only the
    /// lock is taken.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`]. [`WalError::NoSpace`], [`WalError::Io`] and
    /// [`WalError::SegmentsUsedUp`] if a segment is needed and cannot be made: nothing has
    /// happened, and the log goes on when it can.
    pub(crate) fn reserve<'w>(
        &'w self,
        payload: Option<&'w mut Payload>,
    ) -> Result<Reservation<'w>, WalError> {
        if self.unsynced_bytes() > self.options.unsynced_bytes_max {
            self.sync_to(self.position())?;
        }
        let mut tail = self.tail.lock();
        self.disk.poison().check()?;
        if let Some(payload) = &payload {
            self.make_room(&mut tail, payload.frame_bytes())?;
        }
        Ok(Reservation { wal: self, tail, payload })
    }

    /// Where the log ends now.
    pub(crate) fn position(&self) -> Lsn {
        self.tail.lock().end()
    }

    /// The last commit in the log, or before it.
    pub(crate) fn last(&self) -> Timestamp {
        self.tail.lock().last
    }

    /// Everything before this position is on the device.
    #[inline]
    pub(crate) fn durable(&self) -> Lsn {
        self.group.durable()
    }

    /// Returns once the log is durable up to `position`, a position of this log.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`]: whether what lies before `position` will be there after a restart
    /// is not known.
    pub(crate) fn sync_to(&self, position: Lsn) -> Result<(), WalError> {
        if self.disk.breaks(Sabotage::AcknowledgeBeforeSync) {
            return Ok(());
        }
        self.group.sync_to(position, self.disk.poison(), || self.sync_appended())
    }

    /// Refuses if a write or a sync has failed.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`].
    pub(crate) fn check(&self) -> Result<(), WalError> {
        self.disk.poison().check()
    }

    /// Why the log takes no more records, if it does not.
    pub(crate) fn poison_cause(&self) -> Option<Arc<dyn StdError + Send + Sync>> {
        self.disk.poison().cause()
    }

    /// Makes the log refuse from now on, because something failed that it cannot know of.
    pub(crate) fn poison(&self, cause: Arc<dyn StdError + Send + Sync>) -> WalError {
        self.disk.poison().set(cause)
    }

    /// Bytes appended and not synced.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        count(&self.counts.bytes).saturating_sub(count(&self.counts.synced_bytes))
    }

    /// Commits appended and not synced.
    pub(super) fn unsynced_commits(&self) -> u64 {
        count(&self.counts.commits).saturating_sub(count(&self.counts.synced_commits))
    }

    fn make_room(&self, tail: &mut Tail, frame: usize) -> Result<(), WalError> {
        if frame + SEAL <= tail.room() {
            return Ok(());
        }
        let bytes = RECORDS as usize + LINK_FRAME + frame + SEAL;
        let bytes = bytes.next_multiple_of(RECORDS as usize);
        let bytes = u32::try_from(bytes).expect("a payload is at most 1 GiB");
        let next = self.stock.take(&self.disk, bytes)?;
        // There is room, but where a rule is broken and the log goes on in an old segment.
        if tail.room() >= SEAL {
            self.point(tail, Kind::Seal, next.segment.at(RECORDS))?;
        }
        let end_before = tail.end();
        tail.switch(Part::new(next, RECORDS, end_before));
        self.point(tail, Kind::Link, end_before)
    }

    /// Appends a link or a seal, for which there is room.
    fn point(&self, tail: &mut Tail, kind: Kind, to: Lsn) -> Result<(), WalError> {
        let place = (tail.end(), self.claim(tail), tail.last);
        let seeds = (self.database, tail.active.segment.header_seed());
        self.put(tail, Note::pointer(kind, place, to, seeds).frame())
    }

    /// Appends a mark, unless nothing was appended since the last one or there is no room. Says
    /// whether it did.
    pub(super) fn append_mark(&self, tail: &mut Tail) -> Result<bool, WalError> {
        if tail.is_marked || tail.room() < HEADER + SEAL {
            return Ok(false);
        }
        let place = (tail.end(), self.claim(tail), tail.last);
        let seeds = (self.database, tail.active.segment.header_seed());
        self.put(tail, Note::mark(place, seeds).frame())?;
        tail.is_marked = true;
        Ok(true)
    }

    /// The position that the next record says is durable (2).
    fn claim(&self, tail: &Tail) -> Lsn {
        if self.disk.breaks(Sabotage::StickWatermark) {
            Lsn::ZERO
        } else if self.disk.breaks(Sabotage::RushWatermark) {
            tail.end()
        } else {
            self.group.durable()
        }
    }

    fn put(&self, tail: &mut Tail, frame: &[u8]) -> Result<(), WalError> {
        tail.put(frame).map_err(|failure| self.disk.poison().set_by(failure))?;
        set(&self.counts.bytes, tail.bytes);
        Ok(())
    }

    /// Makes durable what is appended by now. Only whoever leads may call it.
    fn sync_appended(&self) -> Result<Lsn, WalError> {
        self.gather();
        let (target, segments, stored, commits, bytes) = {
            let tail = self.tail.lock();
            let durable = self.group.durable();
            let (segments, stored) = (tail.unsynced(durable), tail.stored(durable));
            (tail.end(), segments, stored, tail.commits, tail.bytes)
        };
        self.disk.poison().check()?;
        let since = Instant::now();
        for Stored { pages, from, to } in stored {
            pages.end(from, to.saturating_sub(from));
        }
        for segment in &segments {
            self.disk.sync_data(segment.file(), segment.path())?;
        }
        self.time_sync(since.elapsed());
        set(&self.counts.batch, commits.saturating_sub(count(&self.counts.synced_commits)));
        set(&self.counts.synced_commits, commits);
        set(&self.counts.synced_bytes, bytes);
        set(&self.counts.syncs, count(&self.counts.syncs) + 1);
        if segments.len() > 1 {
            let maps = self.tail.lock().take_maps(target);
            drop(maps);
        }
        Ok(target)
    }

    /// Waits a little for those who shared the last sync: most of them are about to commit again,
    /// and would otherwise have to wait for a sync of their own. One committer never waits.
    fn gather(&self) {
        let batch = count(&self.counts.batch);
        if !self.options.is_full || batch <= 1 || self.options.gather_max.is_zero() {
            return;
        }
        let half = Duration::from_nanos(count(&self.counts.sync_ns) / 2);
        let limit = half.min(self.options.gather_max);
        let since = Instant::now();
        while self.unsynced_commits() < batch && since.elapsed() < limit {
            yield_now();
        }
    }

    fn time_sync(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = count(&self.counts.sync_ns);
        set(&self.counts.sync_ns, if before == 0 { took } else { before / 8 * 7 + took / 8 });
    }
}

impl Reservation<'_> {
    /// Appends the payload as the commit at `timestamp`, which is later than all before. Returns
    /// the position to wait for; where the log ends already if there is no payload.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`] if a write fails. A payload below 4 KiB is stored through the map
    /// where commits do not wait for a sync, which cannot fail.
    pub(crate) fn append(mut self, timestamp: Timestamp) -> Result<Lsn, WalError> {
        let Some(payload) = self.payload.take() else { return Ok(self.tail.end()) };
        let (wal, tail) = (self.wal, &mut *self.tail);
        assert!(timestamp > tail.last, "commit {timestamp} after {}", tail.last);
        let seed = tail.active.segment.header_seed();
        let frame = payload.stamp(tail.end(), wal.claim(tail), timestamp, seed);
        wal.put(tail, frame)?;
        tail.last = timestamp;
        tail.commits += 1;
        set(&wal.counts.commits, tail.commits);
        Ok(tail.end())
    }
}

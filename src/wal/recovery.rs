//! Opening: reading the log back, and going on behind it.
//!
//! ```text
//! scan      every check; the records from what is needed on are replayed
//! settle    the accepted tail is written again and synced
//! begin     a new segment, linked to the end, with a durable name
//! free      what holds nothing of the log is used again or removed
//! ```
//!
//! 1. What was accepted is durable before anything is built on it: after a crash of the process
//!    alone it may be in memory only, and after a failed sync be marked as written without being
//!    on the device. Writing the same bytes again makes it right in both cases.
//! 2. Nothing is ever appended to an old segment: what a torn tail left behind its end could come
//!    to life again behind a new record.
//! 3. An old file gets another life only after the names are durable, so that no older manifest
//!    can come back that still needs it.

use std::io;
use std::path::Path;

use crossbeam_utils::CachePadded;

use crate::id::{DatabaseId, Lsn, SegmentId, Timestamp};
use crate::storage::{Access, Sabotage, Sabotages, Storage};
use crate::sync::{Arc, Mutex};
use crate::wal::disk::{Disk, read_full};
use crate::wal::error::WalError;
use crate::wal::find::{Sighting, sight};
use crate::wal::group::Group;
use crate::wal::options::{Scope, WalOptions};
use crate::wal::record::{Kind, LINK_FRAME, Note, Record};
use crate::wal::scan::{Live, Recovered, Scanned, scan};
use crate::wal::segment::{Header, Maker, RECORDS};
use crate::wal::stock::Stock;
use crate::wal::tail::{Part, Tail};
use crate::wal::writer::{Counts, Wal};

/// Bytes that are written again at once.
const COPY: u32 = 1 << 20;

/// Reads a log and writes nothing; calls `visit` with each record from what is needed on.
///
/// # Errors
///
/// Damage, unless the scope tolerates it, and failures to read; and what `visit` returns.
pub(crate) fn read_log<E: From<WalError>>(
    storage: Arc<dyn Storage>,
    directory: &Path,
    scope: &Scope,
    options: &WalOptions,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Recovered, E> {
    let disk = Disk::new(storage, directory, options.sabotages);
    Ok(scan(&disk, scope, Access::Read, visit)?.recovered)
}

/// The segments of a directory as they describe themselves, oldest first, for whoever does not know
/// what to expect. Those that cannot be read are left out.
///
/// # Errors
///
/// Failures to read.
pub(crate) fn sight_log(
    storage: Arc<dyn Storage>,
    directory: &Path,
) -> Result<Vec<Sighting>, WalError> {
    sight(&Disk::new(storage, directory, Sabotages::default()))
}

impl Wal {
    /// Opens the log in `directory`, which is made durable as far as it is whole, and calls
    /// `replay` with each record from what is needed on.
    ///
    /// # Errors
    ///
    /// Damage, failures to read or write, no space for a segment; and what `replay` returns.
    pub(crate) fn open<E: From<WalError>>(
        storage: Arc<dyn Storage>,
        directory: &Path,
        scope: &Scope,
        options: WalOptions,
        replay: &mut dyn FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Self, Recovered), E> {
        assert!(!scope.tolerates_damage, "a damaged log is only read");
        let disk = Disk::new(storage, directory, options.sabotages);
        let scanned = scan(&disk, scope, Access::Write, replay)?;
        let recovered = scanned.recovered.clone();
        Ok((Self::go_on(disk, scope.database, options.sound(), scanned)?, recovered))
    }

    fn go_on(
        disk: Disk,
        database: DatabaseId,
        options: WalOptions,
        scanned: Scanned,
    ) -> Result<Self, WalError> {
        let Scanned { mut live, mut free, promised, junk, temporary, highest, recovered } = scanned;
        settle(&disk, &live, recovered.durable)?;
        disk.sync_names()?;
        for path in junk.iter().chain(&temporary) {
            tell(disk.remove(path));
        }
        let stock = new_stock(database, highest, &options);
        let last = recovered.last;
        let appends_to_old = disk.breaks(Sabotage::AppendToOldSegment);
        let active = if let Some(old) = live.pop_if(|_| appends_to_old) {
            part_of(old, &Maker { disk: &disk, is_mapped: !options.is_full })?
        } else {
            // The one that a seal names stays until the link over it is durable.
            let kept: Vec<_> =
                free.extract_if(.., |it| Some(it.id()) == promised).map(Arc::new).collect();
            stock.put_back(free.into_iter().map(Arc::new));
            let (empty, end) = split_empty(&mut live, recovered.end);
            let part = begin(&stock, &disk, database, (end, last))?;
            stock
                .put_back(kept.into_iter().chain(empty.into_iter().map(|it| Arc::new(it.segment))));
            part
        };
        tell(stock.trim(&disk));
        let unmapped = Maker { disk: &disk, is_mapped: false };
        let sealed = live.into_iter().map(|live| part_of(live, &unmapped));
        let sealed = sealed.collect::<Result<_, _>>()?;
        let overlaps = disk.breaks(Sabotage::OverlapSyncs);
        let group = Group::new(active.end(), overlaps);
        let tail = Tail::new(active, sealed, last);
        Ok(Self {
            disk,
            database,
            options,
            tail: CachePadded::new(Mutex::new(tail)),
            group: CachePadded::new(group),
            stock,
            counts: Counts::new(),
            idle: Mutex::new(None),
        })
    }
}

fn new_stock(database: DatabaseId, highest: Option<SegmentId>, options: &WalOptions) -> Stock {
    let sizes = (database, options.segment_bytes);
    Stock::new(sizes, (options.spares_max, !options.is_full), highest, options.seed)
}

/// A part of the log as it was found.
fn part_of(live: Live, maker: &Maker<'_>) -> Result<Part, WalError> {
    let Live { segment, start, end, link, .. } = live;
    let map = maker.map(segment.file(), segment.path(), segment.size())?;
    Ok(Part { segment: Arc::new(segment), start, end, link, map })
}

/// Writes again, and syncs, what is not known to be durable (1).
fn settle(disk: &Disk, live: &[Live], durable: Lsn) -> Result<(), WalError> {
    if disk.breaks(Sabotage::TrustTail) {
        return Ok(());
    }
    let mut buffer = Vec::new();
    for Live { segment, start, end, .. } in live {
        let from = segment.at(*start).max(durable);
        if from >= segment.at(*end) {
            continue;
        }
        // What is known to be durable ends in this segment or before it.
        let mut offset = from.offset();
        while offset < *end {
            let piece = (end - offset).min(COPY);
            buffer.resize(piece as usize, 0);
            let place = u64::from(offset);
            if read_full(segment.file(), segment.path(), &mut buffer, place)? < buffer.len() {
                let ended = io::ErrorKind::UnexpectedEof.into();
                return Err(WalError::io("read", segment.path(), ended));
            }
            segment.write(&buffer, offset)?;
            offset += piece;
        }
        disk.sync_data(segment.file(), segment.path())?;
    }
    Ok(())
}

/// Takes the last segments out of the log that hold no commit, so that opening and closing alone
/// does not make it longer; gives the end of the log before them. They stay as they are until the
/// link over them is durable: what is known to be durable may lie in them.
fn split_empty(live: &mut Vec<Live>, end: Lsn) -> (Vec<Live>, Lsn) {
    let is_empty = |live: &&Live| live.commits == 0 && live.link.is_some();
    let count = live.iter().rev().take_while(is_empty).count();
    let empty = live.split_off(live.len() - count);
    let end = empty.first().and_then(|first| first.link).unwrap_or(end);
    (empty, end)
}

/// A new segment that links to the end of the log, durable with its name.
fn begin(
    stock: &Stock,
    disk: &Disk,
    database: DatabaseId,
    (end, last): (Lsn, Timestamp),
) -> Result<Part, WalError> {
    let link = |header: &Header| {
        let seed = header.record_seed();
        let place = (Lsn::new(header.segment, RECORDS), end, last);
        Note::pointer(Kind::Link, place, end, (database, seed)).frame().to_vec()
    };
    let mut part = Part::new(stock.begin(disk, link)?, RECORDS, end);
    part.end += u32::try_from(LINK_FRAME).expect("a link is short");
    Ok(part)
}

/// A file that could not be removed is in nobody's way: the next opening tries again.
fn tell(removed: Result<(), WalError>) {
    if let Err(error) = removed {
        tracing::warn!(%error, "a file that is not needed stays");
    }
}

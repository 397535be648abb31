//! The stock: segments made ready before they are needed, and those that can be used again.
//!
//! ```text
//!   release ─► free ─► recycle ─► ready ─► the log
//!                      create  ─►
//! ```
//!
//! 1. Ready segments are numbered in the order in which they will be used, above every segment
//!    in use. One that was overtaken is numbered anew.
//! 2. Only one thread at a time makes segments. One that needs a segment while another makes one
//!    waits for that.
//! 3. Making one may fail, and nothing is damaged: the old state stays.
//! 4. A free segment is made into another only when nobody reads it any more.
//! 5. The first segment of an opening is small, each later one twice as large, up to the size asked
//!    for: a program that opens, writes a little and ends takes little room and time.

use std::collections::VecDeque;

use crate::id::{DatabaseId, SegmentId};
use crate::storage::Sabotage;
use crate::sync::{Arc, Mutex};
use crate::wal::disk::Disk;
use crate::wal::error::WalError;
use crate::wal::segment::{Header, Maker, Ready, Segment};

/// Where new segments come from. Locks are taken in the order `numbers`, `rack`.
#[derive(Debug)]
pub(super) struct Stock {
    database: DatabaseId,
    segment_bytes: u32,
    spares_max: usize,
    is_mapped: bool,
    /// Held while a segment is made.
    numbers: Mutex<Numbers>,
    rack: Mutex<Rack>,
}

/// The size of the first segment, if no smaller one is asked for.
const FIRST_BYTES: u32 = 256 << 10;

/// The numbers, sizes and salts to come.
#[derive(Debug)]
struct Numbers {
    /// The highest number given out.
    highest: Option<SegmentId>,
    /// The size of the next one, unless a larger one can be used again.
    size: u32,
    salt: u64,
}

#[derive(Debug, Default)]
struct Rack {
    ready: VecDeque<Ready>,
    free: Vec<Arc<Segment>>,
}

impl Stock {
    pub(super) fn new(
        (database, segment_bytes): (DatabaseId, u32),
        (spares_max, is_mapped): (usize, bool),
        highest: Option<SegmentId>,
        seed: u64,
    ) -> Self {
        Self {
            database,
            segment_bytes,
            spares_max,
            is_mapped,
            numbers: Mutex::new(Numbers {
                highest,
                size: segment_bytes.min(FIRST_BYTES),
                salt: seed,
            }),
            rack: Mutex::new(Rack::default()),
        }
    }

    /// Ready segments.
    pub(super) fn spares(&self) -> usize {
        self.rack.lock().ready.len()
    }

    /// A segment of at least `bytes`, ready or made now.
    pub(super) fn take(&self, disk: &Disk, bytes: u32) -> Result<Ready, WalError> {
        if let Some(ready) = self.pop_ready(bytes) {
            return Ok(ready);
        }
        let mut numbers = self.numbers.lock();
        // Invariant 2: another thread may have made one while this one waited.
        if let Some(ready) = self.pop_ready(bytes) {
            return Ok(ready);
        }
        if bytes > numbers.size || self.spares() > 0 {
            return self.take_large(disk, &mut numbers, bytes);
        }
        self.make(disk, &mut numbers, &[])
    }

    /// The next segment, if it is ready and has room for so many bytes.
    fn pop_ready(&self, bytes: u32) -> Option<Ready> {
        let mut rack = self.rack.lock();
        let fits = rack.ready.front().is_some_and(|ready| ready.segment.size() >= bytes);
        if fits { rack.ready.pop_front() } else { None }
    }

    /// A segment for one record that is larger than those to come.
    fn take_large(
        &self,
        disk: &Disk,
        numbers: &mut Numbers,
        bytes: u32,
    ) -> Result<Ready, WalError> {
        let header = self.header(numbers, bytes, None)?;
        let large = self.maker(disk).create(header, &[])?;
        // Invariant 1: the ones that are ready have lower numbers.
        let mut rack = self.rack.lock();
        while let Some(overtaken) = rack.ready.pop_front() {
            rack.free.push(Arc::new(overtaken.segment));
        }
        Ok(large)
    }

    /// Makes one more segment ready, unless there are enough. Says whether it made one.
    pub(super) fn prepare(&self, disk: &Disk) -> Result<bool, WalError> {
        let mut numbers = self.numbers.lock();
        if self.spares() >= self.spares_max {
            return Ok(false);
        }
        let ready = self.make(disk, &mut numbers, &[])?;
        self.rack.lock().ready.push_back(ready);
        Ok(true)
    }

    /// The first segment of an opening, with its first record, durable.
    pub(super) fn begin(
        &self,
        disk: &Disk,
        first: impl FnOnce(&Header) -> Vec<u8>,
    ) -> Result<Ready, WalError> {
        let mut numbers = self.numbers.lock();
        let old = self.pop_free(numbers.size);
        let salt = old.as_ref().map(Segment::salt);
        let size = self.size(&mut numbers, old.as_ref());
        let header = self.header(&mut numbers, size, salt.filter(|_| keeps(disk)))?;
        let header = Header { is_linked: true, ..header };
        let first = first(&header);
        match old {
            Some(old) => self.maker(disk).recycle(old, header, &first),
            None => self.maker(disk).create(header, &first),
        }
    }

    fn make(&self, disk: &Disk, numbers: &mut Numbers, first: &[u8]) -> Result<Ready, WalError> {
        let old = self.pop_free(numbers.size);
        let salt = old.as_ref().map(Segment::salt).filter(|_| keeps(disk));
        let size = self.size(numbers, old.as_ref());
        let header = self.header(numbers, size, salt)?;
        match old {
            Some(old) => self.maker(disk).recycle(old, header, first),
            None => self.maker(disk).create(header, first),
        }
    }

    /// The size of the next segment, which may be made from an old one (keeps 5).
    fn size(&self, numbers: &mut Numbers, old: Option<&Segment>) -> u32 {
        let size = old.map_or(numbers.size, Segment::size);
        numbers.size = size.saturating_mul(2).min(self.segment_bytes);
        size
    }

    fn maker<'a>(&self, disk: &'a Disk) -> Maker<'a> {
        Maker { disk, is_mapped: self.is_mapped }
    }

    /// A number and a salt that were not used before.
    fn header(
        &self,
        numbers: &mut Numbers,
        size: u32,
        salt: Option<u32>,
    ) -> Result<Header, WalError> {
        let next = numbers.highest.map_or(Some(SegmentId::FIRST), SegmentId::next);
        let segment = next.ok_or(WalError::SegmentsUsedUp)?;
        numbers.highest = Some(segment);
        let fresh = draw(&mut numbers.salt);
        let salt = salt.unwrap_or(fresh);
        Ok(Header { database: self.database, segment, salt, size, is_linked: false })
    }

    /// A free segment that is large enough and that nobody reads (4).
    fn pop_free(&self, size: u32) -> Option<Segment> {
        let mut rack = self.rack.lock();
        let usable = |segment: &Arc<Segment>| {
            self.is_usable(segment, size) && Arc::strong_count(segment) == 1
        };
        let at = rack.free.iter().position(usable)?;
        Arc::into_inner(rack.free.swap_remove(at))
    }

    /// Large enough, and no larger than one that would be made.
    fn is_usable(&self, segment: &Segment, size: u32) -> bool {
        (size..=self.segment_bytes).contains(&segment.size())
    }

    /// Takes over segments that hold nothing of the log any more.
    pub(super) fn put_back(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        self.rack.lock().free.extend(segments);
    }

    /// Removes free segments that are too many or too small. The first failure is told;
    /// it leaves a file that the next opening finds.
    pub(super) fn trim(&self, disk: &Disk) -> Result<(), WalError> {
        let surplus = {
            let size = self.numbers.lock().size;
            let mut rack = self.rack.lock();
            let wanted = self.spares_max.saturating_sub(rack.ready.len());
            let is_usual = |segment: &Arc<Segment>| self.is_usable(segment, size);
            let (mut usual, mut surplus): (Vec<_>, Vec<_>) =
                rack.free.drain(..).partition(is_usual);
            surplus.extend(usual.split_off(wanted.min(usual.len())));
            rack.free = usual;
            surplus
        };
        let removed = surplus.iter().map(|segment| disk.remove(segment.path()));
        removed.fold(Ok(()), Result::and)
    }
}

fn keeps(disk: &Disk) -> bool {
    disk.breaks(Sabotage::KeepSalt)
}

/// The next number of a sequence that hits every value once (`SplitMix64`).
fn draw(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let [.., a, b, c, d] = (mixed ^ mixed >> 31).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

//! One file of the simulated disk, whatever its name: what the process sees and what is durable.
//!
//! ```text
//! cache    [A'][B ][C'][D'][E ]   reads, writes and stores
//! durable  [A ][B ][C ][D ][E ]   what a power cut leaves
//! dirty     x       x             may reach the device at any moment
//! lost                  x         a failed write-back took it for written: it will not
//! ```
//!
//! 1. A sector that is neither dirty nor lost is equal in both images.
//! 2. Bytes beyond `length` are zero in the cache.
//! 3. A file never shrinks, but for damage done on purpose.
//! 4. A sync that began earlier changes nothing once a later one has ended: what the later one
//!    made durable stays.

use super::image::{Image, Page, SECTORS, mask, pieces, sector, sector_mut};
use super::random::Random;
use crate::sync::Arc;
use std::collections::BTreeMap;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Image,
    durable: Image,
    length: u64,
    durable_length: u64,
    /// The end of what was written byte for byte, which a sync of the data must keep readable.
    written: u64,
    /// Dirty sectors of each page, a bit each.
    dirty: BTreeMap<usize, u8>,
    /// Write-backs that failed. Each open file is told once.
    failures: u64,
    /// Syncs begun, and the last to begin of those that ended.
    begun: u64,
    ended: u64,
    /// Open files and maps.
    pub(super) handles: usize,
}

/// What a sync has sent to the device and not yet been told about.
#[derive(Debug)]
pub(super) struct InFlight {
    pages: Vec<(usize, u8, Option<Arc<Page>>)>,
    length: u64,
    number: u64,
}

/// How the unsynced sectors of one file fare in a power cut.
#[derive(Clone, Copy)]
enum Fate {
    /// None was written.
    Old,
    /// All were.
    New,
    /// Those before this one were; this one was cut.
    Until(u64),
    /// Each by itself; about this many of eight were written.
    Each(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Old,
    New,
    Torn,
}

impl Fate {
    fn pick(dirty: u64, random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Old,
            1 => Self::New,
            2 | 3 => Self::Until(random.below(dirty)),
            _ => Self::Each(1 + random.below(7)),
        }
    }

    /// Of the sector that is the `nth` dirty one of its file.
    fn outcome(self, nth: u64, random: &mut Random) -> Outcome {
        match self {
            Self::New => Outcome::New,
            Self::Until(end) if nth < end => Outcome::New,
            Self::Until(end) if nth == end => Outcome::Torn,
            Self::Each(_) if random.once_in(16) => Outcome::Torn,
            Self::Each(eighths) if random.below(8) < eighths => Outcome::New,
            Self::Old | Self::Until(_) | Self::Each(_) => Outcome::Old,
        }
    }
}

/// The sectors of a mask.
fn sectors(mask: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS).filter(move |sector| mask & 1 << sector != 0)
}

impl Inode {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Reads what the process sees.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let rest = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = rest.min(buffer.len());
        let (head, _) = buffer.split_at_mut(bytes);
        self.cache.read(head, offset);
        bytes
    }

    /// Everything the process sees, or everything durable.
    pub(super) fn content(&self, durable: bool) -> Vec<u8> {
        let (image, length) =
            if durable { (&self.durable, self.durable_length) } else { (&self.cache, self.length) };
        let mut bytes = vec![0; usize::try_from(length).expect("simulated files are small")];
        image.read(&mut bytes, 0);
        bytes
    }

    /// Gives the file another content, durable at once.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        let (failures, handles) = (self.failures, self.handles);
        *self = Self { failures, handles, ..Self::default() };
        self.write(bytes, 0);
        self.settle();
    }

    /// Changes bytes in both images, and nothing else.
    pub(super) fn overwrite(&mut self, bytes: &[u8], offset: u64) {
        for image in [&mut self.cache, &mut self.durable] {
            image.write(bytes, offset);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.cache.write(bytes, offset);
        for (page, start, length) in pieces(offset, bytes.len()) {
            *self.dirty.entry(page).or_default() |= mask(start, length);
        }
        let end = offset + bytes.len() as u64;
        self.written = self.written.max(end);
        self.length = self.length.max(end);
    }

    /// Grows the file by blocks of zeros.
    pub(super) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Sends what is dirty to the device. `all`: the length too.
    pub(super) fn begin_sync(&mut self, all: bool) -> InFlight {
        self.begun += 1;
        let share = |(&page, &mask): (&usize, &u8)| (page, mask, self.cache.share(page));
        InFlight {
            pages: self.dirty.iter().map(share).collect(),
            length: if all { self.length } else { self.written },
            number: self.begun,
        }
    }

    /// The device has it. What was written since stays dirty.
    pub(super) fn end_sync(&mut self, flight: InFlight) {
        if flight.number < self.ended {
            return;
        }
        self.ended = flight.number;
        for (index, mask, sent) in flight.pages {
            let Some(sent) = sent else { continue };
            // What was written back meanwhile may be newer; what was lost stays lost.
            let mask = mask & self.dirty.get(&index).copied().unwrap_or(0);
            let now = self.cache.share(index);
            let clean = if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &sent)) {
                mask
            } else {
                let now = self.cache.page(index);
                let same = |&at: &usize| sector(now, at) == sector(&sent, at);
                sectors(mask).filter(same).fold(0, |clean, at| clean | 1 << at)
            };
            // All of a page that is equal afterwards is shared rather than copied.
            if clean == u8::MAX {
                self.durable.put(index, Some(sent));
            } else {
                let durable = self.durable.page_mut(index);
                for at in sectors(mask) {
                    sector_mut(durable, at).copy_from_slice(sector(&sent, at));
                }
            }
            self.clean(index, clean);
        }
        self.durable_length = self.durable_length.max(flight.length);
    }

    /// Sends some dirty sectors to the device, about one in `times`, and maybe the length.
    pub(super) fn write_back(&mut self, range: (u64, u64), times: u64, random: &mut Random) {
        let (start, end) = range;
        let page = |at: u64| usize::try_from(at / super::image::PAGE as u64).unwrap_or(usize::MAX);
        let dirty: Vec<(usize, u8)> = self
            .dirty
            .range(page(start)..=page(end))
            .map(|(&index, &mask)| (index, mask))
            .collect();
        for (index, mask) in dirty {
            for at in sectors(mask).filter(|_| random.once_in(times)).collect::<Vec<_>>() {
                let source = sector(self.cache.page(index), at);
                sector_mut(self.durable.page_mut(index), at).copy_from_slice(source);
                self.clean(index, 1 << at);
            }
        }
        if random.once_in(times) {
            self.durable_length = self.some_length(random);
        }
    }

    /// A write-back that fails: each dirty sector is written, is lost, or stays dirty.
    pub(super) fn fail(&mut self, random: &mut Random) {
        self.failures += 1;
        let dirty: Vec<(usize, u8)> =
            self.dirty.iter().map(|(&page, &mask)| (page, mask)).collect();
        for (index, mask) in dirty {
            for at in sectors(mask) {
                let kind = random.below(8);
                if kind == 0 {
                    continue;
                }
                if kind < 4 {
                    let source = sector(self.cache.page(index), at);
                    sector_mut(self.durable.page_mut(index), at).copy_from_slice(source);
                }
                self.clean(index, 1 << at);
            }
        }
    }

    /// The file as the next process finds it.
    pub(super) fn reopened(&self) -> Self {
        Self { handles: 0, ..self.clone() }
    }

    fn clean(&mut self, index: usize, sectors: u8) {
        if let Some(mask) = self.dirty.get_mut(&index) {
            *mask &= !sectors;
            if *mask == 0 {
                self.dirty.remove(&index);
            }
        }
    }

    /// Makes everything durable.
    pub(super) fn settle(&mut self) {
        self.durable = self.cache.clone();
        self.dirty.clear();
        self.durable_length = self.length;
        self.written = self.length;
    }

    /// A length that a power cut may leave.
    fn some_length(&self, random: &mut Random) -> u64 {
        let grown = self.length.saturating_sub(self.durable_length);
        match random.below(4) {
            0 => self.durable_length,
            1 => self.length,
            _ => self.durable_length + random.below(grown + 1),
        }
    }

    /// The file as a power cut may leave it.
    pub(super) fn crash(&self, random: &mut Random) -> Self {
        let mut image = self.durable.clone();
        let dirty = self.dirty.values().map(|mask| u64::from(mask.count_ones())).sum();
        let fate = Fate::pick(dirty, random);
        let mut nth = 0;
        for (&index, &mask) in &self.dirty {
            let mut outcomes = [Outcome::Old; SECTORS];
            for (at, outcome) in outcomes.iter_mut().enumerate() {
                if mask & 1 << at != 0 {
                    *outcome = fate.outcome(nth, random);
                    nth += 1;
                }
            }
            self.crash_page(&mut image, index, outcomes, random);
        }
        let length = self.some_length(random);
        if length < self.length {
            image.cut(length);
        }
        Self {
            cache: image.clone(),
            durable: image,
            length,
            durable_length: length,
            written: length,
            ..Self::default()
        }
    }

    fn crash_page(
        &self,
        image: &mut Image,
        index: usize,
        outcomes: [Outcome; SECTORS],
        random: &mut Random,
    ) {
        if outcomes == [Outcome::New; SECTORS] {
            image.put(index, self.cache.share(index));
            return;
        }
        if outcomes == [Outcome::Old; SECTORS] {
            return;
        }
        let (new, page) = (self.cache.page(index), image.page_mut(index));
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let (new, old) = (sector(new, at), sector_mut(page, at));
            let cut = random.below_usize(new.len());
            let kept = match outcome {
                Outcome::Old => continue,
                Outcome::New => 0..new.len(),
                // Whether a device begins with the head or the tail is its own affair.
                Outcome::Torn if random.once_in(4) => cut..new.len(),
                Outcome::Torn => 0..cut,
            };
            let source = new.get(kept.clone()).expect("cut inside the sector");
            old.get_mut(kept).expect("cut inside the sector").copy_from_slice(source);
        }
    }
}

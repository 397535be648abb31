//! A file as memory: the one place of this floor that needs unsafe code.
//!
//! 1. No reference to mapped memory is ever made, only a raw pointer: the system, other processes
//!    and writes to the file may change those bytes at any time.
//! 2. Every store lies inside the map. [`FileMap::store`] checks it.
//! 3. The file is at least as long as the map when that is made, and the seam has no call that
//!    shortens a file. If somebody else does, a store ends the process by a signal; it can not
//!    touch other memory.
//!
//! Used by `disk` alone.

use crate::storage::{Map, Pages};
use crate::sync::Arc;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::{io, ptr};

/// A mapped file.
#[derive(Debug)]
pub(super) struct FileMap {
    map: Arc<FilePages>,
}

/// The pages of a mapped file, as those see them who do not store.
#[derive(Debug)]
struct FilePages(MmapRaw);

impl FileMap {
    /// Maps the first `length` bytes of a file that is open for writing.
    pub(super) fn new(file: &File, length: usize) -> io::Result<Self> {
        let reaches = file.metadata()?.len() >= length as u64;
        if length == 0 || !reaches {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = MmapOptions::new().len(length).map_raw(file)?;
        prefault(&map);
        Ok(Self { map: Arc::new(FilePages(map)) })
    }
}

/// Brings the pages in, so that no store waits for the device. They are not made writable ahead:
/// that would make every one of them dirty, and the next sync write the whole file for nothing;
/// and each sync takes it back. All of it is a hint, which an old system may refuse.
#[cfg(target_os = "linux")]
fn prefault(map: &MmapRaw) {
    use memmap2::Advice;
    let _ = map.advise(Advice::Random);
    let _ = map.advise(Advice::PopulateRead);
}

#[cfg(not(target_os = "linux"))]
fn prefault(_map: &MmapRaw) {}

impl Map for FileMap {
    #[inline]
    fn store(&mut self, offset: usize, bytes: &[u8]) {
        let map = &self.map.0;
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= map.len()), "a store outside of the map");
        // SAFETY: invariant 2, asserted above: the place is inside the map or at its end.
        let place = unsafe { map.as_mut_ptr().add(offset) };
        // SAFETY: all of the place is inside the map (invariant 2), which `self` keeps mapped for
        // writing (invariant 3). `bytes` is borrowed and so no part of it (invariant 1).
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
        fetch(place.wrapping_add(bytes.len()));
    }

    fn pages(&self) -> Option<Arc<dyn Pages>> {
        Some(Arc::clone(&self.map) as Arc<dyn Pages>)
    }
}

/// Has the lines at `place` fetched, where the next store will most likely go: nobody has touched
/// them since the file was made, and a store to memory that is not at hand holds up the next locked
/// instruction.
#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch(place: *mut u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in [0, 64, 128, 192] {
        let line = place.wrapping_add(line).cast_const().cast();
        // SAFETY: a prefetch is a hint and faults nowhere, not even outside of the map.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn fetch(_place: *mut u8) {}

#[cfg(target_os = "linux")]
impl FilePages {
    /// The smallest page of most systems. Where pages are larger, advice about a part of one holds
    /// for all of it, which costs a fault and harms nothing.
    const BYTES: usize = 4096;
}

#[cfg(target_os = "linux")]
impl Pages for FilePages {
    fn begin(&self, offset: usize, length: usize) {
        let length = length.min(self.0.len().saturating_sub(offset));
        if length > 0 {
            let _ = self.0.advise_range(memmap2::Advice::PopulateWrite, offset, length);
        }
    }

    fn end(&self, offset: usize, length: usize) {
        let end = offset.saturating_add(length).min(self.0.len()) / Self::BYTES * Self::BYTES;
        let start = offset.checked_next_multiple_of(Self::BYTES).unwrap_or(end);
        let Some(length) = end.checked_sub(start).filter(|length| *length > 0) else { return };
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: nothing borrows mapped memory (invariant 1). The map is shared with the file,
        // which keeps what was stored: the pages are found there again when they are touched.
        let _ = unsafe { self.0.unchecked_advise_range(advice, start, length) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Pages for FilePages {
    fn begin(&self, _offset: usize, _length: usize) {}

    fn end(&self, _offset: usize, _length: usize) {}
}

//! A page: places of one size, some of them out.
//!
//! ```text
//! header { shelf, size, out, fresh, free ─┐ } │ out │ free ─► free ─► none │ out │ never out ...
//!                                         └─────────┘                             ▲ fresh
//! ```
//!
//! 1. Places from `fresh` on were never out; of those before it, `out` are out and the rest are in
//!    the list of free ones, each of which begins with the address of the next.
//! 2. What was freed last is given first: it is near the processor.
//!
//! Used by `shelf`, under its lock.

use super::links::Links;
use super::region::{PAGE, Source};
use std::ptr::NonNull;

/// Places begin here: behind the header, at a cache line.
const START: usize = 64;

/// The beginning of a page.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Page {
    links: Links,
    /// Never changes.
    shelf: usize,
    size: u32,
    out: u32,
    /// Where the first place that was never out begins.
    fresh: u32,
    source: Source,
    free: Option<NonNull<u8>>,
}

const _: () = assert!(size_of::<Page>() <= START && PAGE <= u32::MAX as usize);

impl Page {
    /// Makes a page of this memory.
    ///
    /// # Safety
    /// `memory` is a page of memory that is the caller's own.
    #[expect(clippy::cast_possible_truncation, reason = "a page is small")]
    pub(super) unsafe fn make(
        memory: NonNull<u8>,
        source: Source,
        shelf: usize,
        size: usize,
    ) -> NonNull<Self> {
        let (links, size) = (Links::none(), size as u32);
        let page = Self { links, shelf, size, out: 0, fresh: START as u32, source, free: None };
        let header = memory.cast::<Self>();
        // SAFETY: the caller's promise; a header fits, and pages are aligned.
        unsafe { header.write(page) };
        header
    }

    /// The page of a place.
    ///
    /// # Safety
    /// The place is on a page.
    pub(super) unsafe fn of(place: NonNull<u8>) -> NonNull<Self> {
        // SAFETY: pages are aligned to their size, so this is the beginning of the place's page.
        unsafe { place.sub(place.addr().get() % PAGE) }.cast()
    }

    /// The shelf of a page.
    ///
    /// # Safety
    /// The caller holds one of the page's places, or the shelf's lock.
    pub(super) unsafe fn shelf_of(page: NonNull<Self>) -> usize {
        // SAFETY: a page with a place out is alive. No reference: others may be changing what
        // stands beside this part.
        let shelf = unsafe { &raw const (*page.as_ptr()).shelf };
        // SAFETY: as above, and this part never changes.
        unsafe { shelf.read() }
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_none() && self.fresh as usize + self.size as usize > PAGE
    }

    /// A free place of a page that is not full.
    ///
    /// # Safety
    /// The caller holds the shelf's lock.
    pub(super) unsafe fn take(mut page: NonNull<Self>) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        let header = unsafe { page.as_mut() };
        header.out += 1;
        if let Some(place) = header.free {
            // SAFETY: a free place begins with the address of the next (1).
            header.free = unsafe { place.cast().read() };
            return place;
        }
        let at = header.fresh as usize;
        header.fresh += header.size;
        // SAFETY: the page is not full, so the place lies inside it.
        unsafe { page.cast::<u8>().add(at) }
    }

    /// Takes a place back.
    ///
    /// # Safety
    /// The place is out, on this page, and the caller's; he holds the shelf's lock.
    pub(super) unsafe fn give(mut page: NonNull<Self>, place: NonNull<u8>) {
        // SAFETY: the caller's promise.
        let header = unsafe { page.as_mut() };
        header.out -= 1;
        // SAFETY: places are aligned to 8 bytes and have as many at least.
        unsafe { place.cast().write(header.free) };
        header.free = Some(place);
    }
}

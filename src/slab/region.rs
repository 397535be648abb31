//! Where pages come from: one by one while there are few, then cut from regions.
//!
//! ```text
//! region │ links, taken {1 1 0 1 ..} ... │ page 1 │ page 2 │ free │ page 4 │ ...
//! ```
//!
//! The first pages come from the allocator singly, so that a small program stays small. Behind
//! them a region asks the system for a huge page, which is resident as a whole.
//!
//! 1. The first page of a region is the region's own; a set bit is a page that is out, or this one.
//! 2. A region is in the list exactly while it has a page to give.
//! 3. One region without a page out is kept, and none if no page is out at all. Else whoever takes
//!    and gives while all other regions are full would have a huge page made each time.
//!
//! Used by `shelf`, under the lock of one.

use super::huge::want_huge_pages;
use super::links::{Links, List};
use crate::sync::Mutex;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

pub(super) const PAGE: usize = 16 << 10;
const REGION: usize = 2 << 20;
/// So many pages are had one by one: a region that is barely used is then a quarter of all.
const SINGLES_MAX: usize = (8 << 20) / PAGE;

const PAGE_LAYOUT: Layout = layout(PAGE);
const REGION_LAYOUT: Layout = layout(REGION);

const fn layout(size: usize) -> Layout {
    match Layout::from_size_align(size, size) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two is a size and an alignment"),
    }
}

/// The beginning of a region.
#[repr(C)]
struct Region {
    links: Links,
    /// A bit for each page.
    taken: u128,
}

/// No page is out.
const NONE_TAKEN: u128 = 1;
const _: () = assert!(REGION / PAGE == 128, "a bit for each page");

/// Where a page came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Single,
    Region,
}

struct Regions {
    /// Those with a page to give.
    open: List,
    /// The one of them without a page out that is kept.
    empty: Option<NonNull<Region>>,
    count: usize,
    singles: usize,
}

// SAFETY: regions are reached by whoever holds the lock, on whatever thread.
unsafe impl Send for Regions {}

static REGIONS: Mutex<Regions> =
    Mutex::new(Regions { open: List::new(), empty: None, count: 0, singles: 0 });

/// Memory for a page, with nothing in it.
pub(super) fn take_page() -> (NonNull<u8>, Source) {
    let mut regions = REGIONS.lock();
    if regions.open.first().is_none() {
        if regions.singles < SINGLES_MAX {
            regions.singles += 1;
            drop(regions);
            return (allocate(PAGE_LAYOUT), Source::Single);
        }
        let region = new_region();
        regions.count += 1;
        // SAFETY: the region is new, and the lock is held.
        unsafe { regions.open.push(region.cast()) };
    }
    let first = regions.open.first().expect("one was put there if there was none");
    let mut region = first.cast::<Region>();
    if regions.empty == Some(region) {
        regions.empty = None;
    }
    // SAFETY: open regions are alive and guarded by the lock.
    let taken = &mut unsafe { region.as_mut() }.taken;
    let page = taken.trailing_ones() as usize;
    *taken |= 1 << page;
    if *taken == u128::MAX {
        // SAFETY: it was the first of the list, whose lock is held.
        unsafe { regions.open.remove(first) };
    }
    // SAFETY: a bit that was clear stands for a page inside the region (1).
    (unsafe { first.cast::<u8>().add(page * PAGE) }, Source::Region)
}

/// Takes the memory of a page back.
///
/// # Safety
/// It came from [`take_page`] with this source, and nobody uses it any more.
pub(super) unsafe fn give_page(page: NonNull<u8>, source: Source) {
    let mut regions = REGIONS.lock();
    let replaced = match source {
        Source::Single => {
            regions.singles -= 1;
            None
        }
        // SAFETY: the caller's promise.
        Source::Region => unsafe { regions.put_back(page) },
    };
    let last = regions.close_last();
    drop(regions);
    if source == Source::Single {
        // SAFETY: a single page came from the allocator with this layout.
        unsafe { dealloc(page.as_ptr(), PAGE_LAYOUT) };
    }
    for region in [replaced, last].into_iter().flatten() {
        // SAFETY: it came from the allocator with this layout, no page of it is out, and no list
        // leads to it.
        unsafe { dealloc(region.cast().as_ptr(), REGION_LAYOUT) };
    }
}

impl Regions {
    /// Puts a page back into its region. If that is kept now in the place of another, answers the
    /// other one, closed.
    ///
    /// # Safety
    /// The page was cut from a region, and nobody uses it any more.
    unsafe fn put_back(&mut self, page: NonNull<u8>) -> Option<NonNull<Region>> {
        let offset = page.addr().get() % REGION;
        // SAFETY: a page of a region lies this far behind its beginning.
        let mut region = unsafe { page.sub(offset) }.cast::<Region>();
        // SAFETY: a region with a page out is alive, and the lock guards it.
        let taken = &mut unsafe { region.as_mut() }.taken;
        let was_full = *taken == u128::MAX;
        *taken &= !(1 << (offset / PAGE));
        let is_empty = *taken == NONE_TAKEN;
        if was_full {
            // SAFETY: it was in no list (2), and the lock is held.
            unsafe { self.open.push(region.cast()) };
        }
        if !is_empty {
            return None;
        }
        let replaced = self.empty.replace(region)?;
        self.close(replaced);
        Some(replaced)
    }

    /// The region that is kept, closed, if no page is out any more.
    fn close_last(&mut self) -> Option<NonNull<Region>> {
        let is_any_out = self.singles > 0 || self.count > 1;
        let last = self.empty.take_if(|_| !is_any_out)?;
        self.close(last);
        Some(last)
    }

    /// Takes a region without a page out from the list, so that it can go back.
    fn close(&mut self, region: NonNull<Region>) {
        self.count -= 1;
        // SAFETY: it has a page to give, so it is in the list (2), whose lock is held.
        unsafe { self.open.remove(region.cast()) };
    }
}

/// Bytes that were asked of the allocator and not given back.
#[cfg(any(test, feature = "testing"))]
pub(super) fn held() -> usize {
    let regions = REGIONS.lock();
    regions.count * REGION + regions.singles * PAGE
}

fn new_region() -> NonNull<Region> {
    let region = allocate(REGION_LAYOUT);
    want_huge_pages(region.as_ptr(), REGION);
    let region = region.cast::<Region>();
    // SAFETY: the memory is new and large enough.
    unsafe { region.write(Region { links: Links::none(), taken: NONE_TAKEN }) };
    region
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

//! Shelves: the pages with places of one size, for one shard of the threads.
//!
//! Taking and giving are a lock that nobody else wants, as a rule, and a few steps. A place goes
//! back to the shelf that it came from, whoever frees it.
//!
//! Used by `memory`.

use super::class::{CLASSES, size_of_class};
use super::links::List;
use super::page::Page;
use super::region::{give_page, take_page};
use crate::sync::{Mutex, thread_shard};
use crossbeam_utils::CachePadded;
use std::ptr::NonNull;

const SHARDS: usize = 8;

struct Shelf {
    /// Pages with a free place.
    open: List,
    /// The one of them without a place out that is kept.
    empty: Option<NonNull<Page>>,
    /// Places out, of all pages.
    out: usize,
}

// SAFETY: pages are reached by whoever holds the lock, on whatever thread.
unsafe impl Send for Shelf {}

static SHELVES: [CachePadded<Mutex<Shelf>>; CLASSES * SHARDS] =
    [const { CachePadded::new(Mutex::new(Shelf { open: List::new(), empty: None, out: 0 })) };
        CLASSES * SHARDS];

fn shelf(number: usize) -> &'static Mutex<Shelf> {
    SHELVES.get(number).expect("a class and a shard make a number below this")
}

/// A place of a class, for the thread that asks.
#[inline]
pub(super) fn take(class: usize) -> NonNull<u8> {
    let number = class * SHARDS + thread_shard() % SHARDS;
    let mut shelf = shelf(number).lock();
    let page = shelf.page_to_take_from(number);
    shelf.out += 1;
    // SAFETY: pages in the list are not full, and the lock is held.
    let place = unsafe { Page::take(page) };
    // SAFETY: the lock guards the page.
    if unsafe { page.as_ref() }.is_full() {
        // SAFETY: it was in the list, and the lock is held.
        unsafe { shelf.open.remove(page.cast()) };
    }
    place
}

/// Takes a place back.
///
/// # Safety
/// It came from [`take`] for this class, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give(place: NonNull<u8>, class: usize) {
    // SAFETY: places that `take` gives are on pages.
    let page = unsafe { Page::of(place) };
    // SAFETY: the caller has the place.
    let number = unsafe { Page::shelf_of(page) };
    debug_assert_eq!(number / SHARDS, class, "what is given was taken here, as the same");
    let mut shelf = shelf(number).lock();
    // SAFETY: the lock guards the page.
    let was_full = unsafe { page.as_ref() }.is_full();
    // SAFETY: the caller gives up the place, and the lock is held.
    unsafe { Page::give(page, place) };
    shelf.out -= 1;
    if was_full {
        // SAFETY: a full page is in no list, and the lock is held.
        unsafe { shelf.open.push(page.cast()) };
    }
    // SAFETY: the lock guards the page.
    if unsafe { page.as_ref() }.is_empty() {
        shelf.put_by(page);
    }
}

/// Bytes of the places that are out.
#[cfg(any(test, feature = "testing"))]
pub(super) fn out() -> usize {
    let numbered = SHELVES.iter().enumerate();
    numbered.map(|(number, shelf)| shelf.lock().out * size_of_class(number / SHARDS)).sum()
}

impl Shelf {
    /// A page of this shelf that is not full.
    #[inline]
    fn page_to_take_from(&mut self, number: usize) -> NonNull<Page> {
        let page = self.open.first().map_or_else(|| self.add_page(number), NonNull::cast);
        if self.empty == Some(page) {
            self.empty = None;
        }
        page
    }

    #[cold]
    fn add_page(&mut self, number: usize) -> NonNull<Page> {
        let (memory, source) = take_page();
        // SAFETY: the memory was given for a page, and to nobody else.
        let page = unsafe { Page::make(memory, source, number, size_of_class(number / SHARDS)) };
        // SAFETY: the page is new, and the lock is held.
        unsafe { self.open.push(page.cast()) };
        page
    }

    /// Keeps a page without a place out, or gives it back, or all if nothing else is out.
    #[cold]
    fn put_by(&mut self, page: NonNull<Page>) {
        let other = self.empty.take();
        if self.out > 0 {
            self.empty = Some(page);
        } else {
            self.give_back(page);
        }
        if let Some(other) = other {
            self.give_back(other);
        }
    }

    fn give_back(&mut self, page: NonNull<Page>) {
        // SAFETY: a page without a place out is in the list, and the lock is held.
        unsafe { self.open.remove(page.cast()) };
        // SAFETY: the lock guards the page.
        let source = unsafe { page.as_ref() }.source();
        // SAFETY: it came from there, no place of it is out, and no list leads to it.
        unsafe { give_page(page.cast(), source) };
    }
}

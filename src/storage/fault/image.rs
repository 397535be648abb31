//! The bytes of a file in pages that images share until one of them changes.
//!
//! A missing page reads as zeros, so preallocating costs nothing, and a copy of an image costs one
//! reference until it is written to.

use crate::sync::Arc;

/// What a device writes at once, if nothing goes wrong.
pub(super) const SECTOR: usize = 512;
/// What is shared between images.
pub(super) const PAGE: usize = 4096;
/// Sectors in a page; one bit of a [`u8`] each.
pub(super) const SECTORS: usize = PAGE / SECTOR;

const _: () = assert!(SECTORS == 8, "a page's sectors are the bits of one byte");

pub(super) type Page = [u8; PAGE];

static ZEROS: Page = [0; PAGE];

/// The content of a file, without its length.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pages: Arc<Vec<Option<Arc<Page>>>>,
}

/// Cuts `length` bytes at `offset` at the borders of pages: page, start in it, bytes in it.
pub(super) fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let start = usize::try_from(offset).expect("simulated files are small");
    let end = start.checked_add(length).expect("simulated files are small");
    let mut at = start;
    std::iter::from_fn(move || {
        let within = at % PAGE;
        let bytes = (PAGE - within).min(end - at);
        let piece = (bytes > 0).then_some((at / PAGE, within, bytes));
        at += bytes;
        piece
    })
}

/// The sectors of a page that `bytes` bytes at `start` touch.
pub(super) fn mask(start: usize, bytes: usize) -> u8 {
    if bytes == 0 {
        return 0;
    }
    let (first, last) = (start / SECTOR, (start + bytes - 1) / SECTOR);
    (first..=last).fold(0, |mask, sector| mask | 1 << sector)
}

/// The bytes of one sector of a page.
pub(super) fn sector(page: &Page, sector: usize) -> &[u8] {
    page.chunks_exact(SECTOR).nth(sector).expect("a page has eight sectors")
}

/// The same to write to.
pub(super) fn sector_mut(page: &mut Page, sector: usize) -> &mut [u8] {
    page.chunks_exact_mut(SECTOR).nth(sector).expect("a page has eight sectors")
}

impl Image {
    /// A page to read.
    pub(super) fn page(&self, index: usize) -> &Page {
        self.pages.get(index).and_then(Option::as_deref).unwrap_or(&ZEROS)
    }

    /// A page to keep: it costs a reference. `None` reads as zeros.
    pub(super) fn share(&self, index: usize) -> Option<Arc<Page>> {
        self.pages.get(index).cloned().flatten()
    }

    /// Puts a shared page in place.
    pub(super) fn put(&mut self, index: usize, page: Option<Arc<Page>>) {
        *self.slot(index) = page;
    }

    /// A page to write to; copied if another image holds it too.
    pub(super) fn page_mut(&mut self, index: usize) -> &mut Page {
        Arc::make_mut(self.slot(index).get_or_insert_with(|| Arc::new(ZEROS)))
    }

    fn slot(&mut self, index: usize) -> &mut Option<Arc<Page>> {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= index {
            pages.resize(index + 1, None);
        }
        pages.get_mut(index).expect("grown just now")
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) {
        let mut rest = buffer;
        for (page, start, bytes) in pieces(offset, rest.len()) {
            let (head, tail) = rest.split_at_mut(bytes);
            let source = self.page(page).get(start..start + bytes);
            head.copy_from_slice(source.expect("a piece lies in its page"));
            rest = tail;
        }
    }

    /// Replaces bytes from `offset` on.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut rest = bytes;
        for (page, start, length) in pieces(offset, bytes.len()) {
            let (head, tail) = rest.split_at(length);
            let target = self.page_mut(page).get_mut(start..start + length);
            target.expect("a piece lies in its page").copy_from_slice(head);
            rest = tail;
        }
    }

    /// Makes everything from `length` on read as zeros.
    pub(super) fn cut(&mut self, length: u64) {
        let length = usize::try_from(length).expect("simulated files are small");
        let pages = Arc::make_mut(&mut self.pages);
        pages.truncate(length.div_ceil(PAGE));
        if !length.is_multiple_of(PAGE)
            && let Some(Some(page)) = pages.get_mut(length / PAGE)
        {
            let tail = Arc::make_mut(page).get_mut(length % PAGE..);
            tail.expect("a remainder is below the size").fill(0);
        }
    }
}

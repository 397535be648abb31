//! Huge pages, for what is large and read here and there.
//!
//! The system is asked; it may have none, and then nothing changes.
//!
//! Used by `region`, and for large tables.

const HUGE: usize = 2 << 20;

/// An empty vector with room for so many, on huge pages as far as it covers whole ones.
pub(crate) fn roomy<T>(capacity: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(capacity);
    let spare = room.spare_capacity_mut();
    want_huge_pages(spare.as_mut_ptr().cast(), size_of_val(spare));
    room
}

/// Asks for the whole huge pages among these bytes, which the caller owns.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn want_huge_pages(start: *mut u8, len: usize) {
    use rustix::mm::{Advice, madvise};
    let skipped = start.addr().wrapping_neg() % HUGE;
    let whole = len.saturating_sub(skipped) / HUGE * HUGE;
    if whole > 0 {
        // SAFETY: the advice leaves the content of memory alone, whoever owns it.
        let _ =
            unsafe { madvise(start.wrapping_add(skipped).cast(), whole, Advice::LinuxHugepage) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) fn want_huge_pages(_: *mut u8, _: usize) {}

//! Asking the processor for memory before it is needed.
//!
//! Only ever a wish: any address is allowed, nothing is read, and where there is no such
//! instruction nothing happens. Used by `leaf`, `search`, `cursor` and `walk`.

use std::ptr::NonNull;

const LINE: usize = 64;

/// Asks for the cache line `line` lines behind `start`.
#[inline]
pub(super) fn prefetch(start: NonNull<u8>, line: usize) {
    ask(start.as_ptr().wrapping_add(line * LINE));
}

/// Asks for the first and the last line of an object, which may lie across two.
#[inline]
pub(super) fn prefetch_object<T>(object: NonNull<T>) {
    let start = object.cast::<u8>().as_ptr();
    ask(start);
    if size_of::<T>() > SMALL {
        ask(start.wrapping_add(size_of::<T>() - 1));
    }
}

/// Objects up to this size lie within one line, as allocators place them.
const SMALL: usize = 16;

#[inline]
fn ask(address: *mut u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads nothing, so that any address will do; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast_const().cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: prefetching reads nothing, so that any address will do.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) address,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = address;
    }
}

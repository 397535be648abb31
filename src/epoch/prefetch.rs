//! Asking the processor for memory before it is needed.
//!
//! Only ever a wish: any address is allowed, nothing is read, and where there is no such
//! instruction nothing happens. Used by `bag`, by the index and by `mvcc`.

/// Asks for the first and the last line of an object, which may lie across two.
#[inline]
pub(crate) fn prefetch_object<T>(object: *const T) {
    let start = object.cast::<u8>();
    prefetch(start);
    if size_of::<T>() > SMALL {
        prefetch(start.wrapping_add(size_of::<T>() - 1));
    }
}

/// Objects up to this size lie within one line, as allocators place them.
const SMALL: usize = 16;

/// Asks for the cache line at an address.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads nothing, so that any address will do; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
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

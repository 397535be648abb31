//! What stands behind a version, where the version alone does not say enough.
//!
//! ```text
//! DEPARTED   tombstone │ over          when what left by itself was written
//! TIMED      value     │ deadline      until when it may be read
//! COLD       nothing   │ over, place   when the value was written, and where it is in the files
//! FETCHED    value     │ over          when it was written; the stamp says when it went cold
//! ```
//!
//! 1. The box of an extended version is larger than a version. It is made here and freed here, by
//!    the kind in the stamp, which never changes.
//! 2. What stands behind a version never changes either. A value whose place in the files moves
//!    gets another version in the place of this one (see `exchange`).
//!
//! Called by records, by write sets, and by what makes room.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::time::Instant;

use crate::id::Timestamp;
use crate::mvcc::place::Place;
use crate::mvcc::version::Version;
use crate::mvcc::version::kind::{COLD, DEPARTED, FETCHED, TIMED};
use crate::slab::Boxed;

#[repr(C)]
struct Over<V> {
    version: Version<V>,
    over: Timestamp,
}

#[repr(C)]
struct Timed<V> {
    version: Version<V>,
    deadline: Instant,
}

/// Begins as [`Over`] does.
#[repr(C)]
struct Cold<V> {
    version: Version<V>,
    over: Timestamp,
    place: Place,
}

fn leak<T, V>(boxed: T) -> NonNull<Version<V>> {
    Boxed::leak(Boxed::new(boxed)).cast()
}

/// The box of a version, which was made as one of a `T`.
///
/// # Safety
///
/// It was, and nobody uses it any more.
unsafe fn taken_back<T, V>(this: *mut Version<V>) -> Boxed<T> {
    let content = NonNull::new(this).expect("versions are not at null").cast();
    // SAFETY: the caller's promise.
    unsafe { Boxed::from_raw(content) }
}

impl<V> Version<V> {
    /// A tombstone of an entry that leaves by itself and was written at `over`.
    pub(crate) fn departure(over: Timestamp) -> NonNull<Self> {
        leak(Over { version: Self::of_kind(None, DEPARTED), over })
    }

    /// A value that may be read until `deadline`.
    pub(crate) fn timed(value: V, deadline: Instant) -> NonNull<Self> {
        leak(Timed { version: Self::of_kind(Some(value), TIMED), deadline })
    }

    /// A value that was written at `over` and is in the files only.
    pub(crate) fn cold(over: Timestamp, place: Place) -> NonNull<Self> {
        leak(Cold { version: Self::of_kind(None, COLD), over, place })
    }

    /// A value that was written at `over`, and has been read back from the files.
    pub(crate) fn fetched(value: V, over: Timestamp) -> NonNull<Self> {
        leak(Over { version: Self::of_kind(Some(value), FETCHED), over })
    }

    /// When somebody wrote what this version is about, if that is not what its stamp says: an entry
    /// that leaves by itself, or whose value leaves memory, is nobody's write.
    ///
    /// # Safety
    ///
    /// `this` was found in a chain, by its pointer, and stays during the call.
    pub(crate) unsafe fn over(this: *const Self) -> Option<Timestamp> {
        // SAFETY: the caller's promise.
        let kind = unsafe { &*this }.kind();
        let is_over = matches!(kind, DEPARTED | COLD | FETCHED);
        // SAFETY: versions of these kinds stand in boxes that begin like an `Over` (1); the pointer
        // in a chain is the one of the whole box.
        is_over.then(|| unsafe { (*this.cast::<Over<V>>()).over })
    }

    /// Until when the value may be read, if it has a deadline of its own.
    ///
    /// # Safety
    ///
    /// As [`over`](Self::over); or `this` came from [`timed`](Self::timed).
    pub(crate) unsafe fn deadline(this: *const Self) -> Option<Instant> {
        // SAFETY: the caller's promise.
        let is_timed = unsafe { &*this }.kind() == TIMED;
        // SAFETY: as in `over`.
        is_timed.then(|| unsafe { (*this.cast::<Timed<V>>()).deadline })
    }

    /// Where the value is in the files, if it is there only.
    ///
    /// # Safety
    ///
    /// As [`over`](Self::over).
    pub(crate) unsafe fn place(this: *const Self) -> Option<Place> {
        // SAFETY: the caller's promise.
        let is_cold = unsafe { &*this }.is_cold();
        // SAFETY: as in `over`.
        is_cold.then(|| unsafe { (*this.cast::<Cold<V>>()).place.clone() })
    }

    /// The layout of the box of a value that is in the files only.
    pub(crate) const COLD_LAYOUT: Layout = Layout::new::<Cold<V>>();

    /// Frees a version that lives in a box of its own, and drops its value.
    ///
    /// # Safety
    ///
    /// `this` came from [`boxed`](Self::boxed) or from here, and nobody uses it any more.
    pub(crate) unsafe fn free(this: *mut Self) {
        // SAFETY: the caller's promise.
        let kind = unsafe { &*this }.kind();
        match kind {
            // SAFETY: boxes of these kinds were made as these types (1).
            DEPARTED | FETCHED => drop(unsafe { taken_back::<Over<V>, V>(this) }),
            // SAFETY: as above.
            TIMED => drop(unsafe { taken_back::<Timed<V>, V>(this) }),
            // SAFETY: as above.
            COLD => drop(unsafe { taken_back::<Cold<V>, V>(this) }),
            // SAFETY: the caller's promise.
            _ => drop(unsafe { taken_back::<Self, V>(this) }),
        }
    }

    /// The same, with the type forgotten.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free).
    pub(crate) unsafe fn free_erased(this: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { Self::free(this.cast()) };
    }
}

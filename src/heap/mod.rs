//! How much heap memory a value owns.
//!
//! 1. What is counted is what the allocator spends, not what was asked for: capacity instead of
//!    length, rounded up as [`allocated`] says.
//! 2. A value without drop glue owns nothing.
//!
//! Whoever accounts for memory uses this.

mod impls;

use crate::sync::Arc;
use std::any::{Any, TypeId};
use std::ffi::OsString;
use std::mem::needs_drop;
use std::path::PathBuf;

/// A value that knows how much heap memory it owns.
///
/// Implemented for the usual types of the standard library. For a type of your own, add up its
/// fields:
///
/// ```
/// use palisade::HeapSize;
///
/// struct Article {
///     id: u64,
///     title: String,
///     tags: Vec<String>,
/// }
///
/// impl HeapSize for Article {
///     fn heap_size(&self) -> usize {
///         self.title.heap_size() + self.tags.heap_size()
///     }
/// }
///
/// let article = Article { id: 7, title: "On walls".to_owned(), tags: Vec::new() };
/// assert_eq!(article.heap_size(), palisade::allocated(8));
/// ```
///
/// What several values share, as by an `Arc`, counts as a whole in each of them: memory that is
/// held is never overlooked, and may be counted more than once.
pub trait HeapSize {
    /// Bytes of heap memory that this value owns, directly and through its parts, without the value
    /// itself: each block as [`allocated`] says.
    fn heap_size(&self) -> usize;
}

/// Bytes that the system's allocator spends on a request for `bytes`.
///
/// The model is that of glibc on machines of 64 bits: 8 bytes go before each block, the sum is
/// rounded up to a multiple of 16 and is at least 32, and nothing is spent where nothing is asked
/// for. Other allocators round differently; the larger a block, the less that matters.
#[must_use]
#[inline]
pub const fn allocated(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let rounded = bytes.saturating_add(HEADER + GRAIN - 1) / GRAIN * GRAIN;
    if rounded < BLOCK_MIN { BLOCK_MIN } else { rounded }
}

const HEADER: usize = 8;
const GRAIN: usize = 16;
const BLOCK_MIN: usize = 32;

/// Calls a macro with the types that are known besides those that own nothing.
macro_rules! with_known {
    ($call:ident) => {
        $call!(
            String,
            Vec<u8>,
            Box<str>,
            Box<[u8]>,
            Arc<str>,
            Arc<[u8]>,
            Option<String>,
            Option<Vec<u8>>,
            Vec<u32>,
            Vec<u64>,
            Vec<i64>,
            Vec<f32>,
            Vec<f64>,
            Vec<String>,
            Vec<Vec<u8>>,
            Arc<String>,
            Arc<Vec<u8>>,
            (String, String),
            (u64, String),
            (String, u64),
            PathBuf,
            OsString,
        )
    };
}

/// The heap memory of a value of any type, if the type is one that is known: one that owns nothing,
/// or one of the most usual that do.
pub(crate) fn heap_size_of_known<T: 'static>(value: &T) -> Option<usize> {
    if !needs_drop::<T>() {
        return Some(0);
    }
    let value: &dyn Any = value;
    macro_rules! first_of {
        ($($known:ty),+ $(,)?) => {
            None$(.or_else(|| value.downcast_ref::<$known>().map(HeapSize::heap_size)))+
        };
    }
    with_known!(first_of)
}

/// Whether the heap memory of every value of the type is known.
pub(crate) fn is_known<T: 'static>() -> bool {
    macro_rules! any_of {
        ($($known:ty),+ $(,)?) => {
            [$(TypeId::of::<$known>()),+].contains(&TypeId::of::<T>())
        };
    }
    !needs_drop::<T>() || with_known!(any_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_without_drop_glue_own_nothing() {
        assert_eq!(heap_size_of_known(&7_u64), Some(0));
        assert_eq!(heap_size_of_known(&(1_u8, [2.0_f64; 4], 'x')), Some(0));
        assert_eq!(heap_size_of_known(&"borrowed"), Some(0));
    }

    struct Own(#[expect(dead_code, reason = "makes it a type with drop glue")] String);

    #[test]
    fn known_types_are_weighed_and_others_are_not() {
        let text = "a text that is longer than a block".to_owned();
        let expected = allocated(text.capacity());
        assert_eq!(heap_size_of_known(&text), Some(expected));
        assert_eq!(heap_size_of_known(&Some(text.clone())), Some(expected));
        assert_eq!(heap_size_of_known(&vec![1_u64, 2, 3]), Some(allocated(24)));
        assert_eq!(heap_size_of_known(&vec![0_u8; 100].into_boxed_slice()), Some(allocated(100)));
        assert_eq!(heap_size_of_known(&vec![vec![1_u16]]), None, "not in the list");
        assert_eq!(heap_size_of_known(&Own(text)), None);
        assert!(is_known::<String>() && is_known::<u64>() && is_known::<Option<Vec<u8>>>());
        assert!(!is_known::<Own>() && !is_known::<Vec<Vec<u16>>>());
    }
}

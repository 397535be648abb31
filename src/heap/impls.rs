//! Heap sizes of the standard library's types.
//!
//! Blocks whose size the standard library does not tell, those of maps and sets, are estimated from
//! how it lays them out; each such estimate says how.

use super::{HeapSize, allocated};
use crate::sync::Arc;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::mem::needs_drop;
use std::num::{NonZero, Saturating, Wrapping};
use std::path::{Path, PathBuf};

macro_rules! own_nothing {
    ($($type:ty),+ $(,)?) => {
        $(impl HeapSize for $type {
            #[inline]
            fn heap_size(&self) -> usize {
                0
            }
        })+
    };
}

own_nothing!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    NonZero<u8>,
    NonZero<u16>,
    NonZero<u32>,
    NonZero<u64>,
    NonZero<u128>,
    NonZero<usize>,
    NonZero<i8>,
    NonZero<i16>,
    NonZero<i32>,
    NonZero<i64>,
    NonZero<i128>,
    NonZero<isize>,
    std::cmp::Ordering,
    std::time::Duration,
    std::time::Instant,
    std::time::SystemTime,
    std::net::IpAddr,
    std::net::Ipv4Addr,
    std::net::Ipv6Addr,
    std::net::SocketAddr,
    str,
    OsStr,
    Path,
);

impl<T: ?Sized> HeapSize for &T {
    #[inline]
    fn heap_size(&self) -> usize {
        0
    }
}

impl<T: ?Sized> HeapSize for std::marker::PhantomData<T> {
    #[inline]
    fn heap_size(&self) -> usize {
        0
    }
}

/// What elements own; nothing, and nothing is looked at, if their type owns nothing.
fn parts<'a, T: HeapSize + 'a>(elements: impl IntoIterator<Item = &'a T>) -> usize {
    if !needs_drop::<T>() {
        return 0;
    }
    elements.into_iter().map(HeapSize::heap_size).sum()
}

impl<T: HeapSize> HeapSize for [T] {
    fn heap_size(&self) -> usize {
        parts(self)
    }
}

impl<T: HeapSize, const N: usize> HeapSize for [T; N] {
    fn heap_size(&self) -> usize {
        parts(self)
    }
}

impl<T: HeapSize + ?Sized> HeapSize for Box<T> {
    fn heap_size(&self) -> usize {
        allocated(size_of_val::<T>(self)) + (**self).heap_size()
    }
}

/// As a whole: the counters, the value, and what the value owns.
impl<T: HeapSize + ?Sized> HeapSize for Arc<T> {
    fn heap_size(&self) -> usize {
        let counters = 2 * size_of::<usize>();
        // The value stands behind the counters, where its alignment lets it.
        let before = counters.next_multiple_of(align_of_val::<T>(self));
        let bytes = (before + size_of_val::<T>(self)).next_multiple_of(size_of::<usize>());
        allocated(bytes) + (**self).heap_size()
    }
}

impl HeapSize for String {
    #[inline]
    fn heap_size(&self) -> usize {
        allocated(self.capacity())
    }
}

impl HeapSize for OsString {
    fn heap_size(&self) -> usize {
        allocated(self.capacity())
    }
}

impl HeapSize for PathBuf {
    fn heap_size(&self) -> usize {
        allocated(self.capacity())
    }
}

impl<T: HeapSize> HeapSize for Vec<T> {
    #[inline]
    fn heap_size(&self) -> usize {
        allocated(self.capacity().saturating_mul(size_of::<T>())) + parts(self)
    }
}

impl<T: HeapSize> HeapSize for VecDeque<T> {
    fn heap_size(&self) -> usize {
        allocated(self.capacity().saturating_mul(size_of::<T>())) + parts(self)
    }
}

impl<T: HeapSize> HeapSize for BinaryHeap<T> {
    fn heap_size(&self) -> usize {
        allocated(self.capacity().saturating_mul(size_of::<T>())) + parts(self)
    }
}

impl<B: ToOwned + ?Sized> HeapSize for Cow<'_, B>
where
    B::Owned: HeapSize,
{
    fn heap_size(&self) -> usize {
        match self {
            Cow::Borrowed(_) => 0,
            Cow::Owned(owned) => owned.heap_size(),
        }
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    #[inline]
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, HeapSize::heap_size)
    }
}

impl<T: HeapSize, E: HeapSize> HeapSize for Result<T, E> {
    fn heap_size(&self) -> usize {
        match self {
            Ok(value) => value.heap_size(),
            Err(error) => error.heap_size(),
        }
    }
}

macro_rules! wrappers {
    ($($type:ident),+) => {
        $(impl<T: HeapSize> HeapSize for $type<T> {
            #[inline]
            fn heap_size(&self) -> usize {
                self.0.heap_size()
            }
        })+
    };
}

wrappers!(Reverse, Wrapping, Saturating);

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: HeapSize),+> HeapSize for ($($name,)+) {
            #[inline]
            fn heap_size(&self) -> usize {
                #[expect(non_snake_case, reason = "a field has the name of its type")]
                let ($($name,)+) = self;
                0 $(+ $name.heap_size())+
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

/// Nodes of up to 11 elements, with eight and a half on average, and a node with 12 edges above
/// every nine: between what insertion in order leaves, nodes of six, and what collecting makes,
/// full ones.
fn tree(len: usize, element: usize) -> usize {
    let node = |edges: usize| allocated(8 + 11 * element + 4 + edges * 8);
    match len {
        0 => 0,
        1..=11 => node(0),
        _ => {
            let nodes = (2 * len).div_ceil(17);
            let inner = nodes.div_ceil(9);
            (nodes - inner) * node(0) + inner * node(12)
        }
    }
}

impl<K: HeapSize, V: HeapSize> HeapSize for BTreeMap<K, V> {
    fn heap_size(&self) -> usize {
        let nodes = tree(self.len(), size_of::<K>() + size_of::<V>());
        nodes + parts(self.keys()) + parts(self.values())
    }
}

impl<T: HeapSize> HeapSize for BTreeSet<T> {
    fn heap_size(&self) -> usize {
        tree(self.len(), size_of::<T>()) + parts(self)
    }
}

/// A power of two of places, seven eighths of which may be taken, each with a byte beside it, and a
/// group of 16 bytes more.
fn table(capacity: usize, element: usize) -> usize {
    let places = match capacity {
        0 => return 0,
        1..=3 => 4,
        4..=7 => 8,
        8..=14 => 16,
        _ => (capacity.saturating_mul(8) / 7).next_power_of_two(),
    };
    allocated(places.saturating_mul(element).next_multiple_of(16) + places + 16)
}

impl<K: HeapSize, V: HeapSize, S> HeapSize for HashMap<K, V, S> {
    fn heap_size(&self) -> usize {
        table(self.capacity(), size_of::<(K, V)>()) + parts(self.keys()) + parts(self.values())
    }
}

impl<T: HeapSize, S> HeapSize for HashSet<T, S> {
    fn heap_size(&self) -> usize {
        table(self.capacity(), size_of::<T>()) + parts(self)
    }
}

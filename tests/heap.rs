//! What `HeapSize` says is what the allocator spends.
//!
//! Method: an allocator that adds up, for each block, what the system's allocator really set aside
//! for it. A value is made on a thread that nobody else counts on, and both figures are compared.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

use palisade::{HeapSize, allocated};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::ffi::{OsString, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

unsafe extern "C" {
    /// glibc: bytes of a block that its owner may use.
    fn malloc_usable_size(block: *mut c_void) -> usize;
}

/// glibc puts so many bytes of its own before each block.
const HEADER: usize = 8;

struct Weighing;

thread_local! {
    static SPENT: Cell<usize> = const { Cell::new(0) };
}

fn size_of_block(block: *mut u8) -> usize {
    // SAFETY: `block` came from the system's allocator and was not freed.
    HEADER + unsafe { malloc_usable_size(block.cast()) }
}

// SAFETY: every call goes to the system's allocator with the same arguments; weighing allocates
// nothing.
unsafe impl GlobalAlloc for Weighing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on unchanged.
        let block = unsafe { System.alloc(layout) };
        // A thread that is ending counts no more.
        let _ = SPENT.try_with(|spent| spent.set(spent.get().wrapping_add(size_of_block(block))));
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _ = SPENT.try_with(|spent| spent.set(spent.get().wrapping_sub(size_of_block(block))));
        // SAFETY: `block` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Weighing = Weighing;

/// The estimate and what was spent, of a value.
fn weigh<T: HeapSize>(make: impl FnOnce() -> T) -> (usize, usize) {
    let before = SPENT.get();
    let value = black_box(make());
    (value.heap_size(), SPENT.get().wrapping_sub(before))
}

/// glibc leaves a block 16 bytes too large where the rest would be too small for a block.
#[track_caller]
fn assert_exact<T: HeapSize>(make: impl FnOnce() -> T) {
    let (estimate, spent) = weigh(make);
    assert!(spent == estimate || spent == estimate + 16, "{estimate} beside {spent}");
}

#[track_caller]
fn assert_near<T: HeapSize>(percent: usize, make: impl FnOnce() -> T) {
    let (estimate, spent) = weigh(make);
    assert!(estimate.abs_diff(spent) * 100 <= spent * percent, "{estimate} beside {spent}");
}

/// Texts of all lengths up to 200 bytes.
fn texts(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|at| "x".repeat(at * 37 % 200))
}

#[test]
fn requests_are_rounded_as_the_allocator_does() {
    for bytes in (1..5000).chain([10_000, 65_536, 100_000]) {
        let (_, spent) = weigh(|| Vec::<u8>::with_capacity(bytes));
        let exact = spent == allocated(bytes) || spent == allocated(bytes) + 16;
        assert!(exact, "{bytes}: {} beside {spent}", allocated(bytes));
    }
    assert_eq!(allocated(0), 0);
    // Large blocks come in pages.
    for bytes in [200_000, 1 << 20, 10 << 20] {
        let (_, spent) = weigh(|| Vec::<u8>::with_capacity(bytes));
        assert!(allocated(bytes).abs_diff(spent) * 20 <= spent, "{bytes}: {spent}");
    }
}

#[test]
fn what_owns_one_block_is_exact() {
    assert_exact(|| 7_u64);
    assert_exact(|| Box::new(7_u64));
    assert_exact(|| texts(200).last());
    assert_exact(|| "text".repeat(9).into_boxed_str());
    assert_exact(|| vec![1_u16; 77].into_boxed_slice());
    assert_exact(|| Vec::<u32>::with_capacity(1000));
    assert_exact(|| VecDeque::from(vec![1_u8; 333]));
    assert_exact(|| BinaryHeap::from(vec![1_u64; 33]));
    assert_exact(|| Arc::new(5_u8));
    assert_exact(|| Arc::<str>::from("thirteen text"));
    assert_exact(|| Arc::<[u64]>::from(vec![3; 21]));
    assert_exact(|| OsString::from("name"));
    assert_exact(|| PathBuf::from("folder/file/with/a/long/name"));
}

#[test]
fn what_owns_owners_is_within_a_hundredth() {
    assert_near(1, || texts(1000).collect::<Vec<String>>());
    assert_near(1, || texts(300).map(Some).collect::<VecDeque<_>>());
    assert_near(1, || texts(300).map(|text| (7_u64, Box::new(text))).collect::<Vec<_>>());
    assert_near(1, || texts(100).map(|text| Arc::new([text.clone(), text])).collect::<Vec<_>>());
    assert_near(1, || texts(100).map(|text| Arc::from(text.as_str())).collect::<Vec<Arc<str>>>());
    assert_near(1, || (texts(99).collect::<Vec<_>>(), 'x', Ok::<_, ()>("text".to_owned())));
    assert_exact(|| std::borrow::Cow::<str>::Owned("text".repeat(7)));
    assert_exact(|| std::borrow::Cow::<str>::Borrowed("text"));
    assert_exact(|| std::cmp::Reverse("text".repeat(7)));
}

/// The keys in an order without pattern.
fn mixed(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn entries_as_a_store_has_them_are_within_a_tenth() {
    // The boxes stand for a store's versions.
    assert_near(10, || mixed(20_000).map(|key| Box::new((key, key))).collect::<Vec<_>>());
    assert_near(10, || {
        texts(20_000).map(|text| Box::new((text.clone(), text))).collect::<Vec<_>>()
    });
    assert_near(10, || texts(20_000).map(String::into_bytes).map(Box::new).collect::<Vec<_>>());
}

#[test]
fn hash_tables_are_within_a_tenth() {
    for count in [1, 3, 4, 7, 8, 14, 15, 28, 29, 100, 1000, 12_345] {
        assert_near(10, || mixed(count).map(|key| (key, key)).collect::<HashMap<u64, u64>>());
        assert_near(10, || mixed(count).map(|key| (key, 1)).collect::<HashMap<u64, u8>>());
        assert_near(10, || mixed(count).collect::<HashSet<u64>>());
        let count = usize::try_from(count).expect("is small");
        assert_near(10, || texts(count).zip(texts(count)).collect::<HashMap<String, String>>());
    }
}

#[test]
fn trees_are_within_a_third() {
    for count in [1, 11, 100, 1000, 12_345] {
        // From the halves of sorted insertion to the dense nodes that collecting makes.
        assert_near(34, || {
            let mut map = BTreeMap::new();
            mixed(count).for_each(|key| _ = map.insert(key, key));
            map
        });
        assert_near(34, || {
            let mut map = BTreeMap::new();
            (0..count).for_each(|key| _ = map.insert(key, key));
            map
        });
        assert_near(34, || mixed(count).map(|key| (key, key)).collect::<BTreeMap<u64, u64>>());
        assert_near(34, || mixed(count).map(|key| key.to_string()).collect::<BTreeSet<String>>());
    }
}

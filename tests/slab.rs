//! The slab: pages and regions are no more than what is out needs, and all go back with it.
//!
//! Method: the shipped files in a binary where nobody else uses them, and an allocator that counts
//! their blocks and spoils those that come back. The tests take turns. What holds while others take
//! memory, too, is tested beside the code.
#![cfg(not(palisade_plain_memory))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use rng::Rng;
use slab::{Boxed, Memory, spent, usage};

#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/rng.rs"]
mod rng;
#[path = "slab/module.rs"]
mod slab;
#[allow(dead_code, reason = "the slab uses a part")]
#[allow(unused_imports, unused_macros, reason = "the slab uses a part")]
#[path = "../src/sync.rs"]
mod sync;

mod heap {
    pub(crate) const fn allocated(bytes: usize) -> usize {
        palisade::allocated(bytes)
    }
}

const PAGE: usize = 16 << 10;
const REGION: usize = 2 << 20;
/// Pages that are had one by one.
const SINGLES: usize = 512;
/// An alignment that the slab leaves to the allocator, and that nobody else asks for.
const WIDE: usize = 256;

/// Blocks of one kind: how many are out, and how many ever were.
struct Blocks(AtomicUsize, AtomicUsize);

impl Blocks {
    const fn new() -> Self {
        Self(AtomicUsize::new(0), AtomicUsize::new(0))
    }

    fn out(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn ever(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

static PAGES: Blocks = Blocks::new();
static REGIONS: Blocks = Blocks::new();
static WIDES: Blocks = Blocks::new();

/// The blocks that the slab alone asks for are known by their alignment.
fn kind(layout: Layout) -> Option<&'static Blocks> {
    match (layout.size(), layout.align()) {
        // Nobody may ask for nothing.
        (0, _) => None,
        (PAGE, PAGE) => Some(&PAGES),
        (REGION, REGION) => Some(&REGIONS),
        (_, WIDE) => Some(&WIDES),
        _ => None,
    }
}

struct Watching;

// SAFETY: every call goes to the system allocator with the same arguments; counting allocates
// nothing.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(Blocks(out, ever)) = kind(layout) {
            out.fetch_add(1, Ordering::Relaxed);
            ever.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(Blocks(out, _)) = kind(layout) {
            out.fetch_sub(1, Ordering::Relaxed);
            // Whoever still has a place in there will notice.
            // SAFETY: the block is given up, and as long as its layout says.
            unsafe { ptr.write_bytes(0xDD, layout.size()) };
        }
        // SAFETY: `ptr` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// The turn of one test. Nothing is out when it begins, and nothing may be when it ends.
struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> Turn {
    Turn(TURN.lock().expect("the one before has given everything back"))
}

/// Pages had one by one, regions, and blocks of a wide alignment, that are out.
fn out() -> [usize; 3] {
    assert_eq!(usage().0, bytes_out(), "the slab knows what it has");
    [&PAGES, &REGIONS, &WIDES].map(Blocks::out)
}

const NOTHING: [usize; 3] = [0; 3];

fn bytes_out() -> usize {
    PAGES.out() * PAGE + REGIONS.out() * REGION
}

/// Memory that is out, and the number that was written to its beginning and its end.
struct Held {
    start: NonNull<u8>,
    layout: Layout,
    number: u64,
}

// SAFETY: any thread may use memory that is out, and nothing else leads to this one.
unsafe impl Send for Held {}

impl Held {
    fn take(size: usize, number: u64) -> Self {
        let layout = Layout::from_size_align(size, 8).unwrap();
        let held = Self { start: Memory::take(layout).into_raw(), layout, number };
        for end in held.ends() {
            // SAFETY: it lies inside the memory, which is ours.
            unsafe { end.write_unaligned(number) };
        }
        held
    }

    /// Its first eight bytes and its last.
    fn ends(&self) -> [NonNull<u64>; 2] {
        // SAFETY: the memory has eight bytes at least.
        let last = unsafe { self.start.add(self.layout.size() - 8) };
        [self.start.cast(), last.cast()]
    }

    fn give(self) {
        for end in self.ends() {
            // SAFETY: as in `take`, which filled it.
            let found = unsafe { end.read_unaligned() };
            assert_eq!(found, self.number, "{:?} at {:?} was written to", self.layout, self.start);
        }
        // SAFETY: it was taken with this layout, and nobody else uses it.
        drop(unsafe { Memory::from_raw(self.start, self.layout) });
    }
}

fn take_all(size: usize, count: usize) -> Vec<Held> {
    (0..count as u64).map(|number| Held::take(size, number)).collect()
}

fn give_all(held: impl IntoIterator<Item = Held>) {
    held.into_iter().for_each(Held::give);
}

fn shuffle<T>(list: &mut [T], rng: &mut Rng) {
    for at in (1..list.len()).rev() {
        let other = rng.below(u32::try_from(at + 1).unwrap());
        list.swap(at, usize::try_from(other).unwrap());
    }
}

/// A size of each class.
fn sizes() -> impl Iterator<Item = usize> {
    (8..=48).step_by(8).chain((192..=1280).step_by(64))
}

/// Places on a page: all that fit behind a header of a cache line.
fn capacity(size: usize) -> usize {
    (PAGE - 64) / size
}

#[test]
fn all_pages_go_back_whatever_the_order() {
    let _turn = turn();
    let mut rng = Rng::new(rng::seed());
    for size in sizes() {
        for order in 0..5 {
            let mut held = take_all(size, 4 * capacity(size) + 1);
            assert_eq!(out(), [5, 0, 0], "{size} bytes");
            match order {
                0 => {}
                1 => held.reverse(),
                2 => held.sort_by_key(|it| it.number % 2),
                _ => shuffle(&mut held, &mut rng),
            }
            give_all(held);
            assert_eq!(out(), NOTHING, "{size} bytes, order {order}");
        }
    }
}

#[test]
fn pages_hold_as_many_as_fit_and_a_place_takes_what_is_said() {
    let _turn = turn();
    for size in sizes() {
        for asked in [size - 7, size] {
            let layout = Layout::from_size_align(asked, 1).unwrap();
            assert_eq!(spent(layout), size);
            let all: Vec<_> = (0..capacity(size)).map(|_| Memory::take(layout)).collect();
            assert_eq!(out(), [1, 0, 0], "{asked} bytes");
            let one_more = Memory::take(layout);
            assert_eq!(out(), [2, 0, 0], "{asked} bytes");
            assert_eq!(usage().1, (capacity(size) + 1) * size);
            drop((all, one_more));
            assert_eq!(out(), NOTHING);
        }
    }
}

#[test]
fn free_places_are_taken_before_more_pages() {
    let _turn = turn();
    let mut rng = Rng::new(rng::seed());
    for size in sizes() {
        let count = 10 * capacity(size);
        let mut held = take_all(size, count);
        for _ in 0..5 {
            shuffle(&mut held, &mut rng);
            give_all(held.drain(count / 3..));
            assert!(PAGES.out() <= 10, "{size} bytes: {:?}", out());
            held.extend(take_all(size, count - held.len()));
            assert_eq!(out(), [10, 0, 0], "{size} bytes");
        }
        give_all(held);
        assert_eq!(out(), NOTHING, "{size} bytes");
    }
}

/// Whoever takes and gives at the edge of a page does not go to the allocator each time.
#[test]
fn one_page_is_kept_while_anything_is_out() {
    let _turn = turn();
    for size in sizes() {
        let one = Held::take(size, 7);
        give_all(take_all(size, 6 * capacity(size)));
        assert_eq!(out(), [2, 0, 0], "{size} bytes: the page of the one, and another");
        let before = PAGES.ever();
        for _ in 0..20 {
            give_all(take_all(size, capacity(size)));
        }
        assert_eq!((out(), PAGES.ever()), ([2, 0, 0], before), "{size} bytes");
        one.give();
        assert_eq!(out(), NOTHING, "{size} bytes");
    }
}

#[test]
fn what_was_freed_last_is_taken_first() {
    let _turn = turn();
    let held = take_all(48, 1000);
    let places: Vec<_> = held.iter().map(|it| it.start).collect();
    give_all(held.into_iter().skip(900));
    let again = take_all(48, 100);
    assert!(again.iter().map(|it| it.start).eq(places[900..].iter().rev().copied()));
    // The others were skipped, not given.
    let layout = Layout::from_size_align(48, 8).unwrap();
    for &place in &places[..900] {
        // SAFETY: it was taken with this layout, and nobody else uses it.
        drop(unsafe { Memory::from_raw(place, layout) });
    }
    give_all(again);
    assert_eq!(out(), NOTHING);
}

#[test]
fn many_pages_are_cut_from_regions_that_go_back() {
    const SIZE: usize = 1280;
    let _turn = turn();
    let mut rng = Rng::new(rng::seed());
    let (pages, singles) = (2000, SINGLES * capacity(SIZE));
    let (count, regions) = (pages * capacity(SIZE), (pages - SINGLES).div_ceil(127));
    for round in 0..3 {
        let mut held = take_all(SIZE, singles);
        assert_eq!(out(), [SINGLES, 0, 0], "few pages come one by one");
        held.extend((singles..count).map(|number| Held::take(SIZE, number as u64)));
        assert_eq!(out(), [SINGLES, regions, 0]);
        // Here and there, and again.
        shuffle(&mut held, &mut rng);
        give_all(held.drain(count / 10..));
        let left = held.len() as u64;
        held.extend((left..count as u64).map(|number| Held::take(SIZE, number)));
        assert!(PAGES.out() <= SINGLES && REGIONS.out() <= regions, "{:?}", out());
        // From one end to the other: memory goes back step by step.
        held.sort_by_key(|it| it.start);
        if round == 1 {
            held.reverse();
        }
        let mut left = held.len();
        for place in held {
            place.give();
            left -= 1;
            // What a page and a region do not hold; the region that is cut, that of the page which
            // is kept, and the one which is kept itself.
            let most = left * SIZE * 11 / 10 + 3 * REGION + 2 * PAGE;
            assert!(bytes_out() <= most, "{left} places on {:?}", out());
        }
        assert_eq!(out(), NOTHING, "round {round}");
    }
}

/// More than there are shards, so that some share their shelves.
const THREADS: u64 = 11;

/// Takes enough for regions, gives some back and passes the others on; gives what it is passed.
fn work(number: u64, inbox: &Receiver<Held>, next: Sender<Held>) {
    let mut rng = Rng::new(rng::seed() + number);
    for wave in 0..10 {
        let mut held: Vec<_> = (0..1500)
            .map(|at| {
                Held::take([1280, 48, 1280, 8][at % 4], number << 32 | wave << 16 | at as u64)
            })
            .collect();
        shuffle(&mut held, &mut rng);
        for (at, place) in held.into_iter().enumerate() {
            if at % 2 == 0 {
                place.give();
            } else {
                next.send(place).unwrap();
            }
            if at % 16 == 0 {
                give_all(inbox.try_iter());
            }
        }
    }
    drop(next);
    give_all(inbox.iter());
}

/// A size that the shelves of a test do not share.
const OTHER: usize = 1216;

/// Runs something while the pages that come one by one are all out, full of places of `OTHER`.
fn with_regions_only(run: impl FnOnce()) {
    let before = REGIONS.ever();
    let held = take_all(OTHER, SINGLES * capacity(OTHER));
    run();
    assert!(REGIONS.ever() > before);
    assert_eq!(out(), [SINGLES, 1, 0], "one region is kept");
    give_all(held);
    assert_eq!(out(), NOTHING);
}

/// Whoever takes and gives while all other regions are full does not have a huge page made each
/// time.
#[test]
fn one_region_is_kept_while_any_page_is_out() {
    let _turn = turn();
    with_regions_only(|| {
        for rest in [0, 1] {
            // Full regions, or one with a single page out.
            let held = take_all(1280, 3 * 127 * capacity(1280) + rest);
            let before = REGIONS.ever();
            for size in sizes().filter(|&size| size != OTHER) {
                for _ in 0..5 {
                    give_all(take_all(size, 1));
                }
            }
            assert!(REGIONS.ever() <= before + 1, "{} more", REGIONS.ever() - before);
            assert_eq!(out(), [SINGLES, 4, 0]);
            give_all(held);
        }
    });
}

#[test]
fn threads_that_hand_over_leave_nothing_behind() {
    let _turn = turn();
    let (mut ends, inboxes): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel()).unzip();
    ends.rotate_left(1);
    with_regions_only(|| {
        thread::scope(|scope| {
            for (number, (next, inbox)) in (0..).zip(ends.into_iter().zip(inboxes)) {
                scope.spawn(move || work(number, &inbox, next));
            }
        });
    });
}

#[test]
fn threads_cut_regions_at_once() {
    const SIZE: usize = 1280;
    let _turn = turn();
    let run = |number: u64| {
        let mut rng = Rng::new(rng::seed() + number);
        for round in 0..20_000 {
            let pages = usize::from(1 + rng.small(6));
            let numbers =
                (0..pages * capacity(SIZE)).map(|at| number << 32 | round << 16 | at as u64);
            give_all(numbers.map(|number| Held::take(SIZE, number)).collect::<Vec<_>>());
        }
    };
    with_regions_only(|| {
        thread::scope(|scope| {
            for number in 0..THREADS {
                scope.spawn(move || run(number));
            }
        });
    });
}

/// One takes while the other gives, from and to the same shelf.
#[test]
fn a_thread_gives_what_another_goes_on_taking() {
    let _turn = turn();
    let (next, inbox) = sync_channel::<Vec<Held>>(16);
    thread::scope(|scope| {
        scope.spawn(|| inbox.into_iter().for_each(give_all));
        for _ in 0..10_000 {
            next.send(take_all(400, 50)).unwrap();
        }
        drop(next);
    });
    assert_eq!(out(), NOTHING);
}

#[test]
fn pages_of_threads_that_ended_go_back() {
    let _turn = turn();
    for size in sizes() {
        let taken = move || take_all(size, 2 * capacity(size));
        let held: Vec<_> = (0..3).flat_map(|_| thread::spawn(taken).join().unwrap()).collect();
        assert_eq!(out(), [6, 0, 0], "{size} bytes");
        give_all(held);
        assert_eq!(out(), NOTHING, "{size} bytes");
    }
}

struct Bomb<const N: usize>([u64; N]);

impl<const N: usize> Drop for Bomb<N> {
    fn drop(&mut self) {
        assert!(thread::panicking() || self.0 != [7; N], "a destructor that panics");
    }
}

#[repr(align(256))]
struct Wide<T>(#[allow(dead_code, reason = "it is dropped")] T);

/// What becomes of a box, with what is out while it lives.
fn box_of<T>(make: impl Fn() -> T, alive: [usize; 3]) {
    let out_of = |boxed: Boxed<T>| {
        assert_eq!(out(), alive);
        boxed
    };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(out_of(Boxed::new(make())))));
    assert_eq!(out(), NOTHING, "dropped");
    let raw = Boxed::leak(Boxed::new(make()));
    assert_eq!(out(), alive, "leaked");
    // SAFETY: the box gave the pointer away just now.
    let boxed = unsafe { Boxed::from_raw(raw) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(out_of(boxed))));
    assert_eq!(out(), NOTHING, "taken back");
    let boxed = Boxed::new(make());
    let emptied = catch_unwind(AssertUnwindSafe(|| Boxed::empty(boxed)));
    assert_eq!(out(), if emptied.is_ok() { alive } else { NOTHING }, "emptied");
    drop(emptied);
    assert_eq!(out(), NOTHING, "emptied and given");
    let memory = Memory::take(Layout::new::<[u16; 7]>());
    assert!(catch_unwind(AssertUnwindSafe(|| Boxed::fill(memory, &make))).is_err());
    assert_eq!(out(), NOTHING, "refused");
    let memory = Memory::take(Layout::new::<T>());
    let unmade = || -> T { panic!("nothing can be made") };
    assert!(catch_unwind(AssertUnwindSafe(|| Boxed::fill(memory, unmade))).is_err());
    assert_eq!(out(), NOTHING, "never filled");
}

#[test]
fn boxes_give_their_memory_back_whatever_their_content_does() {
    let _turn = turn();
    let (place, block) = ([1, 0, 0], [0, 0, 1]);
    box_of(|| 7_u64, place);
    box_of(|| (), place);
    box_of(|| Bomb([7; 1]), place);
    box_of(|| Bomb([8; 5]), place);
    box_of(|| Bomb([7; 5]), place);
    box_of(|| Bomb([7; 160]), place);
    box_of(|| Bomb([7; 161]), NOTHING);
    box_of(|| Wide(Bomb([8; 1])), block);
    box_of(|| Wide(Bomb([7; 1])), block);
    box_of(|| Wide(()), block);
}

//! Aim: what is out is nobody else's, aligned, and keeps what is written into it until it is given,
//! whoever gives it; a box drops its content once, whatever that does.
//! Method: random histories against a list of what is out, with content that is checked; threads
//! that hand over; destructors that count and panic. That all memory goes back is for
//! `tests/slab.rs`, since here the engine's other tests take some, too.

use super::{Boxed, Memory, spent};
use crate::sync::{Arc, AtomicUsize, Ordering};
use proptest::prelude::*;
use proptest::sample::Index;
use std::alloc::Layout;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Memory that is out, and what was written into it.
struct Held {
    start: NonNull<u8>,
    layout: Layout,
    stamp: u64,
}

// SAFETY: any thread may use memory that is out, and nothing else leads to this one.
unsafe impl Send for Held {}

/// So many bytes that no other stamp has.
fn content(stamp: u64, len: usize) -> Vec<u8> {
    let word = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    word.to_le_bytes().into_iter().cycle().take(len).collect()
}

impl Held {
    fn take(layout: Layout, stamp: u64) -> Self {
        let memory = Memory::take(layout);
        assert_eq!(memory.layout(), layout);
        let start = memory.into_raw();
        assert_eq!(start.addr().get() % layout.align(), 0, "{layout:?} at {start:?}");
        let content = content(stamp, layout.size());
        // SAFETY: the memory has so many bytes, and is ours.
        unsafe { ptr::copy_nonoverlapping(content.as_ptr(), start.as_ptr(), content.len()) };
        Self { start, layout, stamp }
    }

    /// Where it begins and ends. What has no size has an address of its own all the same.
    fn span(&self) -> (usize, usize) {
        let start = self.start.addr().get();
        (start, start + self.layout.size().max(1))
    }

    fn check(&self) {
        let (len, stamp, layout) = (self.layout.size(), self.stamp, self.layout);
        let found = NonNull::slice_from_raw_parts(self.start, len);
        // SAFETY: the memory is ours, and `take` filled it.
        let found = unsafe { found.as_ref() };
        assert!(found == content(stamp, len), "{layout:?} number {stamp} holds {found:x?}");
    }

    fn give(self) {
        self.check();
        // SAFETY: `take` took it with this layout, and nobody else uses it.
        drop(unsafe { Memory::from_raw(self.start, self.layout) });
    }
}

/// All that is out.
#[derive(Default)]
struct Out {
    held: VecDeque<Held>,
    spans: BTreeMap<usize, usize>,
    taken: u64,
}

impl Out {
    /// More would only take longer.
    const MAX: usize = if cfg!(miri) { 40 } else { 3000 };

    fn take(&mut self, layout: Layout) {
        if self.held.len() == Self::MAX {
            return;
        }
        self.taken += 1;
        let held = Held::take(layout, self.taken);
        let (start, end) = held.span();
        if let Some((other, other_end)) = self.spans.range(..end).next_back() {
            assert!(*other_end <= start, "{start:#x} to {end:#x}, {other:#x} to {other_end:#x}");
        }
        self.spans.insert(start, end);
        self.held.push_back(held);
    }

    fn give(&mut self, which: Which, turn: usize) {
        let last = match self.held.len() {
            0 => return,
            len => len - 1,
        };
        let held = match which {
            Which::Newest => self.held.pop_back(),
            Which::Oldest => self.held.pop_front(),
            Which::Any(first) => self.held.swap_remove_back((first + turn * 7919) % (last + 1)),
        };
        let held = held.unwrap();
        self.spans.remove(&held.span().0);
        held.give();
    }
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Newest,
    Oldest,
    Any(usize),
}

#[derive(Clone, Debug)]
enum Op {
    Take(Index),
    Give(Which),
}

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    times: usize,
    /// On a thread that is new, and so of another shard as a rule.
    elsewhere: bool,
}

fn layout() -> impl Strategy<Value = Layout> {
    let size = prop_oneof![3 => 0_usize..=128, 3 => 129_usize..=1280, 1 => 1281_usize..=2000];
    let align = prop_oneof![2 => 0_u32..=3, 1 => 4_u32..=7];
    (size, align).prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).unwrap())
}

fn step() -> impl Strategy<Value = Step> {
    let which = prop_oneof![
        Just(Which::Newest),
        Just(Which::Oldest),
        (0_usize..10_000).prop_map(Which::Any),
    ];
    let op = prop_oneof![any::<Index>().prop_map(Op::Take), which.prop_map(Op::Give),];
    let times = prop_oneof![1_usize..4, 1_usize..600];
    let elsewhere = proptest::bool::weighted(0.3);
    (op, times, elsewhere).prop_map(|(op, times, elsewhere)| Step { op, times, elsewhere })
}

fn elsewhere(work: impl FnOnce() + Send) {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| resume_unwind(panic));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 80 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_out_overlaps_nothing_and_keeps_its_content(
        layouts in prop::collection::vec(layout(), 1..5),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut out = Out::default();
        for Step { op, times, elsewhere: is_elsewhere } in steps {
            let run = || for turn in 0..times {
                match op {
                    Op::Take(index) => out.take(*index.get(&layouts)),
                    Op::Give(which) => out.give(which, turn),
                }
            };
            if is_elsewhere { elsewhere(run) } else { ({ run })() }
        }
        while !out.held.is_empty() {
            out.give(Which::Any(5), 1);
        }
    }
}

/// More than there are shards, so that some share their shelves.
const THREADS: usize = 11;
const ROUNDS: u64 = if cfg!(miri) { 20 } else { 20_000 };

/// Takes, keeps some, gives some back, and passes the others on.
fn work(number: u64, inbox: &Receiver<Held>, next: Sender<Held>) {
    let sizes = [8, 40, 48, 200, 1280];
    let mut held = VecDeque::new();
    for round in 0..ROUNDS {
        let stamp = number * ROUNDS + round;
        let dice = stamp.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        let size = sizes[usize::try_from(dice).unwrap() % sizes.len()];
        held.push_back(Held::take(Layout::from_size_align(size, 8).unwrap(), stamp));
        held.extend(inbox.try_iter());
        // In waves, so that pages fill up and become empty.
        let rises = round % 2_000 < 1_000;
        for turn in 0..if rises { 1 } else { 3 } {
            match (dice / 8 + turn) % 4 {
                0 => held.pop_front().into_iter().for_each(Held::give),
                1 if !rises => held.pop_back().into_iter().for_each(Held::give),
                2 => held.pop_front().into_iter().for_each(|it| next.send(it).unwrap()),
                _ => {}
            }
        }
    }
    held.into_iter().for_each(Held::give);
    drop(next);
    inbox.iter().for_each(Held::give);
}

#[test]
fn threads_take_give_and_hand_over_at_once() {
    let (mut ends, inboxes): (VecDeque<_>, Vec<_>) = (0..THREADS).map(|_| channel()).unzip();
    ends.rotate_left(1);
    thread::scope(|scope| {
        for (number, (next, inbox)) in (0..).zip(ends.into_iter().zip(inboxes)) {
            // A neighbour that fails has closed its inbox; its panic is the one to see.
            scope.spawn(move || work(number, &inbox, next));
        }
    });
}

#[test]
fn no_less_is_spent_than_was_asked_for() {
    for align in [1, 2, 4, 8, 16, 32, 64, 128] {
        for size in 0..=2000 {
            let layout = Layout::from_size_align(size, align).unwrap();
            assert!(spent(layout) >= size, "{layout:?}: {}", spent(layout));
            let is_fine = align <= 8 && size <= 48 && cfg!(not(any(miri, palisade_plain_memory)));
            let more = if is_fine { 8 } else { 64 };
            assert!(spent(layout) <= size + more, "{layout:?}: {}", spent(layout));
        }
    }
}

/// Counts its drops, and panics then if it is to.
struct Counted(Arc<AtomicUsize>, bool);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.1, "a destructor that panics");
    }
}

fn counted() -> (impl Fn(bool) -> Counted, impl Fn() -> usize) {
    let drops = Arc::new(AtomicUsize::new(0));
    let make = {
        let drops = Arc::clone(&drops);
        move |panics| Counted(Arc::clone(&drops), panics)
    };
    (make, move || drops.load(Ordering::Relaxed))
}

#[test]
fn box_drops_its_content_once() {
    let (make, drops) = counted();
    let boxed = Boxed::new(make(false));
    assert_eq!(drops(), 0);
    drop(boxed);
    assert_eq!(drops(), 1);
    let raw = Boxed::leak(Boxed::new(make(false)));
    assert_eq!(drops(), 1, "whoever has the pointer answers for it");
    // SAFETY: the box gave the pointer away just now.
    drop(unsafe { Boxed::from_raw(raw) });
    assert_eq!(drops(), 2);
    let boxed = Boxed::new(make(false));
    elsewhere(move || drop(boxed));
    assert_eq!(drops(), 3);
}

#[test]
fn box_lends_what_it_holds() {
    let mut boxed = Boxed::new([1_u64, 2, 3]);
    boxed[1] = 20;
    assert_eq!((*boxed, format!("{boxed:?}")), ([1, 20, 3], "[1, 20, 3]".to_owned()));
    let place: *const [u64; 3] = &raw const *boxed;
    let raw = Boxed::leak(boxed);
    assert!(ptr::eq(raw.as_ptr(), place), "it does not move");
    // SAFETY: the box gave the pointer away just now.
    let boxed = unsafe { Boxed::from_raw(raw) };
    assert_eq!(*boxed, [1, 20, 3]);
}

#[test]
fn emptied_box_can_be_filled_again() {
    let (make, drops) = counted();
    let boxed = Boxed::new(make(false));
    let place: *const Counted = &raw const *boxed;
    let memory = Boxed::empty(boxed);
    assert_eq!((drops(), memory.layout()), (1, Layout::new::<Counted>()));
    let boxed = Boxed::fill(memory, || make(false));
    assert!(ptr::eq(place, &raw const *boxed), "the same memory");
    drop(boxed);
    assert_eq!(drops(), 2);
}

#[test]
fn destructor_that_panics_runs_once() {
    let (make, drops) = counted();
    let (one, other) = (Boxed::new(make(true)), Boxed::new(make(true)));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(one))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| Boxed::empty(other))).is_err());
    assert_eq!(drops(), 2);
}

#[test]
fn memory_of_another_layout_is_refused() {
    let (make, drops) = counted();
    let refuse = |layout| {
        let memory = Memory::take(layout);
        let filled = catch_unwind(AssertUnwindSafe(|| Boxed::fill(memory, || make(false))));
        assert!(filled.is_err(), "{layout:?}");
    };
    let size = size_of::<Counted>();
    refuse(Layout::new::<u8>());
    refuse(Layout::from_size_align(size, 1).unwrap());
    refuse(Layout::from_size_align(size + 1, align_of::<Counted>()).unwrap());
    refuse(Layout::from_size_align(size, 128).unwrap());
    assert_eq!(drops(), 0, "nothing is made for memory that does not fit");
}

#[test]
fn boxes_of_nothing_and_of_wide_alignment() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(align(128))]
    struct Wide(u64);
    #[repr(align(64))]
    struct Line([u8; 100]);
    #[repr(align(128))]
    struct WideNothing;
    struct Nothing;
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }

    let boxes: Vec<_> =
        (0..100).map(|n| (Boxed::new(Wide(n)), Boxed::new(Line([7; 100])))).collect();
    for (n, (wide, line)) in (0..).zip(&boxes) {
        let (wide_at, line_at) = (&raw const **wide, &raw const **line);
        assert_eq!((wide_at.addr() % 128, line_at.addr() % 64), (0, 0));
        assert_eq!((**wide, line.0), (Wide(n), [7; 100]));
    }
    let nothings: Vec<_> =
        (0..100).map(|_| (Boxed::new(Nothing), Boxed::new(WideNothing))).collect();
    assert!(nothings.iter().all(|(_, wide)| (&raw const **wide).addr() % 128 == 0));
    assert_eq!(DROPS.load(Ordering::Relaxed), 0);
    drop(nothings);
    assert_eq!(DROPS.load(Ordering::Relaxed), 100);
    drop(Boxed::empty(Boxed::new(Nothing)));
    assert_eq!(DROPS.load(Ordering::Relaxed), 101);
}

//! The running transactions, and how far back they look.
//!
//! ```text
//! chunk 0: [17 tracked] [free] [12] [20 tracked, committing] ..  ─► chunk 1 (twice as many) ─►
//! horizons: any = 12, tracked = 17
//! ```
//!
//! 1. A slot belongs to whoever moved it away from free, until that one frees it.
//! 2. A slot's time is at most its owner's snapshot.
//! 3. The clock read before a barrier and a scan is a lower bound for the snapshot of every slot
//!    that the scan found free: its owner reads the clock again after claiming the slot and a
//!    barrier.
//! 4. Published horizons never fall, and no snapshot, running or to come, lies below them.
//! 5. Whoever finds no slot committing after a heavy barrier has every commit behind it that did
//!    not see what was stored before the barrier (see `gate`).
//!
//! A slot is one cache line pair; a transaction writes only its own.

use super::footprint::{Kind, Tag};
use super::needed::Needed;
use crate::epoch::barrier::{even, heavy, light};
use crate::id::Timestamp;
use crate::sync::{Arc, AtomicU64, Mutex, OnceLock, Ordering, thread_shard};
use crossbeam_utils::CachePadded;
use std::time::Instant;

/// Names a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotId(usize);

/// What a slot says: free, or whose time it is and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const FREE: Self = Self(0);
    const CLAIMED: u64 = 1;
    const TRACKED: u64 = 2;
    const COMMITTING: u64 = 4;
    const DONE_READING: u64 = 8;
    /// The time is the owner's snapshot, and not only a bound of it.
    const EXACT: u64 = 16;
    const TAG_BITS: u32 = 5;

    fn new(kind: Kind, time: Timestamp) -> Self {
        const { assert!(Timestamp::BITS + Self::TAG_BITS <= u64::BITS) };
        let tracked = if kind == Kind::Tracked { Self::TRACKED } else { 0 };
        Self(time.get() << Self::TAG_BITS | tracked | Self::CLAIMED)
    }

    fn committing(self) -> Self {
        Self(self.0 | Self::COMMITTING | Self::DONE_READING)
    }

    fn done_reading(self) -> Self {
        Self(self.0 | Self::DONE_READING)
    }

    fn exact(self) -> Self {
        Self(self.0 | Self::EXACT)
    }

    fn is_exact(self) -> bool {
        self.0 & Self::EXACT != 0
    }

    fn is_done_reading(self) -> bool {
        self.0 & Self::DONE_READING != 0
    }

    fn is_committing(self) -> bool {
        self.0 & Self::COMMITTING != 0
    }

    fn is_tracked(self) -> bool {
        self.0 & Self::TRACKED != 0
    }

    fn time(self) -> Timestamp {
        Timestamp::from_raw(self.0 >> Self::TAG_BITS)
    }
}

#[derive(Debug)]
struct Slot {
    word: AtomicU64,
    /// Written by the owner after claiming and before freeing; read by statistics.
    tag: Mutex<Option<Tag>>,
}

impl Slot {
    fn new() -> Self {
        Self { word: AtomicU64::new(Word::FREE.0), tag: Mutex::new(None) }
    }

    fn claim(&self, word: Word) -> bool {
        // Relaxed: a guess that the exchange checks.
        if self.word.load(Ordering::Relaxed) != Word::FREE.0 {
            return false;
        }
        // Acquire: pairs with the Release in `set`; the slot's last owner is done with it.
        self.word
            .compare_exchange(Word::FREE.0, word.0, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// For the owner. Release: pairs with the Acquire in `word` and in `claim`; what the owner
    /// read, and what it stamped, comes before.
    fn set(&self, word: Word) {
        self.word.store(word.0, Ordering::Release);
    }

    fn word(&self) -> Word {
        // Acquire: pairs with the Release in `set`.
        Word(self.word.load(Ordering::Acquire))
    }
}

#[derive(Debug)]
struct Chunk {
    slots: Box<[CachePadded<Slot>]>,
    next: OnceLock<Box<Chunk>>,
}

impl Chunk {
    fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| CachePadded::new(Slot::new())).collect(),
            next: OnceLock::new(),
        }
    }
}

/// A claimed slot. Its owner gives it back through [`Registry::leave`].
#[derive(Debug)]
pub(crate) struct Entry {
    slot: SlotId,
    word: Word,
    tagged: bool,
}

impl Entry {
    /// The snapshot that the slot stands for, once it was raised to it.
    pub(crate) fn snapshot(&self) -> Timestamp {
        self.word.time()
    }
}

/// How far back the running transactions look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizons {
    /// No snapshot, running or to come, lies below this.
    pub(crate) any: Timestamp,
    /// Nobody who still reads versions, or will, has a snapshot below this. Not below `any`.
    pub(crate) readers: Timestamp,
    /// No transaction that will be certified has its snapshot below this.
    pub(crate) tracked: Timestamp,
}

/// The running transaction with the oldest snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Oldest {
    pub(crate) timestamp: Timestamp,
    pub(crate) label: Option<Arc<str>>,
    /// When it began, if it said so.
    pub(crate) since: Option<Instant>,
}

/// All running transactions of one database.
#[derive(Debug)]
pub(crate) struct Registry {
    first: Chunk,
    published_any: CachePadded<AtomicU64>,
    published_tracked: AtomicU64,
}

impl Registry {
    /// Starts with room for `slots`, and grows with need.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            first: Chunk::new(slots.max(1)),
            published_any: CachePadded::new(AtomicU64::new(0)),
            published_tracked: AtomicU64::new(0),
        }
    }

    /// Claims a slot. `clock` was read before; the owner reads it again afterwards, and that is
    /// its snapshot (keeps 2 and 3).
    pub(super) fn enter(&self, kind: Kind, clock: Timestamp, tag: Option<Tag>) -> Entry {
        let word = Word::new(kind, clock);
        let slot = self.claim(word);
        let tagged = tag.is_some();
        if tagged {
            *self.slot(slot).tag.lock() = tag;
        }
        even();
        Entry { slot, word, tagged }
    }

    fn claim(&self, word: Word) -> SlotId {
        let shard = thread_shard();
        let mut chunk = &self.first;
        let mut base = 0;
        loop {
            let len = chunk.slots.len();
            let start = shard % len;
            let found = (start..len)
                .chain(0..start)
                .find(|&at| chunk.slots.get(at).is_some_and(|slot| slot.claim(word)));
            if let Some(at) = found {
                return SlotId(base + at);
            }
            base += len;
            chunk = chunk.next.get_or_init(|| Box::new(Chunk::new(len * 2)));
        }
    }

    fn slot(&self, SlotId(mut at): SlotId) -> &Slot {
        let mut chunk = &self.first;
        loop {
            if let Some(slot) = chunk.slots.get(at) {
                return slot;
            }
            at -= chunk.slots.len();
            chunk = chunk.next.get().expect("a slot that was claimed exists");
        }
    }

    /// Raises the slot's time to the snapshot that its owner took.
    pub(super) fn raise(&self, entry: &mut Entry, snapshot: Timestamp) {
        let kind = if entry.word.is_tracked() { Kind::Tracked } else { Kind::Untracked };
        entry.word = Word::new(kind, snapshot).exact();
        self.slot(entry.slot).set(entry.word);
    }

    /// Shows that the owner is committing, to whoever closes the gate from now on.
    pub(super) fn show_committing(&self, entry: &Entry) {
        self.slot(entry.slot).set(entry.word.committing());
        light();
    }

    /// Takes that back.
    pub(super) fn hide_committing(&self, entry: &Entry) {
        self.slot(entry.slot).set(entry.word.done_reading());
    }

    /// Says that the owner will look at no version any more through its snapshot. Records, and the
    /// log, it still needs.
    pub(super) fn show_done_reading(&self, entry: &Entry) {
        self.slot(entry.slot).set(entry.word.done_reading());
    }

    #[expect(clippy::needless_pass_by_value, reason = "the right to the slot ends here")]
    /// Frees the slot. Nothing that its time protected is used after.
    pub(crate) fn leave(&self, entry: Entry) {
        let slot = self.slot(entry.slot);
        if entry.tagged {
            *slot.tag.lock() = None;
        }
        slot.set(Word::FREE);
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        std::iter::successors(Some(&self.first), |chunk| chunk.next.get().map(|next| &**next))
            .flat_map(|chunk| chunk.slots.iter().map(|slot| &**slot))
    }

    /// How far back anyone looks. Both clocks were read just before: the newest commit that a
    /// read-only snapshot shows, and the newest of all.
    pub(super) fn horizons(&self, visible: Timestamp, clock: Timestamp) -> Horizons {
        even();
        let newest = visible.min(clock);
        let mut horizons = Horizons { any: newest, readers: newest, tracked: newest };
        for word in self.slots().map(Slot::word).filter(|&word| word != Word::FREE) {
            horizons.any = horizons.any.min(word.time());
            if !word.is_done_reading() {
                horizons.readers = horizons.readers.min(word.time());
            }
            if word.is_tracked() {
                horizons.tracked = horizons.tracked.min(word.time());
            }
        }
        let any = Self::publish(&self.published_any, horizons.any);
        let tracked = Self::publish(&self.published_tracked, horizons.tracked);
        Horizons { any, readers: horizons.readers.max(any), tracked }
    }

    /// Which moments readers need. The clocks were read just before, as for
    /// [`horizons`](Self::horizons).
    pub(super) fn needed(&self, visible: Timestamp, clock: Timestamp) -> Needed {
        even();
        let mut needed = Needed::from(visible.min(clock));
        for word in self.slots().map(Slot::word).filter(|&word| word != Word::FREE) {
            match (word.is_done_reading(), word.is_exact()) {
                (true, _) => {}
                (false, true) => needed.at(word.time()),
                (false, false) => needed.at_least(word.time()),
            }
        }
        needed.sorted()
    }

    /// Keeps 4: a slot's time may lie below an older horizon, its owner's snapshot may not.
    fn publish(published: &AtomicU64, horizon: Timestamp) -> Timestamp {
        // AcqRel: pairs with itself and with the Acquire in `published`; whoever goes by a horizon
        // sees what those did who looked further back and have ended.
        let before = published.fetch_max(horizon.get(), Ordering::AcqRel);
        horizon.max(Timestamp::from_raw(before))
    }

    /// The horizons as they were computed last: as good as new, but for lagging behind.
    pub(crate) fn published(&self) -> Horizons {
        // Acquire: pairs with the Release in `publish`, before which the slots were read.
        let read = |horizon: &AtomicU64| Timestamp::from_raw(horizon.load(Ordering::Acquire));
        let any = read(&self.published_any);
        Horizons { any, readers: any, tracked: read(&self.published_tracked) }
    }

    /// Returns once every slot that was committing is not, or `give_up` says so (keeps 5).
    pub(super) fn drain(&self, mut give_up: impl FnMut() -> bool) {
        heavy();
        for slot in self.slots() {
            while slot.word().is_committing() {
                if give_up() {
                    return;
                }
            }
        }
    }

    /// The running transaction with the oldest snapshot.
    pub(crate) fn oldest(&self) -> Option<Oldest> {
        let (word, slot) = self
            .slots()
            .map(|slot| (slot.word(), slot))
            .filter(|&(word, _)| word != Word::FREE)
            .min_by_key(|(word, _)| word.time())?;
        let tag = slot.tag.lock().clone();
        Some(Oldest {
            timestamp: word.time(),
            since: tag.as_ref().map(|tag| tag.since),
            label: tag.and_then(|tag| tag.label),
        })
    }

    /// How many transactions are running.
    pub(crate) fn running(&self) -> usize {
        self.slots().filter(|slot| slot.word() != Word::FREE).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> Timestamp {
        Timestamp::from_raw(raw)
    }

    #[test]
    fn horizons_are_the_oldest_of_each_kind_and_never_fall() {
        let registry = Registry::new(1);
        let tracked = registry.enter(Kind::Tracked, at(7), None);
        let untracked = registry.enter(Kind::Untracked, at(5), None);
        assert_eq!(
            registry.horizons(at(9), at(9)),
            Horizons { any: at(5), readers: at(5), tracked: at(7) }
        );
        registry.leave(untracked);
        assert_eq!(
            registry.horizons(at(9), at(9)),
            Horizons { any: at(7), readers: at(7), tracked: at(7) }
        );
        registry.show_done_reading(&tracked);
        let horizons = Horizons { any: at(7), readers: at(9), tracked: at(7) };
        assert_eq!(registry.horizons(at(9), at(9)), horizons);
        registry.leave(tracked);
        assert_eq!(
            registry.horizons(at(9), at(9)),
            Horizons { any: at(9), readers: at(9), tracked: at(9) }
        );
        let stale = registry.enter(Kind::Tracked, at(8), None);
        assert_eq!(registry.horizons(at(10), at(10)).tracked, at(9), "its snapshot is at least 9");
        registry.leave(stale);
    }

    #[test]
    fn oldest_transaction_is_named_with_its_tag() {
        let registry = Registry::new(2);
        assert!(registry.oldest().is_none());
        let tag = Tag { label: Some("report".into()), since: Instant::now() };
        let young = registry.enter(Kind::Tracked, at(4), None);
        let old = registry.enter(Kind::Untracked, at(3), Some(tag));
        let oldest = registry.oldest().unwrap();
        assert_eq!((oldest.timestamp, oldest.label.as_deref()), (at(3), Some("report")));
        assert!(oldest.since.is_some());
        assert_eq!(registry.running(), 2);
        registry.leave(old);
        assert!(registry.oldest().unwrap().label.is_none());
        registry.leave(young);
        assert_eq!(registry.running(), 0);
    }
}

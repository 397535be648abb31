//! Entries by the tick of their last hit, in a window of ticks that moves with the clock.
//!
//! ```text
//! now-119       now-96                                  now      now+8
//!  [ floor .. carry ──► x ............................. x ][ hits by others ]
//! ```
//!
//! A heat holds the tick's low bits, so the order is a circle cut at the floor. An entry that a hit
//! has moved on is found at its old place and taken to its new one when the hand comes to it.
//!
//! The clock ticks 64 times while a victim waits after its last hit, so that ticks are neither so
//! rare that all entries seem equally old nor so frequent that the window is too short for them.
//!
//! 1. Entries that the floor comes near to are carried up in order, a few at each admission. Should
//!    the floor overtake one, it counts as new: it stays too long, and nothing else is wrong.
//!
//! Used by `recency` and `adaptive`.

use super::clock::Clock;
use super::levels::{LEVELS_MAX, Levels};
use super::resident::{Resident, Slot};

/// The bits of a heat that hold the tick.
const TICK: u8 = LEVELS_MAX - 1;
/// How far behind now the floor is.
const PAST: u8 = 119;
/// Entries older than this are carried up.
const OLD: u8 = 96;
/// So many at each admission: all of them in 8 ticks, of the 23 that there are for it.
const CARRIED: usize = 8;
/// Of so many ticks an entry is to be old when it leaves.
const SPAN: u64 = 64;
/// The mean age of victims follows each by this part.
const LEARNT: u64 = 64;

/// The low bits of a time.
#[inline]
pub(super) fn tick_of(now: u64) -> u8 {
    u8::try_from(now & u64::from(TICK)).expect("the tick's bits fit")
}

#[derive(Debug)]
pub(super) struct Generations<R> {
    levels: Levels<R>,
    /// Admissions to this shard.
    admitted: u64,
    /// How many of them there were at the last tick.
    ticked: u64,
    /// The tick whose level is the last that has begun.
    followed: u64,
    /// How many admissions there were when each level began.
    began: Vec<u64>,
    /// Admissions since a victim's last hit, on average.
    age: Option<u64>,
    /// The level to which entries are being carried.
    target: Option<u8>,
    /// Whether it moves the clock, which is for one shard of a keeper.
    leads: bool,
}

fn floor(now: u64) -> u8 {
    tick_of(now).wrapping_sub(PAST) & TICK
}

/// Ticks from the floor to `tick`.
fn height(tick: u8, now: u64) -> u8 {
    tick.wrapping_sub(floor(now)) & TICK
}

/// Whether an entry with this heat was hit since it was put at `place`.
pub(super) fn is_newer(heat: u8, place: u8, now: u64) -> bool {
    height(heat & TICK, now) > height(place, now)
}

impl<R: Resident> Generations<R> {
    pub(super) fn new(leads: bool) -> Self {
        Self {
            levels: Levels::new(LEVELS_MAX),
            admitted: 0,
            ticked: 0,
            followed: 0,
            began: vec![0; LEVELS_MAX.into()],
            age: None,
            target: None,
            leads,
        }
    }

    pub(super) fn levels(&self) -> &Levels<R> {
        &self.levels
    }

    pub(super) fn levels_mut(&mut self) -> &mut Levels<R> {
        &mut self.levels
    }

    /// Puts an entry at the place of its heat.
    pub(super) fn push(&mut self, heat: u8, slot: Slot<R>) {
        self.levels.push_back(heat & TICK, slot);
    }

    /// Takes out the entry that has been longest at its place, and names the place.
    pub(super) fn pop(&mut self, now: u64) -> Option<(Slot<R>, u8)> {
        let oldest = self.levels.lowest(floor(now))?;
        self.levels.pop_front(oldest).map(|slot| (slot, oldest))
    }

    /// Learns from a victim that was taken from `place`, and was not hit since it was put there.
    pub(super) fn learn(&mut self, place: u8) {
        let began = self.began.get(usize::from(place)).copied().unwrap_or(self.admitted);
        let age = self.admitted - began;
        self.age =
            Some(self.age.map_or(age, |mean| mean - mean.div_ceil(LEARNT) + age.div_ceil(LEARNT)));
    }

    /// Counts an admission: the clock may tick, and old entries are carried up. `flags` are the
    /// bits of a heat that are not the tick's. While nothing had to go yet, the oldest of `entries`
    /// has seen as many come.
    pub(super) fn count(&mut self, clock: &Clock, flags: u8, entries: usize) {
        self.admitted += 1;
        let period = self.age.unwrap_or(entries as u64) / SPAN;
        if self.leads && self.admitted - self.ticked >= period {
            clock.tick();
            self.ticked = self.admitted;
        }
        let now = clock.now();
        self.follow(now);
        self.carry(now, flags);
    }

    /// Begins the levels of the ticks since the last admission to this shard.
    fn follow(&mut self, now: u64) {
        let missed = now.saturating_sub(self.followed).min(LEVELS_MAX.into());
        for tick in now - missed..now {
            self.begin(tick_of(tick + 1), self.admitted);
        }
        self.followed = now.max(self.followed);
    }

    fn begin(&mut self, level: u8, admitted: u64) {
        if let Some(began) = self.began.get_mut(usize::from(level)) {
            *began = admitted;
        }
    }

    /// Keeps 1. What is carried goes before what is there: the youngest first, and the last first.
    fn carry(&mut self, now: u64, flags: u8) {
        // A target stays until all below it has come, or the floor has.
        let in_reach = |target: &u8| (1..=PAST - OLD).contains(&height(*target, now));
        let target = self.target.filter(in_reach).unwrap_or(tick_of(now).wrapping_sub(OLD) & TICK);
        for _ in 0..CARRIED {
            let level = self.levels.highest(floor(now), height(target, now));
            self.target = level.map(|_| target);
            let Some(level) = level else { return };
            let Some(slot) = self.levels.pop_back(level) else { return };
            let heat = slot.resident.heat().unwrap_or(level);
            if is_newer(heat, target, now) {
                self.push(heat, slot);
            } else {
                slot.resident.set_heat(target | flags);
                self.levels.push_front(target, slot);
                let began = self.began.get(usize::from(level)).copied().unwrap_or(0);
                self.begin(target, began);
            }
        }
    }
}

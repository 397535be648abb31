//! Random transaction programs: steps of several transactions, each step one operation.
//!
//! Every sequence of steps is a valid program: a driver opens a slot at its first step and
//! ignores a step that does not fit. So programs shrink by leaving steps out.

use super::rng::Rng;
use super::store::{Key, Level, Scan};

/// Transactions open at once, at most.
pub(crate) const SLOTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ReadWrite(Level),
    /// A declared read-only snapshot.
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Begin(Kind),
    Get(Key),
    Contains(Key),
    Peek(Key),
    GetForUpdate(Key),
    Scan(Scan),
    /// The first or last entry, read or taken away.
    End {
        last: bool,
        pop: bool,
    },
    Len,
    Insert(Key),
    InsertIfAbsent(Key),
    Update(Key),
    Remove(Key),
    RemoveRange(Key, Key),
    Savepoint(u8),
    RollBackTo(u8),
    Commit,
    RollBack,
    Vacuum,
    /// An entry is made to leave.
    Evict(Key),
    /// Room is taken up by others.
    Press,
    /// One key read outside of all transactions.
    Look(Key),
}

impl Action {
    /// Is this an operation of read-only snapshots too?
    pub(crate) fn reads_only(self) -> bool {
        matches!(
            self,
            Self::Get(_)
                | Self::Contains(_)
                | Self::Scan(_)
                | Self::End { pop: false, .. }
                | Self::Len
        )
    }

    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Insert(_)
                | Self::InsertIfAbsent(_)
                | Self::Update(_)
                | Self::Remove(_)
                | Self::RemoveRange(..)
                | Self::End { pop: true, .. }
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    pub(crate) slot: u8,
    pub(crate) action: Action,
}

/// What programs look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    /// The level of read-write transactions.
    pub(crate) level: Level,
    /// Share of read-write transactions that run at the other level, in percent.
    pub(crate) other_level: u32,
    /// Share of declared read-only snapshots, in percent.
    pub(crate) read_only: u32,
    /// Operations in a transaction, at most.
    pub(crate) operations: usize,
    /// Steps after which something is done to make entries leave, in percent.
    pub(crate) departures: u32,
}

impl Profile {
    pub(crate) const fn at(level: Level) -> Self {
        Self { level, other_level: 0, read_only: 8, operations: 5, departures: 0 }
    }

    pub(crate) fn kind(self, rng: &mut Rng) -> Kind {
        if rng.percent(self.read_only) {
            return Kind::ReadOnly;
        }
        let other = match self.level {
            Level::Serializable => Level::Snapshot,
            Level::Snapshot => Level::Serializable,
        };
        Kind::ReadWrite(if rng.percent(self.other_level) { other } else { self.level })
    }
}

/// A window of the keys, so that a program fights over few of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) first: Key,
    pub(crate) keys: u8,
}

impl Window {
    pub(crate) fn tight(rng: &mut Rng) -> Self {
        let keys = 2 + rng.small(3);
        Self { first: rng.small(9 - usize::from(keys)), keys }
    }

    pub(crate) fn key(self, rng: &mut Rng) -> Key {
        self.first + rng.small(usize::from(self.keys))
    }

    fn interval(self, rng: &mut Rng) -> (Key, Key) {
        let one = self.first + rng.small(usize::from(self.keys) + 1);
        let other = self.first + rng.small(usize::from(self.keys) + 1);
        (one.min(other), one.max(other))
    }
}

/// One random operation of a read-write transaction.
pub(crate) fn operation(rng: &mut Rng, window: Window) -> Action {
    let key = window.key(rng);
    match rng.below(100) {
        0..24 => Action::Get(key),
        24..48 => Action::Insert(key),
        48..58 => Action::Remove(key),
        58..68 => Action::Scan(scan(rng, window)),
        68..72 => Action::InsertIfAbsent(key),
        72..77 => Action::Update(key),
        77..80 => Action::Contains(key),
        80..83 => Action::Peek(key),
        83..86 => Action::GetForUpdate(key),
        86..89 => {
            let (lo, hi) = window.interval(rng);
            Action::RemoveRange(lo, hi)
        }
        89..91 => Action::End { last: rng.percent(50), pop: rng.percent(50) },
        91 => Action::Len,
        92..96 => Action::Savepoint(rng.small(2)),
        _ => Action::RollBackTo(rng.small(2)),
    }
}

/// Something that makes entries leave.
pub(crate) fn departure(rng: &mut Rng, window: Window) -> Action {
    match rng.below(8) {
        0..3 => Action::Evict(window.key(rng)),
        3 => Action::Press,
        _ => Action::Vacuum,
    }
}

/// One random operation of a read-only snapshot.
pub(crate) fn read(rng: &mut Rng, window: Window) -> Action {
    let key = window.key(rng);
    match rng.below(10) {
        0..4 => Action::Get(key),
        4..8 => Action::Scan(scan(rng, window)),
        8 => Action::End { last: rng.percent(50), pop: false },
        _ => Action::Contains(key),
    }
}

fn scan(rng: &mut Rng, window: Window) -> Scan {
    let prefix = rng.percent(25);
    let (lo, hi) = match prefix {
        // The intervals that the names of the engine's keys make prefixes of.
        true => [(0, 3), (3, 7), (5, 7), (7, 8)][usize::from(rng.small(4))],
        false => window.interval(rng),
    };
    let (front, back) = match rng.below(6) {
        0 | 1 => (Scan::ALL, 0),
        2 => (0, Scan::ALL),
        3 => (1 + rng.small(2), 0),
        4 => (0, 1 + rng.small(2)),
        _ => (rng.small(3), rng.small(3)),
    };
    Scan { lo, hi, front, back, prefix }
}

/// Appends one random history: two to four transactions whose steps interleave, each ended.
pub(crate) fn history(rng: &mut Rng, profile: Profile, steps: &mut Vec<Step>) {
    let window = Window::tight(rng);
    let count = 2 + rng.small(SLOTS - 1);
    let mut left = [0_u8; SLOTS];
    let mut read_only = [false; SLOTS];
    for slot in 0..count {
        let at = usize::from(slot);
        let kind = profile.kind(rng);
        read_only[at] = kind == Kind::ReadOnly;
        left[at] = 2 + rng.small(profile.operations);
        // Most begin together; the others begin with their first operation, some of them after
        // another has ended.
        if rng.percent(60) {
            steps.push(Step { slot, action: Action::Begin(kind) });
        } else {
            left[at] |= 1 << 7;
        }
    }
    let mut live: u8 = count;
    while live > 0 {
        let mut slot = rng.small(usize::from(count));
        while left[usize::from(slot)] == 0 {
            slot = (slot + 1) % count;
        }
        let at = usize::from(slot);
        if left[at] & (1 << 7) != 0 {
            left[at] &= !(1 << 7);
            let kind = match read_only[at] {
                true => Kind::ReadOnly,
                false => Profile { read_only: 0, ..profile }.kind(rng),
            };
            steps.push(Step { slot, action: Action::Begin(kind) });
        }
        left[at] -= 1;
        let action = match left[at] {
            0 if rng.percent(6) => Action::RollBack,
            0 => Action::Commit,
            _ if read_only[at] => read(rng, window),
            _ => operation(rng, window),
        };
        live -= u8::from(left[at] == 0);
        steps.push(Step { slot, action });
        match rng.below(64) {
            0 => steps.push(Step { slot, action: Action::Vacuum }),
            1 => steps.push(Step { slot, action: Action::Look(window.key(rng)) }),
            _ => {}
        }
        if profile.departures > 0 && rng.percent(profile.departures) {
            steps.push(Step { slot, action: departure(rng, window) });
        }
    }
}

//! What it may look like when entries leave a cache by themselves, and nothing more.
//!
//! ```text
//! evicted   written .. | leaves | ..        who began before the moment reads the value,
//!                                           who began after it reads nothing
//! expired   written .. |   age of the time to live   |   each reader asks once per bucket
//! ```
//!
//! 1. An eviction is told of (`Store::departed`) before the call that made it returns. On one
//!    thread it is then a removal by nobody: what each reader must see is known exactly.
//! 2. With many threads, what was told of may be missed by who began after it left. One version
//!    leaves once: who saw it has an older snapshot than who missed it; and the commit that wrote
//!    it is older than the snapshot of who missed it.
//! 3. An entry with a time to live is missed from a thousandth before its time at the earliest,
//!    and read until its time at the latest. In one bucket a reader asks once: what it misses was
//!    committed before all that it sees.
//! 4. Once a version was missed, whoever begins later misses it too.
//!
//! A miss is a read of the key all the same: the next write of the key comes after the reader.
//! About the writer of what was missed it says nothing.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::store::{ABSENT, KEYS, Key, State, Violation, bit, keys, mask, violation};

/// How entries leave a store by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Entries are evicted.
    pub(crate) evicts: bool,
    /// Entries expire.
    pub(crate) ttl: Option<Duration>,
    /// The first key of the second bucket.
    pub(crate) cut: Key,
}

impl Leaving {
    pub(crate) fn never(self) -> bool {
        !self.evicts && self.ttl.is_none()
    }

    /// The keys of the two buckets.
    fn buckets(self) -> [u8; 2] {
        [mask(0, self.cut), mask(self.cut, 8)]
    }
}

/// The values of entries that left during a history or a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departures {
    pub(crate) leaving: Leaving,
    pub(crate) told: HashSet<u64>,
}

impl Departures {
    pub(crate) fn of(leaving: Leaving) -> Self {
        Self { leaving, told: HashSet::new() }
    }

    /// May somebody have found nothing where this was the newest value?
    pub(crate) fn may_miss(&self, value: u64) -> bool {
        value != ABSENT && (self.leaving.ttl.is_some() || self.told.contains(&value))
    }

    /// Rule 3 for what one reader saw in each bucket: when the versions that it missed and those
    /// that it saw were committed.
    pub(crate) fn check_one_moment(
        &self,
        missed: &[(Key, u64)],
        seen: &[(Key, u64)],
    ) -> Result<(), Violation> {
        // Who was evicted need not be the oldest.
        if self.leaving.evicts {
            return Ok(());
        }
        for bucket in self.leaving.buckets() {
            let inside = |entry: &&(Key, u64)| bucket & bit(entry.0) != 0;
            let missed = missed.iter().filter(inside).max_by_key(|entry| entry.1);
            let seen = seen.iter().filter(inside).min_by_key(|entry| entry.1);
            if let (Some(missed), Some(seen)) = (missed, seen)
                && missed.1 > seen.1
            {
                let detail = format!("key {} at {} not seen, {seen:?} seen", missed.0, missed.1);
                return violation("expired before an older one", detail);
            }
        }
        Ok(())
    }
}

/// What a reader that begins now finds, on one thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) values: State,
    pub(crate) commits: [u64; KEYS],
    /// When the calls that wrote the values began and ended. Kept only if there is a time to live.
    written: [Option<(Instant, Instant)>; KEYS],
}

impl Base {
    pub(crate) fn new() -> Self {
        Self { values: [ABSENT; KEYS], commits: [0; KEYS], written: [None; KEYS] }
    }

    pub(crate) fn write(&mut self, key: Key, value: u64, commit: u64, since: Option<Instant>) {
        let at = usize::from(key);
        self.values[at] = value;
        self.commits[at] = commit;
        self.written[at] = since.map(|since| (since, Instant::now()));
    }

    /// Rules 1 and 3: `seen` is what is here, or has expired for who asked after `begun` and
    /// before now. Answers which keys had expired.
    pub(crate) fn check(
        &self,
        departures: &Departures,
        (seen, known): (&State, u8),
        begun: Option<Instant>,
    ) -> Result<u8, Violation> {
        let now = begun.map(|_| Instant::now());
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for key in keys(known) {
            let at = usize::from(key);
            let (found, due) = (seen[at], self.values[at]);
            if due == ABSENT && found == ABSENT {
                continue;
            }
            let age = self.age(at, departures.leaving, begun, now);
            if found == ABSENT && age.may_be_over {
                gone.push((key, self.commits[at]));
            } else if found != due {
                return not_read(key, found, due);
            } else if age.is_over {
                return violation("expired and read", format!("key {key}: {found}"));
            } else {
                there.push((key, self.commits[at]));
            }
        }
        departures.check_one_moment(&gone, &there)?;
        Ok(gone.iter().fold(0, |set, entry| set | bit(entry.0)))
    }

    fn age(&self, at: usize, by: Leaving, begun: Option<Instant>, now: Option<Instant>) -> Age {
        let (Some(ttl), Some((from, to))) = (by.ttl, self.written[at]) else { return Age::ANY };
        let (Some(begun), Some(now)) = (begun, now) else { return Age::ANY };
        Age {
            may_be_over: now.duration_since(from) >= ttl.saturating_sub(ttl / 1000),
            is_over: begun.saturating_duration_since(to) >= ttl,
        }
    }
}

/// What may be said of the age of an entry without knowing when exactly somebody asked.
struct Age {
    may_be_over: bool,
    is_over: bool,
}

impl Age {
    const ANY: Self = Self { may_be_over: false, is_over: false };
}

fn not_read<T>(key: Key, found: u64, due: u64) -> Result<T, Violation> {
    let shown = |value| if value == ABSENT { "nothing".into() } else { format!("{value}") };
    let (found, due) = (shown(found), shown(due));
    violation("snapshot not read", format!("key {key} read as {found}, was {due}"))
}

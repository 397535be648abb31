//! A slow store that is right, and the bugs it can be given to see whether the judges notice.
//!
//! One mutex, all versions of all keys, and at commit an exact search for a cycle in the graph
//! of everything committed since nothing was open. A snapshot that is declared read-only leaves
//! its timestamp, and a commit that could close a cycle through it is refused. An entry that is
//! evicted gets a version without a value, which is no transaction's and rivals none.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::leaving::Leaving;
use super::store::{ABSENT, Abort, KEYS, Key, Level, Reader, Scan, State, Store, Transaction};
use super::store::{Yield, bit, keys, mask};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A scan shows what was committed instead of what the transaction wrote.
    OwnWriteLost,
    /// Reading a key without a value leaves no trace.
    AbsentReadUntracked,
    /// A scan tracks the keys it yields, not the interval.
    RangeUntracked,
    /// Half of the keys are read as of one commit earlier.
    SnapshotTorn,
    /// Only direct conflicts back and forth are found, no longer cycles.
    EdgeDropped,
    /// The lock is let go between the decision and the publication.
    ValidationNotAtomic,
    /// The last of two writers of one key wins.
    FirstCommitterMissing,
    /// A transaction may begin one commit in the past.
    SnapshotStale,
    /// Serializable, but in an order that real time contradicts.
    RealTimeIgnored,
    /// Vacuum keeps the newest version only.
    VacuumTooEager,
    /// Rolling back to a savepoint forgets the reads made since.
    SavepointForgetsReads,
    /// Commits pay no heed to read-only snapshots.
    ReadOnlyIgnored,
    /// A refused commit leaves its writes in place.
    AbortedVisible,
    /// Every read that is no longer current aborts.
    FalseAborts,
    /// What is evicted is lost to older snapshots, too.
    EvictionInPlace,
    /// Of what is evicted nobody is told.
    EvictionUntold,
    /// Who writes what was evicted is not compared with its writer.
    EvictionHidesWriter,
    /// An eviction is a rival to who writes the key.
    EvictionRefusesWriters,
    /// An eviction is a write to who read the key.
    EvictionRefusesReaders,
    /// What was evicted comes back when the next entry is evicted.
    EvictionUndone,
}

struct Version {
    timestamp: u64,
    value: u64,
    /// When what was evicted was written, if this stands for its absence.
    over: Option<u64>,
}

#[derive(Clone, Copy)]
struct Committed {
    snapshot: u64,
    timestamp: u64,
    reads: u8,
    writes: u8,
    level: Level,
}

#[derive(Default)]
struct Inner {
    clock: u64,
    chains: [Vec<Version>; KEYS],
    log: Vec<Committed>,
    open: usize,
    /// The newest snapshot that was declared read-only.
    shown: Option<u64>,
    /// Values of entries that left, of which nobody was told yet.
    departed: Vec<u64>,
}

pub(crate) struct Reference {
    inner: Mutex<Inner>,
    bug: Bug,
}

#[derive(Clone, Default)]
struct Workspace {
    values: State,
    written: u8,
    reads: u8,
    locks: u8,
    savepoints: Vec<(u8, State, u8, u8)>,
}

pub(crate) struct Txn<'s> {
    store: &'s Reference,
    snapshot: u64,
    level: Option<Level>,
    work: RefCell<Workspace>,
}

impl Reference {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { inner: Mutex::default(), bug }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, level: Option<Level>) -> Txn<'_> {
        let mut inner = self.lock();
        inner.open += 1;
        let mut snapshot = inner.clock;
        match level {
            None => inner.shown = Some(snapshot),
            Some(_) if self.bug == Bug::SnapshotStale => snapshot -= u64::from(snapshot % 2 == 1),
            Some(_) => {}
        }
        Txn { store: self, snapshot, level, work: RefCell::default() }
    }
}

impl Inner {
    fn at(&self, key: Key, snapshot: u64) -> u64 {
        let chain = &self.chains[usize::from(key)];
        let visible = chain.iter().rev().find(|version| version.timestamp <= snapshot);
        visible.map_or(ABSENT, |version| version.value)
    }

    fn publish(&mut self, values: &State, written: u8, timestamp: u64) {
        for key in keys(written) {
            let value = values[usize::from(key)];
            self.chains[usize::from(key)].push(Version { timestamp, value, over: None });
        }
    }

    /// When the newest version was written that a writer of `key` is compared with.
    fn written(&self, key: Key, bug: Bug) -> u64 {
        let Some(newest) = self.chains[usize::from(key)].last() else { return 0 };
        match newest.over {
            Some(_) if bug == Bug::EvictionHidesWriter => 0,
            Some(over) if bug != Bug::EvictionRefusesWriters => over,
            _ => newest.timestamp,
        }
    }

    fn evict(&mut self, key: Key, bug: Bug) {
        if bug == Bug::EvictionUndone {
            for chain in &mut self.chains {
                chain.pop_if(|newest| newest.over.is_some());
            }
        }
        let Some(newest) = self.chains[usize::from(key)].last_mut() else { return };
        let (value, over) = (newest.value, newest.timestamp);
        if value == ABSENT {
            return;
        }
        if bug == Bug::EvictionInPlace {
            newest.value = ABSENT;
        }
        self.clock += 1;
        let (timestamp, writes) = (self.clock, bit(key));
        let left = Version { timestamp, value: ABSENT, over: Some(over) };
        self.chains[usize::from(key)].push(left);
        if bug == Bug::EvictionRefusesReaders {
            let (snapshot, reads, level) = (timestamp - 1, 0, Level::Serializable);
            self.log.push(Committed { snapshot, timestamp, reads, writes, level });
        }
        if bug != Bug::EvictionUntold {
            self.departed.push(value);
        }
    }

    /// May `txn` commit now? Searches the graph from what `txn` must precede.
    fn certify(&self, txn: &Committed, bug: Bug) -> Result<(), Abort> {
        let conflict = |from: &Committed, to: &Committed| {
            from.reads & to.writes != 0
                && from.snapshot < to.timestamp
                && from.level == Level::Serializable
        };
        let depends = |from: &Committed, to: &Committed| {
            from.timestamp <= to.snapshot
                && (bug != Bug::RealTimeIgnored || (from.writes & (to.reads | to.writes)) != 0)
        };
        let mut reached: Vec<bool> = self.log.iter().map(|node| conflict(txn, node)).collect();
        if reached.iter().any(|&stale| stale) && bug == Bug::FalseAborts {
            return Err(Abort::Cycle);
        }
        let mut open: Vec<usize> = (0..reached.len()).filter(|&at| reached[at]).collect();
        while let Some(from) = open.pop().filter(|_| bug != Bug::EdgeDropped) {
            for (at, to) in self.log.iter().enumerate() {
                if !reached[at] && (conflict(&self.log[from], to) || depends(&self.log[from], to)) {
                    reached[at] = true;
                    open.push(at);
                }
            }
        }
        let nodes = || self.log.iter().zip(&reached).filter(|(_, reached)| **reached);
        if nodes().any(|(node, _)| depends(node, txn) || conflict(node, txn)) {
            return Err(Abort::Cycle);
        }
        let oldest = nodes().map(|(node, _)| node.timestamp).min();
        match (oldest, self.shown) {
            (Some(oldest), Some(shown))
                if oldest <= shown && txn.writes != 0 && bug != Bug::ReadOnlyIgnored =>
            {
                Err(Abort::ReadOnlyPivot)
            }
            _ => Ok(()),
        }
    }
}

impl Txn<'_> {
    fn value(&self, key: Key) -> u64 {
        let torn = self.store.bug == Bug::SnapshotTorn && key % 2 == 1;
        self.store.lock().at(key, self.snapshot.saturating_sub(u64::from(torn)))
    }

    fn track(&self, set: u8) {
        self.work.borrow_mut().reads |= set;
    }

    fn look(&self, key: Key) -> u64 {
        let work = self.work.borrow();
        match work.written & bit(key) {
            0 => self.value(key),
            _ => work.values[usize::from(key)],
        }
    }

    fn read(&self, key: Key) -> u64 {
        let value = self.look(key);
        let own = self.work.borrow().written & bit(key) != 0;
        if !own && (value != ABSENT || self.store.bug != Bug::AbsentReadUntracked) {
            self.track(bit(key));
        }
        value
    }

    fn write(&self, key: Key, value: u64) -> u64 {
        let before = self.read(key);
        if before == ABSENT && value == ABSENT {
            return before;
        }
        let mut work = self.work.borrow_mut();
        work.values[usize::from(key)] = value;
        work.written |= bit(key);
        before
    }

    fn finish(&self) -> Result<u64, Abort> {
        let work = self.work.take();
        let bug = self.store.bug;
        let mut inner = self.store.lock();
        let idle = keys(work.written)
            .filter(|&key| work.values[usize::from(key)] == ABSENT)
            .filter(|&key| inner.at(key, self.snapshot) == ABSENT)
            .fold(0, |set, key| set | bit(key));
        let written = work.written & !idle;
        let level = self.level.expect("a snapshot does not commit");
        let mut txn = Committed {
            snapshot: self.snapshot,
            timestamp: u64::MAX,
            reads: work.reads,
            writes: written,
            level,
        };
        let newer = |key: Key| inner.written(key, bug) > self.snapshot;
        let mut verdict = Ok(());
        if keys(written | work.locks).any(newer) && bug != Bug::FirstCommitterMissing {
            verdict = Err(Abort::WriteWrite);
        } else if level == Level::Serializable {
            verdict = inner.certify(&txn, bug);
        }
        if bug == Bug::ValidationNotAtomic {
            drop(inner);
            std::thread::yield_now();
            inner = self.store.lock();
        }
        if verdict.is_ok() || bug == Bug::AbortedVisible {
            let timestamp = inner.clock + 1;
            inner.publish(&work.values, written, timestamp);
            inner.clock = timestamp;
            txn.timestamp = timestamp;
            inner.log.push(txn);
        }
        verdict.map(|()| txn.timestamp)
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        inner.open -= 1;
        if inner.open == 0 {
            inner.log.clear();
            inner.shown = None;
            for chain in &mut inner.chains {
                chain.drain(..chain.len().saturating_sub(2));
            }
        }
    }
}

impl Reader for Txn<'_> {
    fn snapshot_timestamp(&self) -> u64 {
        self.snapshot
    }

    fn get(&self, key: Key) -> Result<u64, Abort> {
        Ok(self.read(key))
    }

    fn contains(&self, key: Key) -> Result<bool, Abort> {
        Ok(self.read(key) != ABSENT)
    }

    fn scan(&self, scan: Scan) -> Result<Yield, Abort> {
        let lost = self.store.bug == Bug::OwnWriteLost;
        let value = |key| if lost { self.value(key) } else { self.look(key) };
        let entries = (scan.lo..scan.hi).map(|key| (key, value(key)));
        let found = Yield::collect(scan, entries.filter(|(_, value)| *value != ABSENT));
        let yielded =
            found.front.iter().chain(&found.back).fold(0, |set, (key, _)| set | bit(*key));
        let front = found.front.last().map_or(scan.lo, |(key, _)| key + 1);
        let back = found.back.last().map_or(scan.hi, |(key, _)| *key);
        self.track(match found.ended {
            _ if self.store.bug == Bug::RangeUntracked => yielded,
            true => mask(scan.lo, scan.hi),
            false => mask(scan.lo, front) | mask(back, scan.hi),
        });
        Ok(found)
    }

    fn end(&self, last: bool) -> Result<Option<(Key, u64)>, Abort> {
        let (front, back) = if last { (0, 1) } else { (1, 0) };
        let found = self.scan(Scan { lo: 0, hi: 8, front, back, prefix: false })?;
        Ok(found.front.first().or(found.back.first()).copied())
    }

    fn len(&self) -> Result<usize, Abort> {
        self.scan(Scan::over(0, 8)).map(|found| found.front.len())
    }
}

impl Transaction for Txn<'_> {
    fn peek(&self, key: Key) -> Result<u64, Abort> {
        Ok(self.look(key))
    }

    fn get_for_update(&self, key: Key) -> Result<u64, Abort> {
        self.work.borrow_mut().locks |= bit(key);
        Ok(self.read(key))
    }

    fn insert(&self, key: Key, value: u64) -> Result<u64, Abort> {
        Ok(self.write(key, value))
    }

    fn update(&self, key: Key, value: u64) -> Result<u64, Abort> {
        Ok(self.write(key, value))
    }

    fn remove(&self, key: Key) -> Result<u64, Abort> {
        Ok(self.write(key, ABSENT))
    }

    fn insert_if_absent(&self, key: Key, value: u64) -> Result<bool, Abort> {
        let absent = self.read(key) == ABSENT;
        if absent {
            self.write(key, value);
        }
        Ok(absent)
    }

    fn remove_range(&self, lo: Key, hi: Key) -> Result<usize, Abort> {
        let found = self.scan(Scan::over(lo, hi))?;
        for (key, _) in &found.front {
            self.write(*key, ABSENT);
        }
        Ok(found.front.len())
    }

    fn pop(&self, last: bool) -> Result<Option<(Key, u64)>, Abort> {
        let found = self.end(last)?;
        if let Some((key, _)) = found {
            self.write(key, ABSENT);
        }
        Ok(found)
    }

    fn savepoint(&self, name: u8) {
        let mut work = self.work.borrow_mut();
        let saved = (name, work.values, work.written, work.reads);
        work.savepoints.push(saved);
    }

    fn roll_back_to(&self, name: u8) {
        let mut work = self.work.borrow_mut();
        let at = work.savepoints.iter().rposition(|saved| saved.0 == name);
        let at = at.expect("the savepoint was made");
        let (_, values, written, reads) = work.savepoints[at];
        work.savepoints.truncate(at + 1);
        work.values = values;
        work.written = written;
        if self.store.bug == Bug::SavepointForgetsReads {
            work.reads = reads;
        }
    }

    fn commit(self) -> Result<u64, Abort> {
        self.finish()
    }

    fn roll_back(self) {}
}

impl Store for Reference {
    type Txn<'s> = Txn<'s>;
    type Snap<'s> = Txn<'s>;

    fn begin(&self, level: Level) -> Txn<'_> {
        self.open(Some(level))
    }

    fn snapshot(&self) -> Txn<'_> {
        self.open(None)
    }

    fn look(&self, key: Key) -> u64 {
        let mut inner = self.lock();
        inner.shown = Some(inner.clock);
        inner.at(key, inner.clock)
    }

    fn vacuum(&self) {
        if self.bug == Bug::VacuumTooEager {
            for chain in &mut self.lock().chains {
                chain.drain(..chain.len().saturating_sub(1));
            }
        }
    }

    fn leaving(&self) -> Leaving {
        Leaving { evicts: true, ..Leaving::default() }
    }

    fn departed(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().departed)
    }

    fn evict(&self, key: Key) {
        self.lock().evict(key, self.bug);
    }
}

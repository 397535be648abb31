//! A probe drives one transaction and keeps what it saw: the first observation of each key, the
//! transaction's own writes, and which observations the store must have tracked.
//!
//! 1. A key the transaction wrote reads as it wrote it, in points and in scans.
//! 2. A key it did not write reads the same every time.
//! 3. A scan observes every key of the interval it walked, also those it did not find.
//!
//! A broken rule is reported at once; whether the observations agree with other transactions is
//! for the judges. Where an operation tells less than a value (`contains`, `len`, a range
//! delete), the probe peeks first: a peek is not tracked, so it hides no missing tracking.

use super::program::Action;
use super::store::{
    ABSENT, KEYS, Key, Reader, Scan, State, Transaction, Violation, bit, keys, mask, violation,
};
use super::store::{Abort, Yield};

/// Every key.
const EVERY: u8 = u8::MAX;

#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Abort(Abort),
    Wrong(Violation),
}

impl From<Abort> for Stop {
    fn from(abort: Abort) -> Self {
        Self::Abort(abort)
    }
}

impl From<Violation> for Stop {
    fn from(wrong: Violation) -> Self {
        Self::Wrong(wrong)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Own {
    values: State,
    written: u8,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    /// The value observed, for keys in `known`.
    pub(crate) seen: State,
    pub(crate) known: u8,
    /// Keys whose observation the store must track: a later change of them is a conflict.
    pub(crate) tracked: u8,
    pub(crate) locked: u8,
    own: Own,
    savepoints: Vec<(u8, Own)>,
}

impl Probe {
    /// What it found at a key before it wrote there.
    pub(crate) fn found(&self, key: Key) -> Option<u64> {
        (self.known & bit(key) != 0).then(|| self.seen[usize::from(key)])
    }

    /// The keys written, savepoints taken back apart, and the values left there.
    pub(crate) fn writes(&self) -> (u8, &State) {
        (self.own.written, &self.own.values)
    }

    pub(crate) fn read<R: Reader>(&mut self, from: &R, action: Action) -> Result<(), Stop> {
        match action {
            Action::Get(key) => {
                let value = from.get(key)?;
                self.observe(key, value, true)?;
            }
            Action::Scan(scan) => {
                let found = from.scan(scan)?;
                self.observe_scan(scan, &found)?;
            }
            Action::End { last, .. } => {
                let found = from.end(last)?;
                self.observe_end(last, found)?;
            }
            Action::Contains(key) => {
                // Of a snapshot only the value tells which version was there.
                let value = from.get(key)?;
                self.observe(key, value, true)?;
                self.expect("contains", from.contains(key)?, value != ABSENT)?;
            }
            _ => {
                let found = from.scan(Scan::over(0, 8))?;
                self.observe_scan(Scan::over(0, 8), &found)?;
                self.expect("len", from.len()?, found.front.len())?;
            }
        }
        Ok(())
    }

    /// Runs `action`; a write stores the value `fresh`.
    pub(crate) fn run<T: Transaction>(
        &mut self,
        txn: &T,
        action: Action,
        fresh: u64,
    ) -> Result<(), Stop> {
        match action {
            Action::Get(_) | Action::Scan(_) | Action::End { pop: false, .. } => {
                self.read(txn, action)?;
            }
            Action::Contains(key) => {
                let present = self.learn(txn, bit(key))? != 0;
                self.expect("contains", txn.contains(key)?, present)?;
            }
            Action::Len => {
                let present = self.learn(txn, EVERY)?;
                self.expect("len", txn.len()?, present.count_ones() as usize)?;
            }
            Action::Peek(key) => {
                let value = txn.peek(key)?;
                self.observe(key, value, false)?;
            }
            Action::GetForUpdate(key) => {
                let value = txn.get_for_update(key)?;
                self.locked |= bit(key);
                self.observe(key, value, true)?;
            }
            Action::Savepoint(name) => {
                txn.savepoint(name);
                self.savepoints.push((name, self.own));
            }
            Action::RollBackTo(name) => self.roll_back_to(txn, name),
            _ => self.write(txn, action, fresh)?,
        }
        Ok(())
    }

    fn write<T: Transaction>(&mut self, txn: &T, action: Action, fresh: u64) -> Result<(), Stop> {
        match action {
            Action::Insert(key) => {
                let before = txn.insert(key, fresh)?;
                self.observe(key, before, true)?;
                self.put(key, fresh);
            }
            Action::Update(key) => {
                let before = txn.update(key, fresh)?;
                self.observe(key, before, true)?;
                self.put(key, fresh);
            }
            Action::Remove(key) => {
                let before = txn.remove(key)?;
                self.observe(key, before, true)?;
                self.put_if(before != ABSENT, key, ABSENT);
            }
            Action::InsertIfAbsent(key) => {
                let absent = self.learn(txn, bit(key))? == 0;
                self.expect("insert_if_absent", txn.insert_if_absent(key, fresh)?, absent)?;
                self.put_if(absent, key, fresh);
            }
            Action::RemoveRange(lo, hi) => {
                let present = self.learn(txn, mask(lo, hi))?;
                let removed = txn.remove_range(lo, hi)?;
                self.expect("remove_range", removed, present.count_ones() as usize)?;
                keys(present).for_each(|key| self.put(key, ABSENT));
            }
            Action::End { last, .. } => {
                let found = txn.pop(last)?;
                self.observe_end(last, found)?;
                if let Some((key, _)) = found {
                    self.put(key, ABSENT);
                }
            }
            _ => unreachable!("{action:?} is not an operation on a transaction"),
        }
        Ok(())
    }

    fn put(&mut self, key: Key, value: u64) {
        self.own.values[usize::from(key)] = value;
        self.own.written |= bit(key);
    }

    fn put_if(&mut self, condition: bool, key: Key, value: u64) {
        if condition {
            self.put(key, value);
        }
    }

    /// A savepoint stays when it is rolled back to; later ones go.
    fn roll_back_to<T: Transaction>(&mut self, txn: &T, name: u8) {
        let Some(at) = self.savepoints.iter().rposition(|(saved, _)| *saved == name) else {
            return;
        };
        txn.roll_back_to(name);
        self.savepoints.truncate(at + 1);
        self.own = self.savepoints[at].1;
    }

    /// Peeks at `set`, notes it as tracked because the operation that follows has to track it,
    /// and returns which of its keys have a value.
    fn learn<T: Transaction>(&mut self, txn: &T, set: u8) -> Result<u8, Stop> {
        let mut present = 0;
        for key in keys(set) {
            let value = txn.peek(key)?;
            self.observe(key, value, true)?;
            present |= if value == ABSENT { 0 } else { bit(key) };
        }
        Ok(present)
    }

    fn observe(&mut self, key: Key, value: u64, tracked: bool) -> Result<(), Violation> {
        let at = usize::from(key);
        if self.own.written & bit(key) != 0 {
            let wrote = self.own.values[at];
            if wrote != value {
                return violation("own write lost", format!("key {key}: {wrote} read as {value}"));
            }
            return Ok(());
        }
        if self.known & bit(key) != 0 && self.seen[at] != value {
            let first = self.seen[at];
            return violation("read not repeatable", format!("key {key}: {first}, then {value}"));
        }
        self.seen[at] = value;
        self.known |= bit(key);
        if tracked {
            self.tracked |= bit(key);
        }
        Ok(())
    }

    fn observe_scan(&mut self, scan: Scan, found: &Yield) -> Result<(), Violation> {
        let mut values = [ABSENT; KEYS];
        let mut next = scan.lo;
        for &(key, value) in &found.front {
            if key < next || key >= scan.hi || value == ABSENT {
                return violation("scan out of order", format!("{scan:?} gave {found:?}"));
            }
            values[usize::from(key)] = value;
            next = key + 1;
        }
        let front_end = next;
        let mut end = scan.hi;
        for &(key, value) in &found.back {
            if key < front_end || key >= end || value == ABSENT {
                return violation("scan out of order", format!("{scan:?} gave {found:?}"));
            }
            values[usize::from(key)] = value;
            end = key;
        }
        let walked = match found.ended {
            true => mask(scan.lo, scan.hi),
            false => mask(scan.lo, front_end) | mask(end, scan.hi),
        };
        keys(walked).try_for_each(|key| self.observe(key, values[usize::from(key)], true))
    }

    fn observe_end(&mut self, last: bool, found: Option<(Key, u64)>) -> Result<(), Violation> {
        let all = mask(0, 8);
        let Some((key, value)) = found else {
            return keys(all).try_for_each(|key| self.observe(key, ABSENT, true));
        };
        let beyond = if last { mask(key + 1, 8) } else { mask(0, key) };
        keys(beyond).try_for_each(|key| self.observe(key, ABSENT, true))?;
        self.observe(key, value, true)
    }

    #[expect(clippy::unused_self, reason = "reads as a check of this probe")]
    fn expect<T: PartialEq + Copy + std::fmt::Debug>(
        &self,
        what: &'static str,
        found: T,
        due: T,
    ) -> Result<(), Violation> {
        if found == due {
            return Ok(());
        }
        violation(what, format!("answered {found:?} where {due:?} is right"))
    }
}

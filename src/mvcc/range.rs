//! Iteration over what a snapshot or a transaction sees, from both ends.
//!
//! ```text
//! index   a   c   d   f ...      batches, read under a short pin each
//! own         c'      e x        the transaction's own writes (x: removed)
//! yields  a   c'  d   e
//! ```
//!
//! 1. An iterator is fixed when it is opened: its snapshot never changes, and of the
//!    transaction's own writes it sees those made before.
//! 2. Nothing is pinned between calls; entries stay readable because the snapshot is registered.
//! 3. Keys come in strictly rising order from the front and falling from the back, and the two
//!    ends never pass each other.
//! 4. A tracked iterator counts as having read what it was asked for, until it is dropped before
//!    its end: then, what it went through.
//! 5. A value that is in the files only is read when its turn comes. If it cannot be read the
//!    iteration ends there and says so.

use std::cmp::Ordering;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, ControlFlow};

use crate::mvcc::interval::Interval;
use crate::mvcc::place::FetchError;
use crate::mvcc::read_log::Access;
use crate::mvcc::table::Table;
use crate::mvcc::view::{Item, ReadView};
use crate::mvcc::workspace::Workspace;
use crate::mvcc::{Key, Value};

/// Entries in the first batch. Each later one brings the sum to four times what it was, up to
/// [`BATCH_MAX`] a batch: 25, 100, 400, where a caller with a limit of his own likes to stop.
const BATCH_MIN: usize = 25;
const BATCH_MAX: usize = 300;
/// Entries that may come before the index is counted, which visits all of its segments.
const LEFT_UNCOUNTED: usize = 4096;

/// A double-ended iterator over the entries of a range, in key order.
///
/// It sees the bucket as it was when the iterator was opened: the snapshot of its transaction,
/// and over it the transaction's own writes up to that moment. Many iterators may be open at
/// once, and the transaction may go on writing meanwhile. An open iterator holds up no one.
pub struct Range<'t, K: Key, V: Value> {
    view: ReadView<'t>,
    table: &'t Table<K, V>,
    own: Option<Own<'t, K, V>>,
    /// Whether there are own writes to merge.
    merges: bool,
    low: Bound<K>,
    high: Bound<K>,
    front: End<'t, K, V>,
    back: End<'t, K, V>,
    left: Left,
    done: bool,
    error: Option<FetchError>,
}

/// How many more entries of the index may come: an unsound `Ord` must not lead in circles.
struct Left {
    entries: usize,
    counted: bool,
}

impl Left {
    /// Takes note of a batch. False when more came than there can be.
    fn allows<K: Key, V: Value>(
        &mut self,
        batch: usize,
        table: &Table<K, V>,
        view: ReadView<'_>,
    ) -> bool {
        if self.entries < batch {
            if std::mem::replace(&mut self.counted, true) {
                return false;
            }
            let records = table.index().len(&view.pin());
            self.entries = records.saturating_mul(2).saturating_add(LEFT_UNCOUNTED);
        }
        self.entries -= batch.min(self.entries);
        true
    }
}

/// The transaction that the iterator belongs to.
struct Own<'t, K: Key, V: Value> {
    workspace: &'t Workspace<'t, K, V>,
    /// Own writes before this time are seen.
    time: usize,
    /// Where the interval that was read is noted.
    slot: Option<usize>,
}

type Entry<'t, K, V> = (&'t K, Item<'t, V>);

/// One end of the iterator.
struct End<'t, K, V> {
    index: Batches<'t, K, V>,
    own: Batches<'t, K, V>,
    /// The last key yielded at this end.
    last: Option<&'t K>,
}

/// Entries of one source, fetched in batches.
struct Batches<'t, K, V> {
    batch: Vec<Entry<'t, K, V>>,
    /// The place of the next entry in the batch.
    at: usize,
    /// The last key fetched.
    fetched: Option<&'t K>,
    /// Entries in the next batch, and in all before.
    size: usize,
    sum: usize,
    exhausted: bool,
}

impl<K, V> Default for Batches<'_, K, V> {
    fn default() -> Self {
        let (size, exhausted) = (BATCH_MIN, false);
        Self { batch: Vec::new(), at: 0, fetched: None, size, sum: 0, exhausted }
    }
}

impl<K, V> Default for End<'_, K, V> {
    fn default() -> Self {
        Self { index: Batches::default(), own: Batches::default(), last: None }
    }
}

impl<'t, K: Key, V: Value> Batches<'t, K, V> {
    /// The next entry, fetching a batch when the last one is used up.
    fn peek(
        &mut self,
        low: &Bound<K>,
        high: &Bound<K>,
        backward: bool,
        fetch: impl FnOnce((Bound<&K>, Bound<&K>), usize, &mut Vec<Entry<'t, K, V>>) -> bool,
    ) -> Option<Entry<'t, K, V>> {
        if self.at == self.batch.len() && !self.exhausted {
            let bounds = match (self.fetched, backward) {
                (None, _) => (low.as_ref(), high.as_ref()),
                (Some(last), false) => (Bound::Excluded(last), high.as_ref()),
                (Some(last), true) => (low.as_ref(), Bound::Excluded(last)),
            };
            self.batch.clear();
            self.at = 0;
            self.exhausted = fetch(bounds, self.size, &mut self.batch);
            self.sum += self.size;
            self.size = (self.sum * 3).min(BATCH_MAX);
            self.fetched = self.batch.last().map(|entry| entry.0).or(self.fetched);
        }
        self.batch.get(self.at).copied()
    }
}

impl<'t, K: Key, V: Value> Range<'t, K, V> {
    pub(crate) fn over_snapshot(
        view: ReadView<'t>,
        table: &'t Table<K, V>,
        low: Bound<K>,
        high: Bound<K>,
    ) -> Self {
        Self::new(view, table, None, low, high)
    }

    /// Opens an iterator over what a transaction sees now.
    pub(crate) fn over_workspace(
        access: &Access<'t>,
        workspace: &'t Workspace<'t, K, V>,
        low: Bound<K>,
        high: Bound<K>,
    ) -> Self {
        let note = || workspace.note_range(Interval { low: low.clone(), high: high.clone() });
        let slot = access.tracked.then(note);
        let own = Own { workspace, time: workspace.now(), slot };
        Self::new(access.view, workspace.typed_table(), Some(own), low, high)
    }

    fn new(
        view: ReadView<'t>,
        table: &'t Table<K, V>,
        own: Option<Own<'t, K, V>>,
        low: Bound<K>,
        high: Bound<K>,
    ) -> Self {
        let (front, back) = (End::default(), End::default());
        let merges = own.as_ref().is_some_and(|own| own.time > 0);
        let left = Left { entries: LEFT_UNCOUNTED, counted: false };
        Self { view, table, own, merges, low, high, front, back, left, done: false, error: None }
    }

    #[inline]
    fn step(&mut self, backward: bool) -> Option<(&'t K, &'t V)> {
        let (end, other) =
            if backward { (&mut self.back, &self.front) } else { (&mut self.front, &self.back) };
        // The usual case: nothing of our own to merge, and the other end has not moved.
        if !self.merges
            && other.last.is_none()
            && let Some(&(key, Item::Value(value))) = end.index.batch.get(end.index.at)
        {
            end.index.at += 1;
            end.last = Some(key);
            return Some((key, value));
        }
        self.step_with_care(backward)
    }

    fn step_with_care(&mut self, backward: bool) -> Option<(&'t K, &'t V)> {
        let (key, item) = self.step_over(backward)?;
        if let Item::Value(value) = item {
            return Some((key, value));
        }
        match self.view.get::<K, V, K>(self.table, key) {
            Ok(found) => found.map(|value| (key, value)),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The next key that has a value, in memory or not.
    fn step_over(&mut self, backward: bool) -> Option<Entry<'t, K, V>> {
        while !self.done {
            let Some((key, item)) = self.advance(backward) else {
                self.done = true;
                break;
            };
            let other = if backward { self.front.last } else { self.back.last };
            let passed = if backward { Ordering::Greater } else { Ordering::Less };
            if other.is_some_and(|other| key.cmp(other) != passed) {
                self.done = true;
                break;
            }
            let end = if backward { &mut self.back } else { &mut self.front };
            if !matches!(item, Item::Removed) {
                end.last = Some(key);
                return Some((key, item));
            }
        }
        None
    }

    /// Ends the iteration: a value could not be read.
    fn fail(&mut self, error: FetchError) {
        self.done = true;
        if let Some(own) = &self.own {
            own.workspace.fail(error.clone());
        }
        tracing::error!(%error, "an iteration ends early: a value could not be read");
        self.error = Some(error);
    }

    /// The next key that has a value, which is not read.
    pub(crate) fn next_key(&mut self) -> Option<&'t K> {
        self.step_over(false).map(|(key, _)| key)
    }

    /// Passes on the next entry. A value that is in the files only is read, and forgotten again.
    pub(crate) fn lend_next<R>(
        &mut self,
        backward: bool,
        read: impl FnOnce(&K, &V) -> R,
    ) -> Result<Option<R>, FetchError> {
        let Some((key, item)) = self.step_over(backward) else { return Ok(None) };
        if let Item::Value(value) = item {
            return Ok(Some(read(key, value)));
        }
        let lent = self.view.lend::<K, V, K, R>(self.table, key, |value| read(key, value));
        lent.inspect_err(|error| self.fail(error.clone()))
    }

    /// Calls `each` with the entries that are left, from the front, until it breaks.
    ///
    /// Values that are in the files only are read one by one and forgotten again, so that going
    /// through a bucket that is larger than memory takes no room. What the iterator yields is lent
    /// for longer, and stays in memory meanwhile.
    ///
    /// # Errors
    ///
    /// A value could not be read: see [`error`](Self::error).
    pub fn visit(
        mut self,
        mut each: impl FnMut(&K, &V) -> ControlFlow<()>,
    ) -> Result<(), FetchError> {
        while let Some(flow) = self.lend_next(false, &mut each)? {
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Why the iteration has ended before its end, if it has: a value that is not in memory could
    /// not be read back. Only in a bucket that is durable and has a memory limit.
    ///
    /// A transaction that went through such an iterator does not commit. Whoever iterates over a
    /// snapshot asks here at the end, or uses [`visit`](Self::visit).
    #[must_use]
    pub fn error(&self) -> Option<&FetchError> {
        self.error.as_ref()
    }

    /// `outcome`, unless a value could not be read.
    pub(crate) fn or_error<T>(&self, outcome: T) -> Result<T, FetchError> {
        self.error.clone().map_or(Ok(outcome), Err)
    }

    /// The next entry of either source at one end, own writes first.
    fn advance(&mut self, backward: bool) -> Option<Entry<'t, K, V>> {
        let Self { view, table, low, high, front, back, left, .. } = self;
        let end = if backward { back } else { front };
        let index = end.index.peek(low, high, backward, |bounds, limit, out| {
            let exhausted = view.scan(*table, bounds, backward, limit, out);
            exhausted || !left.allows(out.len(), *table, *view)
        });
        let own = self.own.as_ref().filter(|_| self.merges).and_then(|own| {
            end.own.peek(low, high, backward, |bounds, limit, out| {
                own.workspace.scan_own(bounds, own.time, backward, limit, out)
            })
        });
        let order = match (index, own) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((index, _)), Some((own, _))) if backward => own.cmp(index),
            (Some((index, _)), Some((own, _))) => index.cmp(own),
        };
        if order != Ordering::Greater {
            end.index.at += 1;
        }
        if order != Ordering::Less {
            end.own.at += 1;
        }
        if order == Ordering::Less { index } else { own }
    }

    /// What was gone through, for an iterator that stops before its end.
    fn gone_through(&self) -> Vec<Interval<K>> {
        let front = self
            .front
            .last
            .map(|last| Interval { low: self.low.clone(), high: Bound::Included(last.clone()) });
        let back = self
            .back
            .last
            .map(|last| Interval { low: Bound::Included(last.clone()), high: self.high.clone() });
        front.into_iter().chain(back).collect()
    }
}

impl<'t, K: Key, V: Value> Iterator for Range<'t, K, V> {
    type Item = (&'t K, &'t V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }

    /// Counts keys: no value is read.
    fn count(mut self) -> usize {
        std::iter::from_fn(|| self.next_key()).count()
    }
}

impl<K: Key, V: Value> DoubleEndedIterator for Range<'_, K, V> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl<K: Key, V: Value> FusedIterator for Range<'_, K, V> {}

impl<K: Key, V: Value> Drop for Range<'_, K, V> {
    fn drop(&mut self) {
        // While unwinding the whole range stays noted: cloning a key could panic again.
        if self.done || crate::sync::thread::panicking() {
            return;
        }
        if let Some(Own { workspace, slot: Some(slot), .. }) = self.own {
            workspace.narrow(slot, self.gone_through());
        }
    }
}

impl<K: Key, V: Value> fmt::Debug for Range<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").field("done", &self.done).finish_non_exhaustive()
    }
}

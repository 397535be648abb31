//! The judge that needs no theory: tries serial orders one after the other.
//!
//! A history is strictly serializable if its transactions can be run one at a time, in an order
//! that agrees with real time, such that each reads what it did read. With few transactions all
//! orders can be tried. This judge knows no timestamps, versions or edges; `graph` and `tally`
//! are compared with it.
//!
//! By values alone an order may pass that a conflict graph forbids (two states can look alike).
//! `versions_serial_order` closes that gap for comparisons: there the versions carry names, also
//! those of removals, and each key's writes must come in commit order.

use super::leaving::Departures;
use super::store::{ABSENT, State, keys};
use super::tally::Judged;

/// Transactions, at most, for which trying all orders is sensible.
pub(crate) const MOST: usize = 8;

struct Search<'t> {
    txns: &'t [Judged],
    order: Vec<usize>,
}

/// Some serial order in which every transaction reads what it did read, or what has left.
pub(crate) fn serial_order(
    txns: &[Judged],
    initial: &State,
    departures: &Departures,
) -> Option<Vec<usize>> {
    let mut search = Search { txns, order: Vec::new() };
    search.extend(initial, &mut |state, txn, _| {
        let mut next = *state;
        let reads = txn.reads();
        let fits = |key: u8| {
            let (found, due) = (txn.seen[usize::from(key)], state[usize::from(key)]);
            found == due || (found == ABSENT && departures.may_miss(due))
        };
        keys(reads).all(fits).then(|| {
            keys(effects(txn)).for_each(|key| {
                next[usize::from(key)] = txn.written[usize::from(key)];
            });
            next
        })
    })
}

/// The same with versions instead of values: `initial` is version zero everywhere, the writer
/// `i` makes version `i + 1`. `read(reader, key)` names the version that was read, and
/// `over(writer, key)` the one that the writer replaced.
pub(crate) fn versions_serial_order(
    txns: &[Judged],
    read: &dyn Fn(usize, u8) -> u64,
    over: &dyn Fn(usize, u8) -> u64,
) -> Option<Vec<usize>> {
    let mut search = Search { txns, order: Vec::new() };
    search.extend(&State::default(), &mut |state, txn, index| {
        let mut next = *state;
        let fits = keys(txn.reads()).all(|key| read(index, key) == state[usize::from(key)])
            && keys(effects(txn)).all(|key| over(index, key) == state[usize::from(key)]);
        fits.then(|| {
            for key in keys(effects(txn)) {
                next[usize::from(key)] = index as u64 + 1;
            }
            next
        })
    })
}

fn effects(txn: &Judged) -> u8 {
    if txn.committed { txn.writes } else { 0 }
}

impl Search<'_> {
    fn extend(
        &mut self,
        state: &State,
        place: &mut impl FnMut(&State, &Judged, usize) -> Option<State>,
    ) -> Option<Vec<usize>> {
        let waiting = |search: &Self, index: usize| {
            search.txns[index].counts() && !search.order.contains(&index)
        };
        let rest: Vec<usize> = (0..self.txns.len()).filter(|&index| waiting(self, index)).collect();
        if rest.is_empty() {
            return Some(self.order.clone());
        }
        for &index in &rest {
            let begin = self.txns[index].begin;
            if rest.iter().any(|&other| self.txns[other].end < begin) {
                continue;
            }
            if let Some(next) = place(state, &self.txns[index], index) {
                self.order.push(index);
                let found = self.extend(&next, place);
                if found.is_some() {
                    return found;
                }
                self.order.pop();
            }
        }
        None
    }
}

//! Versions: what a key was, is, and is about to be.
//!
//! ```text
//! Transaction ── Workspace (one per bucket it touched)
//!                  │  WriteSet: own versions, private until the commit
//!                  ▼
//! Table ── SkipList ── Record ── Version ─► Version ─► ...
//!                       key      newest      older
//! ```
//!
//! Reading: find the record, walk its chain to the newest version that the snapshot sees.
//! Writing: keep a version in the write set; at commit put it on top of its record, decide, stamp.
//! Forgetting: whoever writes cuts what no registered snapshot can see; a sweep removes records
//! that hold nothing any more.
//!
//! The parts: [`version`] and [`record`] hold the bytes and the orderings; [`view`] turns a
//! registered snapshot into references that outlive a pin; [`write_set`] (over keys in place,
//! [`key_ref`]), [`workspace`] and [`range`] are one transaction's side; [`interval`] and
//! [`footprint`] are what is left of it for the conflict graph; [`table`] is a bucket's side, all
//! of them in [`tables`]; [`codec`], [`ops`] and [`stored`] are what of it goes to files;
//! [`departure`], [`shelf`], [`place`] and `exchange` are how values leave memory for these and
//! come back; [`leftovers`] and [`waiting`] are what waits until nobody
//! needs it.

use std::borrow::Borrow;

pub(crate) mod account;
pub(crate) mod charge;
pub(crate) mod codec;
mod death;
pub(crate) mod departure;
mod exchange;
pub(crate) mod expiry;
mod extension;
pub(crate) mod footprint;
pub(crate) mod interval;
pub(crate) mod key_ref;
pub(crate) mod leftovers;
pub(crate) mod ops;
pub(crate) mod place;
pub(crate) mod range;
pub(crate) mod read_log;
pub(crate) mod record;
pub(crate) mod residents;
pub(crate) mod shelf;
pub(crate) mod stored;
pub(crate) mod table;
pub(crate) mod tables;
mod tenancy;
pub(crate) mod terms;
mod thinning;
mod unaddressed;
pub(crate) mod version;
pub(crate) mod view;
pub(crate) mod waiting;
pub(crate) mod weigh;
pub(crate) mod workspace;
mod write;
pub(crate) mod write_set;
mod writing;

pub use terms::EntryInfo;

/// What a key can be: ordered, cloneable, and free to be shared between threads.
///
/// A serializable transaction remembers the ranges it read and the keys it found absent, which is
/// why keys are cloned; a transaction that inserts, updates and finds keys clones none.
///
/// An inconsistent `Ord` gives inconsistent answers, as in a `BTreeMap`, and nothing worse.
pub trait Key: Ord + Clone + Send + Sync + 'static {}

impl<K: Ord + Clone + Send + Sync + 'static> Key for K {}

/// What a value can be: anything that threads may share.
pub trait Value: Send + Sync + 'static {}

impl<V: Send + Sync + 'static> Value for V {}

/// A borrowed form of a key that can be turned into the key, such as `str` for `String`.
///
/// Lookups borrow as they do in a `BTreeMap`; a lookup that is to be protected from phantoms must
/// also be remembered, and that takes a key of its own.
pub trait Lookup<K>: Ord {
    /// The key that this borrowed form stands for.
    fn to_key(&self) -> K;
}

impl<K, Q> Lookup<K> for Q
where
    K: Borrow<Q>,
    Q: Ord + ToOwned<Owned: Into<K>> + ?Sized,
{
    fn to_key(&self) -> K {
        self.to_owned().into()
    }
}

/// A borrowed form of a key that can be the beginning of others: `str` and `[u8]`.
pub trait Prefix: ToOwned {
    /// The least value above everything that begins with this, or `None` if there is none.
    fn successor(&self) -> Option<Self::Owned>;
}

impl Prefix for [u8] {
    fn successor(&self) -> Option<Vec<u8>> {
        let (last, rest) = self.iter().rposition(|&byte| byte != u8::MAX).and_then(|at| {
            let (kept, _) = self.split_at_checked(at + 1)?;
            kept.split_last()
        })?;
        let mut successor = rest.to_vec();
        successor.push(last + 1);
        Some(successor)
    }
}

impl Prefix for str {
    fn successor(&self) -> Option<String> {
        let mut successor = self.to_owned();
        while let Some(last) = successor.pop() {
            // The characters below the surrogates and above them are neighbours.
            let next = match last {
                '\u{D7FF}' => Some('\u{E000}'),
                _ => char::from_u32(u32::from(last) + 1),
            };
            if let Some(next) = next {
                successor.push(next);
                return Some(successor);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Strings of characters at which the step to the next one is special.
    const EDGES: &str = "[ab\u{D7FF}\u{E000}\u{10FFFF}]{0,4}";

    fn edge_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(254), Just(255)], 0..5)
    }

    proptest! {
        /// A string begins with a prefix exactly when it lies between it and its successor.
        #[test]
        fn successor_bounds_a_string_prefix(prefix in EDGES, other in EDGES) {
            let below = Prefix::successor(prefix.as_str()).is_none_or(|end| other < end);
            prop_assert_eq!(other >= prefix && below, other.starts_with(&prefix));
        }

        /// The same for bytes.
        #[test]
        fn successor_bounds_a_byte_prefix(prefix in edge_bytes(), other in edge_bytes()) {
            let below = Prefix::successor(prefix.as_slice()).is_none_or(|end| other < end);
            prop_assert_eq!(other >= prefix && below, other.starts_with(&prefix));
        }
    }
}

//! Bounds of ranges, from what the caller has to what an iterator keeps.

use std::ops::{Bound, RangeBounds};

use crate::mvcc::{Lookup, Prefix};

/// Bounds that own their keys.
pub(crate) fn owned_bounds<K, Q>(bounds: &impl RangeBounds<Q>) -> (Bound<K>, Bound<K>)
where
    Q: Lookup<K> + ?Sized,
{
    (bounds.start_bound().map(Q::to_key), bounds.end_bound().map(Q::to_key))
}

/// The keys that begin with `prefix`.
pub(crate) fn prefix_bounds<K, Q>(prefix: &Q) -> (Bound<K>, Bound<K>)
where
    Q: Lookup<K> + Prefix<Owned: Into<K>> + ?Sized,
{
    let end = prefix.successor().map_or(Bound::Unbounded, |end| Bound::Excluded(end.into()));
    (Bound::Included(prefix.to_key()), end)
}

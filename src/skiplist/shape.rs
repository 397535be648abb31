//! What the index asks of its entries, and how wide its parts are.
//!
//! 1. A key never changes, and an entry that is dead stays dead.
//!
//! Used by all of `skiplist`, and by whoever puts entries into an index.

/// What the index holds: something with a key that never changes.
pub(crate) trait Entry: Send + Sync + 'static {
    /// The key's type.
    type Key: Ord + Clone + Send + Sync + 'static;
    /// The key; the same one at each call.
    fn key(&self) -> &Self::Key;
    /// Whether the entry is being removed. Once true it stays true, and readers pass over it.
    fn is_dead(&self) -> bool;
}

/// The links of a segment, one for each level.
pub(crate) trait Tower<L>: Send + Sync {
    /// A tower of links made one by one.
    fn make(make: impl FnMut() -> L) -> Self;
    /// The links, level 0 first.
    fn levels(&self) -> &[L];
}

impl<L: Send + Sync, const N: usize> Tower<L> for [L; N] {
    fn make(mut make: impl FnMut() -> L) -> Self {
        std::array::from_fn(|_| make())
    }

    #[inline]
    fn levels(&self) -> &[L] {
        self
    }
}

/// How wide leaves and segments are; tests use tiny ones.
pub(crate) trait Shape: Send + Sync + 'static {
    /// Entries in a leaf, two to 64.
    const LEAF: usize;
    /// Spare places in a leaf when it is built.
    const TAIL: usize;
    /// Leaves in a segment, at least two.
    const SEGMENT: usize;
    /// The tower, at least one level high.
    type Tower<L: Send + Sync>: Tower<L>;
}

/// The shape for use.
pub(crate) enum Wide {}

impl Shape for Wide {
    const LEAF: usize = 64;
    const TAIL: usize = 8;
    const SEGMENT: usize = 256;
    type Tower<L: Send + Sync> = [L; 20];
}

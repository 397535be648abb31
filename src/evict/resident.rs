//! What the keeper knows of an entry: a handle, a byte of heat, a weight.

/// A handle of an entry, by which the keeper asks about it.
///
/// All calls are made under a lock of the keeper: they return at once and never call back. What is
/// behind a handle stays valid until the keeper hands it back as a victim or as gone.
pub(crate) trait Resident: Copy + Send {
    /// The heat; `None` if the entry has no value any more and should be forgotten.
    fn heat(self) -> Option<u8>;

    /// Stores a heat. It may get lost to a hit at the same time, and the other way round.
    fn set_heat(self, heat: u8);

    /// Bytes that leave memory with the entry.
    fn weight(self) -> u64;

    /// A hash of the key, the same for every entry that this key ever has.
    fn hash(self) -> u64;

    /// Whether the entry must stay for now.
    fn is_pinned(self) -> bool;

    /// Asks for the entry to be brought near: the keeper is about to look at it.
    fn prefetch(self) {}
}

/// A place in a ring: an entry with the weight that it was last seen with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<R> {
    pub(super) resident: R,
    pub(super) weight: u64,
}

/// What is found behind a slot that the hand has come to.
pub(super) enum Look {
    Live(u8),
    Pinned,
    Gone,
}

impl<R: Resident> Slot<R> {
    pub(super) fn new(resident: R) -> Self {
        Self { resident, weight: resident.weight() }
    }

    /// Looks behind the slot and weighs the entry anew.
    pub(super) fn look(&mut self) -> Look {
        let Some(heat) = self.resident.heat() else { return Look::Gone };
        self.weight = self.resident.weight();
        if self.resident.is_pinned() { Look::Pinned } else { Look::Live(heat) }
    }
}

/// Spreads the bits of a hash that may have been made carelessly.
pub(super) fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

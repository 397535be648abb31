//! Which moments somebody may still look at.
//!
//! ```text
//! moments   3        8   9              snapshots that are known exactly
//! from                       12 ..     whoever is just beginning, and whoever is to come
//! ```
//!
//! 1. Every reader, running or to come, that was registered or will be looks at one of the moments
//!    or at `from` or later. A reader that has said it is done looks at none.
//!
//! Made by the registry, and by whoever is alone; asked by whoever takes versions out of a chain.

use crate::id::Timestamp;

/// What readers need.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    /// Sorted.
    moments: Vec<Timestamp>,
    from: Timestamp,
}

impl Needed {
    /// Nobody is there yet who looks at anything before this moment.
    pub(crate) fn from(from: Timestamp) -> Self {
        Self { moments: Vec::new(), from }
    }

    /// A reader looks at exactly this moment.
    pub(super) fn at(&mut self, moment: Timestamp) {
        self.moments.push(moment);
    }

    /// A reader looks at this moment or a later one.
    pub(super) fn at_least(&mut self, moment: Timestamp) {
        self.from = self.from.min(moment);
    }

    pub(super) fn sorted(mut self) -> Self {
        self.moments.sort_unstable();
        self.moments.dedup();
        self
    }

    /// The first moment that somebody may look at.
    pub(crate) fn oldest(&self) -> Timestamp {
        self.moments.first().map_or(self.from, |moment| self.from.min(*moment))
    }

    /// Whether somebody may look at a moment from `since` on and before `until`.
    pub(crate) fn between(&self, since: Timestamp, until: Timestamp) -> bool {
        let first = self.moments.partition_point(|moment| *moment < since);
        until > self.from || self.moments.get(first).is_some_and(|moment| *moment < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> Timestamp {
        Timestamp::from_raw(raw)
    }

    #[test]
    fn moments_are_looked_at_and_nothing_between_them() {
        let mut needed = Needed::from(at(20));
        needed.at(at(9));
        needed.at(at(3));
        needed.at_least(at(12));
        let needed = needed.sorted();
        assert_eq!(needed.oldest(), at(3));
        assert_eq!(Needed::from(at(20)).oldest(), at(20));
        assert!(needed.between(at(3), at(4)) && needed.between(at(1), at(10)));
        assert!(!needed.between(at(4), at(9)), "the end does not count");
        assert!(!needed.between(at(10), at(12)));
        assert!(needed.between(at(10), at(13)) && needed.between(at(15), at(16)));
    }
}

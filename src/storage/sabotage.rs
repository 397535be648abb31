//! Mistakes on purpose: a check that nobody has seen fail proves nothing.
//!
//! Each is a rule of the log or of the checkpoints that a test may ask an engine to break, to see
//! that the crash simulator notices. Without the feature `testing` none can be asked for, and
//! every question is answered "no" by the compiler.

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sabotage {
    /// A `Full` commit returns before its record is synced.
    AcknowledgeBeforeSync,
    /// A sync is reported as done without asking the system.
    SkipSync,
    /// A failed sync is tried again, and its second answer believed.
    RetrySync,
    /// A second sync starts while one is running.
    OverlapSyncs,
    /// A new name is used without a sync of its directory.
    SkipDirectorySync,
    /// A segment is used again before the manifest that no longer needs it is durable.
    RecycleEarly,
    /// A recycled segment keeps its salt.
    KeepSalt,
    /// A record is accepted without a look at its position.
    IgnoreLsn,
    /// A record is accepted without a look at the checksum of its payload.
    IgnorePayloadChecksum,
    /// Records say that nothing is durable.
    StickWatermark,
    /// Records say that bytes are durable before the sync of them has returned.
    RushWatermark,
    /// A table enters the manifest while the log is not durable up to its snapshot.
    TableAheadOfLog,
    /// The manifest names a table that is not synced.
    ManifestBeforeTable,
    /// After a recovery the log goes on in the segment where it ended.
    AppendToOldSegment,
    /// After a recovery the tail that was accepted is not written and synced again.
    TrustTail,
}

#[cfg(any(test, feature = "testing"))]
impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AcknowledgeBeforeSync,
        Self::SkipSync,
        Self::RetrySync,
        Self::OverlapSyncs,
        Self::SkipDirectorySync,
        Self::RecycleEarly,
        Self::KeepSalt,
        Self::IgnoreLsn,
        Self::IgnorePayloadChecksum,
        Self::StickWatermark,
        Self::RushWatermark,
        Self::TableAheadOfLog,
        Self::ManifestBeforeTable,
        Self::AppendToOldSegment,
        Self::TrustTail,
    ];
}

/// The rules that one engine breaks: none, unless a test asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotages {
    #[cfg(feature = "testing")]
    bits: u32,
}

impl Sabotages {
    /// Breaks one rule.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn of(rule: Sabotage) -> Self {
        Self { bits: 1 << rule as u8 }
    }

    /// Whether this rule is to be broken.
    #[cfg(feature = "testing")]
    #[inline]
    pub(crate) fn breaks(self, rule: Sabotage) -> bool {
        self.bits & 1 << rule as u8 != 0
    }

    /// Whether this rule is to be broken: no.
    #[cfg(not(feature = "testing"))]
    #[inline]
    #[expect(clippy::unused_self, reason = "the same shape as with the feature")]
    pub(crate) fn breaks(self, _rule: Sabotage) -> bool {
        false
    }
}

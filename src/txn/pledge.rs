//! The commit pipeline's side of the log: what a commit leaves for the next life.
//!
//! ```text
//! encode ─► examine ─► reserve ═► link ═► append ═► settle ─► finish ─► acknowledge
//!  user      the graph   ╚═ the log's lock ═══╝                          waits for a sync, if
//!  code                                                                  the level asks for it
//! ```
//!
//! 1. What can fail without harm fails before the link: encoding, size, space.
//! 2. The commit is linked and its record copied under one lock, so log order is commit order, and
//!    what is durable is always a prefix of what committed.
//! 3. At [`Durability::Full`] whoever is told of a commit, or of what it read, is told so after all
//!    that was linked before is durable: a transaction that wrote, one that only read, and, through
//!    the confirmations of the commit log, a snapshot.
//! 4. After a failed write or sync nothing is linked any more; reading goes on.

use crate::epoch::Guard;
use crate::error::{Error, Result};
use crate::id::{Lsn, Timestamp};
use crate::mvcc::footprint::Footprint;
use crate::ssi::{Linked, Pending, Refused, Registration};
use crate::txn::engine::Engine;
use crate::txn::options::Durability;
use crate::wal::Payload;

/// A commit, and where its record ends. An error there says that the log has failed after the
/// commit was linked: it stands in memory, and nobody knows whether it stands on the device.
pub(super) type Logged<'g> = (Linked<'g, Footprint>, Result<Option<Lsn>>);

/// Why nothing was committed. The versions that point at the status are still to be unlinked.
pub(super) enum Failed<'g> {
    Refused(Refused<'g, Footprint>),
    Log { error: Error, pending: Pending<'g, Footprint> },
}

/// What a commit came to: when it took effect, and how far the log has to be durable for it to
/// survive a power loss. See [`Database::wait_durable`](crate::Database::wait_durable).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    timestamp: Timestamp,
    position: Option<Lsn>,
}

impl Receipt {
    pub(super) fn new(timestamp: Timestamp, position: Option<Lsn>) -> Self {
        Self { timestamp, position }
    }

    /// When the commit took effect. A transaction that wrote nothing has the moment at which
    /// everything it read was current.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Where its record ends in the log; `None` if it wrote nothing durable.
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        self.position
    }
}

/// How far the log has to be durable before a commit may be told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pledge {
    pub(crate) commit: Timestamp,
    /// The end of its record; `None` if it has none.
    pub(crate) end: Option<Lsn>,
    /// What the transaction asks for, if it is more than the database's level.
    pub(crate) raised: Option<Durability>,
}

impl Engine {
    /// Certifies and links, and writes the record if there is one (keeps 1 and 2).
    pub(super) fn commit_and_log<'g>(
        &self,
        pending: Pending<'g, Footprint>,
        payload: Option<&mut Payload>,
        registration: &Registration<Footprint>,
        guard: &'g Guard<'g>,
    ) -> std::result::Result<Logged<'g>, Failed<'g>> {
        let log = self.log();
        let Some((journal, payload)) = self.journal().zip(payload) else {
            let linked = log.commit(pending, registration, guard).map_err(Failed::Refused)?;
            return Ok((linked, Ok(None)));
        };
        let candidate = log
            .candidate(pending, registration, guard)
            .and_then(|candidate| log.examine_ahead(candidate, guard))
            .map_err(Failed::Refused)?;
        let reservation = match journal.wal().reserve(Some(payload)) {
            Ok(reservation) => reservation,
            Err(error) => {
                return Err(Failed::Log { error: error.into(), pending: candidate.give_up() });
            }
        };
        let linked = log.commit_candidate(candidate, guard).map_err(Failed::Refused)?;
        let end = reservation.append(linked.timestamp());
        Ok((linked, end.map(Some).map_err(Error::from)))
    }

    /// Waits until the commit is as durable as promised (keeps 3).
    pub(super) fn acknowledge(&self, pledge: Pledge) -> Result<Receipt> {
        let receipt = Receipt::new(pledge.commit, pledge.end);
        let Some(journal) = self.journal() else { return Ok(receipt) };
        if journal.is_full() || pledge.raised == Some(Durability::Full) {
            // Without a record of its own it still saw what others wrote.
            let end = pledge.end.unwrap_or_else(|| journal.wal().position());
            journal.wal().sync_to(end)?;
        } else if pledge.end.is_some() {
            journal.flush_if_due()?;
        }
        if journal.is_full() {
            self.log().confirm(pledge.commit);
        }
        Ok(receipt)
    }

    /// Waits until every commit up to `until` is durable, and answers the newest moment that may
    /// be shown then: `until`, or what was confirmed before the log failed.
    pub(crate) fn confirmed_at(&self, until: Timestamp) -> Timestamp {
        let Some(journal) = self.journal() else { return until };
        // Everything up to `until` was linked, so its records end at the log's end or before.
        match journal.wal().sync_to(journal.wal().position()) {
            Ok(()) => {
                self.log().confirm(until);
                until
            }
            Err(_) => self.log().confirmed(),
        }
    }
}

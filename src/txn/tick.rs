//! Commits that no transaction makes: the catalog's.
//!
//! 1. A change of the catalog is a commit of its own in the log, with its own timestamp, and
//!    conflicts with none.
//! 2. A dropped bucket is emptied once every transaction and snapshot that began before the drop
//!    has ended: they may hold references into it.

use crate::error::Result;
use crate::id::{Lsn, Timestamp};
use crate::mvcc::footprint::Footprint;
use crate::mvcc::ops::Ops;
use crate::mvcc::tables::AnyTable;
use crate::ssi::Kind;
use crate::txn::engine::Engine;
use crate::txn::pledge::{Failed, Pledge};

impl Engine {
    /// Commits these operations on the catalog, as durably as the database promises.
    pub(crate) fn commit_catalog(&self, collect: impl FnOnce(&mut Ops)) -> Result<()> {
        let (commit, end) = self.tick(collect)?;
        self.acknowledge(Pledge { commit, end, raised: None }).map(drop)
    }

    /// Ends the use of a table that has lost its name: the vacuum will empty it (keeps 2).
    pub(crate) fn retire_table(&self, table: &dyn AnyTable) {
        table.mark_dropped();
        // Whoever takes a snapshot at or after an empty commit began after the mark, and cannot
        // get at the table any more.
        let ticked = self.tick(|_| ());
        let (commit, _) = ticked.expect("a commit that writes nothing to the log cannot fail");
        table.empty_from(commit);
    }

    /// Commits nothing but these operations.
    fn tick(&self, collect: impl FnOnce(&mut Ops)) -> Result<(Timestamp, Option<Lsn>)> {
        let mut payload = self.backing().payload(|ops| {
            collect(ops);
            Ok(())
        })?;
        let guard = self.collector().pin();
        let log = self.log();
        let registration = log.begin(Kind::Tracked, None, &guard);
        let pending = log.prepare(&registration, None, Footprint::default(), &guard);
        log.admit(&registration);
        match self.commit_and_log(pending, payload.as_mut(), &registration, &guard) {
            Ok((linked, end)) => {
                let commit = linked.timestamp();
                self.finish(linked, registration, &guard);
                Ok((commit, end?))
            }
            Err(Failed::Log { error, pending }) => {
                drop(pending);
                log.leave(registration);
                Err(error)
            }
            Err(Failed::Refused(_)) => {
                unreachable!("a commit that reads and writes nothing conflicts with none")
            }
        }
    }
}

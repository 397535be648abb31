//! Savepoints: going back within a transaction.
//!
//! 1. Rolling back undoes writes and nothing else: what was read since stays read, since it may
//!    have decided what the transaction did next.
//! 2. A savepoint is a place in each workspace's log of writes; taking one copies no data.

use crate::error::{Error, Result};
use crate::id::BucketId;
use crate::txn::transaction::{Savepoint, Transaction};

impl Transaction<'_> {
    fn marks(&self) -> Vec<(BucketId, usize)> {
        self.workspaces.iter().map(|workspace| (workspace.bucket(), workspace.mark())).collect()
    }

    fn undo_to(&self, marks: &[(BucketId, usize)]) {
        for workspace in self.workspaces.iter() {
            let known = marks.iter().find(|(bucket, _)| *bucket == workspace.bucket());
            // A bucket that was first touched after the savepoint had no writes then.
            let mark = known.map_or(0, |(_, mark)| *mark);
            workspace.undo_to(mark, &self.log, self.tracked());
        }
    }

    /// Marks this moment, to [`rollback_to`](Self::rollback_to) later. A later savepoint of the
    /// same name hides an earlier one.
    pub fn savepoint(&self, name: &str) {
        let savepoint = Savepoint { name: name.to_owned(), marks: self.marks() };
        self.savepoints.borrow_mut().push(savepoint);
    }

    /// Undoes every write made since the newest savepoint of this name, which stays and may be
    /// rolled back to again; savepoints taken after it are gone. Reads stay part of the
    /// transaction.
    ///
    /// # Errors
    ///
    /// [`Error::SavepointMissing`] if there is no savepoint of this name.
    pub fn rollback_to(&self, name: &str) -> Result<()> {
        let marks = {
            let mut savepoints = self.savepoints.borrow_mut();
            let at = savepoints
                .iter()
                .rposition(|savepoint| savepoint.name == name)
                .ok_or_else(|| Error::SavepointMissing { name: name.to_owned() })?;
            savepoints.truncate(at + 1);
            savepoints.last().map(|savepoint| savepoint.marks.clone()).unwrap_or_default()
        };
        self.undo_to(&marks);
        Ok(())
    }

    /// Runs `body`, and undoes what it wrote if it returns an error or panics.
    ///
    /// ```
    /// # use palisade::{Database, Error};
    /// # fn main() -> Result<(), Error> {
    /// let db = Database::in_memory();
    /// let log = db.bucket::<u64, String>("log")?;
    /// db.write(|tx| {
    ///     tx.insert(&log, 1, "kept".into())?;
    ///     let outcome = tx.nested(|tx| {
    ///         tx.insert(&log, 2, "undone".into()).map_err(|_| "failed")?;
    ///         Err::<(), _>("not wanted")
    ///     });
    ///     assert_eq!(outcome, Err("not wanted"));
    ///     Ok(())
    /// })?;
    /// assert_eq!(log.len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `body` returns.
    pub fn nested<T, E>(
        &self,
        body: impl FnOnce(&Self) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let savepoints = self.savepoints.borrow().len();
        let mut scope = Scope { tx: self, savepoints, marks: self.marks(), kept: false };
        let outcome = body(self);
        scope.kept = outcome.is_ok();
        outcome
    }
}

/// Forgets the savepoints of a nested body, and undoes its writes unless they are kept.
struct Scope<'t, 'db> {
    tx: &'t Transaction<'db>,
    savepoints: usize,
    marks: Vec<(BucketId, usize)>,
    kept: bool,
}

impl Drop for Scope<'_, '_> {
    fn drop(&mut self) {
        self.tx.savepoints.borrow_mut().truncate(self.savepoints);
        if !self.kept {
            self.tx.undo_to(&self.marks);
        }
    }
}

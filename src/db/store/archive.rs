//! What the files of a database hold, to be brought into memory: the part that a database open to
//! be written shares with one that is only read.
//!
//! 1. The files that the state names stay as they are while the archive lives: a lock keeps others
//!    away, and a checkpoint removes a table only after the state has another in its place.

use std::path::PathBuf;

use crate::db::files::Progress;
use crate::db::store::state::State;
use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::storage::Storage;
use crate::sync::{Arc, Mutex};

/// The files of a database as they were found, and what became of them since.
pub(in crate::db) struct Archive {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) directory: PathBuf,
    pub(super) database: DatabaseId,
    /// The newest commit that the recovery found: what is loaded is stamped with it.
    pub(super) recovered: Timestamp,
    /// Where the log ended then.
    pub(super) recovered_end: Lsn,
    /// Is told how far the loading of a bucket has come.
    pub(super) progress: Option<Progress>,
    pub(super) state: Mutex<State>,
}

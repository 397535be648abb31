//! Where values are found again that have left memory: new tables take the place of old ones.
//!
//! ```text
//! new tables ─► shelf of the bucket ─► what is cold and was in old tables is pointed to new ones
//! ```
//!
//! 1. Old tables lose their names only after nothing new leads to them. What still does, for an old
//!    snapshot, keeps the file itself.

use crate::checkpoint::manifest::TableRecord;
use crate::checkpoint::table::Table;
use crate::db::store::Store;
use crate::db::store::state::Life;
use crate::error::Result;
use crate::id::StoredId;
use crate::mvcc::place::Place;
use crate::mvcc::shelf::Files;
use crate::mvcc::tables::AnyTable;
use crate::sync::Arc;
use crate::txn::Engine;

/// Entries that are pointed to their new place under one pin.
const BATCH: usize = 256;

impl Store {
    /// Puts the tables of a bucket on its shelf, and points what is cold to them (keeps 1).
    pub(super) fn shelve(&self, engine: &Engine, bucket: StoredId) {
        let (open, records) = {
            let state = self.archive.state.lock();
            let Some(bucket) = state.buckets.get(&bucket) else { return };
            let Life::Open(open) = bucket.life else { return };
            let ranges: Vec<_> =
                bucket.ranges.iter().filter_map(|range| range.table.clone()).collect();
            (open, (ranges, bucket.deltas.clone()))
        };
        let table = engine.catalog().tables().get(open);
        if let Err(error) = self.put_on_shelf(table, engine, bucket, records) {
            // What is on the shelf stays good: its files are open.
            tracing::warn!(%error, "values leave for older tables until the next checkpoint");
        }
    }

    fn put_on_shelf(
        &self,
        table: &dyn AnyTable,
        engine: &Engine,
        bucket: StoredId,
        (ranges, deltas): (Vec<TableRecord>, Vec<TableRecord>),
    ) -> Result<()> {
        let Some(to) = table.shelf() else { return Ok(()) };
        let known: Vec<Arc<Table>> = {
            let files = to.files();
            files.ranges.iter().chain(&files.deltas).map(Arc::clone).collect()
        };
        let mut added = Vec::new();
        let mut open = |record: &TableRecord| -> Result<Arc<Table>> {
            if let Some(file) = known.iter().find(|file| file.id() == record.table) {
                return Ok(Arc::clone(file));
            }
            let (storage, directory) = (&*self.archive.storage, &self.archive.directory);
            let file = Table::open(storage, directory, self.archive.database, bucket, record)?;
            let file = Arc::new(file);
            added.push(Arc::clone(&file));
            Ok(file)
        };
        let ranges = ranges.iter().map(&mut open).collect::<Result<Vec<_>>>()?;
        let deltas = deltas.iter().map(&mut open).collect::<Result<Vec<_>>>()?;
        to.fill(Files::new(ranges, &deltas));
        added
            .iter()
            .filter(|file| !known.is_empty() && file.is_range())
            .try_for_each(|file| repoint(engine, table, file))
    }
}

/// Points what is cold and was in older files to its place in this one.
fn repoint(engine: &Engine, table: &dyn AnyTable, file: &Arc<Table>) -> Result<()> {
    let mut buffer = Vec::new();
    for at in 0..file.blocks() {
        let block = file.read_block(at, &mut buffer)?;
        let mut guard = engine.collector().pin();
        for (done, entry) in block.entries().enumerate() {
            if done % BATCH == BATCH - 1 {
                guard = engine.collector().pin();
            }
            let place = Place { file: Arc::clone(file), position: entry.position };
            // A key that cannot be decoded was not encoded by this table: it has no record.
            let _ = table.repoint(entry.key, &place, &guard);
        }
    }
    Ok(())
}

//! Dropping a bucket.
//!
//! 1. A dropped bucket is emptied once every transaction and snapshot that began before the drop
//!    has ended: they may hold references into it.

use crate::id::Timestamp;
use crate::mvcc::footprint::Footprint;
use crate::ssi::Kind;
use crate::txn::engine::Engine;

/// Takes the bucket's name away and lets the vacuum empty it. False if there is no such bucket.
pub(crate) fn drop_bucket(engine: &Engine, name: &str) -> bool {
    let Some(table) = engine.catalog().drop_bucket(name) else { return false };
    // Whoever takes a snapshot at or after an empty commit began after the mark, and cannot get
    // at the table any more.
    table.empty_from(tick(engine));
    true
}

/// Commits nothing, so that time goes on.
fn tick(engine: &Engine) -> Timestamp {
    let guard = engine.collector().pin();
    let log = engine.log();
    let registration = log.begin(Kind::Tracked, None, &guard);
    let pending = log.prepare(&registration, None, Footprint::default(), &guard);
    log.admit(&registration);
    let linked = log.commit(pending, &registration, &guard);
    let linked = linked.expect("a commit that reads and writes nothing conflicts with none");
    let commit = linked.timestamp();
    log.finish(linked, registration, &guard);
    commit
}

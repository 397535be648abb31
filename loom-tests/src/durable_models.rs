//! Models of commits that are to survive: the shipped commit log and write-ahead log together, in
//! the order that `src/txn/pledge.rs` gives them. A place is reserved, the commit is linked, its
//! record appended, the log synced, the commit confirmed; meanwhile others commit and read.
//!
//! Whenever a role is told something, it takes what a power cut would leave at that moment. The
//! epilogue reads all of these, and compares each with what the role was told.

use crate::epoch::Collector;
use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::play::{Role, play};
use crate::ssi::{CommitLog, Footprint, Kind, Rules, Seen};
use crate::storage::Memory;
use crate::wal::{
    Draft, FlushPolicy, Kind as RecordKind, PayloadSeed, Record, Scope, Wal, WalError, WalOptions,
    read_log,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DATABASE: DatabaseId = DatabaseId::from_raw(7);

/// A transaction that reads nothing, so that nothing but the order is at stake.
struct Blind;

impl Footprint for Blind {
    fn reads_meet_writes(&self, _writer: &Self) -> bool {
        false
    }

    fn locks_meet_writes(&self, _other: &Self) -> bool {
        false
    }

    fn has_reads(&self) -> bool {
        false
    }

    fn has_locks(&self) -> bool {
        false
    }

    fn has_writes(&self) -> bool {
        true
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// A database without data, and what the roles were told.
struct Stage {
    collector: Collector,
    log: CommitLog<Blind>,
    disk: Memory,
    wal: Wal,
    /// A moment that somebody was shown or that was acknowledged, and the disk just then.
    told: Mutex<Vec<(Timestamp, Memory)>>,
}

fn scope() -> Scope {
    Scope {
        database: DATABASE,
        needed: Lsn::ZERO,
        clean_end: None,
        durable: Lsn::ZERO,
        tolerates_damage: false,
    }
}

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: WalOptions::SEGMENT_BYTES_MIN,
        gather_max: Duration::ZERO,
        flush: FlushPolicy { interval: None, commits: None, bytes: None },
        ..WalOptions::new(1)
    }
}

fn stage() -> Stage {
    let disk = Memory::new();
    let storage = Arc::new(disk.clone());
    let opened = Wal::open::<WalError>(storage, top(), &scope(), options(), &mut |_| Ok(()));
    let (wal, _) = opened.expect("the disk is empty");
    let rules = Rules { registry_slots: 3, confirm: true, ..Rules::default() };
    let log = CommitLog::starting_at(Timestamp::ZERO, rules);
    Stage { collector: Collector::with_slots(3), log, disk, wal, told: Mutex::default() }
}

fn top() -> &'static Path {
    Path::new("")
}

/// The commits that a disk holds after a power cut.
fn survivors(crashed: &Memory) -> Vec<u64> {
    let mut found = Vec::new();
    let mut visit = |record: Record<'_>| {
        if record.kind == RecordKind::Commit {
            found.push(record.timestamp.get());
        }
        Ok::<(), WalError>(())
    };
    read_log(Arc::new(crashed.clone()), top(), &scope(), &options(), &mut visit)
        .expect("nothing is damaged");
    found
}

impl Stage {
    fn tell(&self, moment: Timestamp) {
        let crashed = self.disk.crash();
        self.told.lock().expect("no role panics here").push((moment, crashed));
    }

    /// What the engine does about a commit, from its certification to its acknowledgement.
    fn commit(&self) {
        let guard = self.collector.pin();
        let registration = self.log.begin(Kind::Tracked, None, &guard);
        let pending = self.log.prepare(&registration, None, Blind, &guard);
        self.log.admit(&registration);
        let candidate = self.log.candidate(pending, &registration, &guard).expect("blind");
        let candidate = self.log.examine_ahead(candidate, &guard).expect("blind");
        let mut payload = Draft::new(PayloadSeed::of(DATABASE)).finish(0).expect("it is small");
        let reservation = self.wal.reserve(Some(&mut payload)).expect("the disk works");
        let linked = self.log.commit_candidate(candidate, &guard).expect("blind");
        let commit = linked.timestamp();
        let end = reservation.append(commit).expect("the disk works");
        let _ = self.log.finish(linked, registration, &guard);
        self.wal.sync_to(end).expect("the disk works");
        self.log.confirm(commit);
        self.tell(commit);
        assert!(self.log.visible(&guard) >= commit, "a reader misses what was acknowledged");
    }

    /// What the engine does about a snapshot.
    fn look(&self) {
        let (mut entry, seen) = self.log.begin_seen(None, &self.collector.pin());
        let shown = match seen {
            Seen::At(shown) => shown,
            Seen::Unconfirmed(until) => {
                self.wal.sync_to(self.wal.position()).expect("the disk works");
                self.log.confirm(until);
                self.log.settle_seen(&mut entry, until);
                until
            }
        };
        self.tell(shown);
        self.log.leave_seen(entry);
    }

    /// Whatever was told was durable when it was told, and the log has the order of the commits.
    fn check(&self, commits: u64) {
        for (moment, crashed) in &*self.told.lock().expect("no role panics here") {
            let found = survivors(crashed);
            assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
            assert!(found.len() as u64 >= moment.get(), "{moment} was told, {found:?} is durable");
        }
        assert!(survivors(&self.disk.crash()).into_iter().eq(1..=commits));
    }
}

/// Two commits: the one that is linked first has the first place in the log, and is durable when
/// the other one is.
pub fn commits_have_the_order_of_the_log(main: usize) {
    const ROLES: &[Role<Stage>] = &[Stage::commit, Stage::commit];
    play(2, main, stage, ROLES, |stage| stage.check(2));
}

/// A commit and a snapshot, which shows it only when it is durable.
pub fn snapshot_shows_what_is_durable(main: usize) {
    const ROLES: &[Role<Stage>] = &[Stage::commit, Stage::look];
    play(3, main, stage, ROLES, |stage| stage.check(1));
}

/// Two commits that share a sync, or do not, and a snapshot.
pub fn snapshot_beside_two_commits(main: usize) {
    const ROLES: &[Role<Stage>] = &[Stage::commit, Stage::commit, Stage::look];
    play(1, main, stage, ROLES, |stage| stage.check(2));
}

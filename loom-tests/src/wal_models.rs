//! Models of the log over the shipped files: order, hand-over between leaders, poison, and a
//! segment that changes beside a sync.
//!
//! Every model ends by reading what a power cut would leave, and compares that with what was
//! promised to the roles. The disk checks by itself that syncs do not overlap, and that none
//! follows one that failed.

use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::play::{Role, play};
use crate::storage::Memory;
use crate::wal::{
    Draft, FlushPolicy, Kind, Payload, PayloadSeed, Record, Scope, Wal, WalError, WalOptions,
    read_log,
};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DATABASE: DatabaseId = DatabaseId::from_raw(7);
const PREEMPTIONS: usize = 3;

/// A log, and what the roles were promised.
struct Stage {
    disk: Memory,
    wal: Wal,
    clock: Mutex<u64>,
    /// Commits that a sync returned for.
    acknowledged: Mutex<Vec<u64>>,
    refused: Mutex<usize>,
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
    let opened = Wal::open(Arc::new(disk.clone()), top(), &scope(), options(), &mut ignore);
    let (wal, _) = opened.expect("the disk is empty");
    Stage {
        disk,
        wal,
        clock: Mutex::new(0),
        acknowledged: Mutex::default(),
        refused: Mutex::default(),
    }
}

fn top() -> &'static Path {
    Path::new("")
}

fn ignore(_: Record<'_>) -> Result<(), WalError> {
    Ok(())
}

fn payload(bytes: usize) -> Payload {
    let mut draft = Draft::new(PayloadSeed::of(DATABASE));
    draft.bytes().extend(std::iter::repeat_n(1, bytes));
    draft.finish(1).expect("it is small")
}

impl Stage {
    /// Appends; the commit is linked between the reservation and the append.
    fn append(&self, bytes: usize) -> Result<(u64, Lsn), WalError> {
        let mut payload = payload(bytes);
        let reservation = self.wal.reserve(Some(&mut payload))?;
        let timestamp = {
            let mut clock = self.clock.lock().expect("no role panics here");
            *clock += 1;
            *clock
        };
        let end = reservation.append(Timestamp::from_raw(timestamp))?;
        Ok((timestamp, end))
    }

    fn commit(&self, bytes: usize) -> Result<(), WalError> {
        let (timestamp, end) = self.append(bytes)?;
        self.wal.sync_to(end)?;
        assert!(self.wal.durable() >= end, "acknowledged before it is durable");
        self.acknowledged.lock().expect("no role panics here").push(timestamp);
        Ok(())
    }

    /// A commit that may be refused because the log is poisoned.
    fn try_commit(&self) {
        match self.commit(8) {
            Ok(()) => {}
            Err(WalError::Poisoned { .. }) => {
                *self.refused.lock().expect("no role panics here") += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The commits that a power cut leaves.
    fn survivors(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let storage = Arc::new(self.disk.crash());
        read_log::<WalError>(storage, top(), &scope(), &options(), &mut |record| {
            if record.kind == Kind::Commit {
                found.push(record.timestamp.get());
            }
            Ok(())
        })
        .expect("nothing is damaged");
        found
    }

    /// What survives is a prefix that holds what was acknowledged.
    fn check(&self) {
        let found = self.survivors();
        assert!(found.iter().copied().eq(1..=found.len() as u64), "{found:?}");
        let acknowledged = self.acknowledged.lock().expect("no role panics here");
        assert!(acknowledged.iter().all(|commit| found.contains(commit)), "lost a promise");
    }
}

/// Two committers, and one that only waits for what is there: order, and one leader at a time.
pub fn leaders_hand_over(main: usize) {
    const ROLES: &[Role<Stage>] = &[
        |stage| stage.commit(8).expect("the disk works"),
        |stage| stage.commit(8).expect("the disk works"),
    ];
    play(PREEMPTIONS, main, stage, ROLES, |stage| {
        stage.check();
        assert_eq!(stage.survivors(), [1, 2]);
    });
}

/// A third one joins, so that one may wait for a leader that it did not see begin.
pub fn three_share_syncs(main: usize) {
    const ROLES: &[Role<Stage>] = &[
        |stage| stage.commit(8).expect("the disk works"),
        |stage| stage.commit(8).expect("the disk works"),
        |stage| stage.commit(8).expect("the disk works"),
    ];
    // One preemption: with two, the three of them take twenty times as long.
    play(1, main, stage, ROLES, |stage| {
        stage.check();
        assert_eq!(stage.survivors(), [1, 2, 3]);
    });
}

/// The first sync fails: whoever waits is told, whoever comes later is refused, and nobody hangs.
pub fn poison_reaches_everybody(main: usize) {
    const ROLES: &[Role<Stage>] = &[Stage::try_commit, Stage::try_commit];
    let failing = || {
        let stage = stage();
        stage.disk.fail_sync(0);
        stage
    };
    play(PREEMPTIONS, main, failing, ROLES, |stage| {
        stage.check();
        assert_eq!(*stage.refused.lock().expect("no role panics here"), 2);
        assert!(stage.wal.poison_cause().is_some());
    });
}

/// The second sync fails, if there is one: one commit is acknowledged, or both.
pub fn poison_takes_nothing_back(main: usize) {
    const ROLES: &[Role<Stage>] = &[Stage::try_commit, Stage::try_commit];
    let failing = || {
        let stage = stage();
        stage.disk.fail_sync(1);
        stage
    };
    play(PREEMPTIONS, main, failing, ROLES, |stage| {
        stage.check();
        let refused = *stage.refused.lock().expect("no role panics here");
        let acknowledged = stage.acknowledged.lock().expect("no role panics here").len();
        assert_eq!(refused + acknowledged, 2);
        assert!(acknowledged >= 1, "the first sync works");
    });
}

/// One appends over the end of a segment while another syncs: a sync covers both segments, or says
/// that it covers less.
pub fn segment_changes_beside_a_sync(main: usize) {
    const ROLES: &[Role<Stage>] = &[
        |stage| stage.commit(3900).expect("the disk works"),
        |stage| {
            let position = stage.wal.position();
            stage.wal.sync_to(position).expect("the disk works");
            let synced = stage.wal.durable();
            assert!(synced >= position);
        },
    ];
    let half_full = || {
        let stage = stage();
        stage.wal.prepare_spare().expect("the disk works");
        stage.append(3000).expect("the disk works");
        stage
    };
    play(PREEMPTIONS, main, half_full, ROLES, |stage| {
        stage.check();
        assert_eq!(stage.survivors(), [1, 2]);
    });
}

/// A segment is made ready while a commit needs one: there is one of each number, in order.
pub fn segment_is_made_beside_a_commit(main: usize) {
    const ROLES: &[Role<Stage>] = &[
        |stage| {
            for _ in 0..3 {
                stage.append(3900).expect("the disk works");
            }
        },
        |stage| {
            stage.wal.prepare_spare().expect("the disk works");
        },
    ];
    play(PREEMPTIONS, main, stage, ROLES, |stage| {
        stage.wal.close().expect("the disk works");
        assert_eq!(stage.survivors(), [1, 2, 3]);
    });
}

/// A checkpoint reads back while the segment it reads is let go and made into another one.
pub fn segment_is_released_beside_a_reader(main: usize) {
    const ROLES: &[Role<Stage>] = &[
        |stage| {
            let mut found = Vec::new();
            let end = Lsn::from_raw(stage.wal.durable().get());
            let read = stage.wal.read::<WalError>(Lsn::ZERO, end, &mut |record| {
                found.push(record.timestamp.get());
                Ok(())
            });
            match read {
                // A link, a commit and a seal; a link and a commit.
                Ok(()) => assert_eq!(found, [0, 1, 1, 1, 2]),
                Err(WalError::MissingSegment { .. }) => assert!(found.is_empty()),
                Err(other) => panic!("{other}"),
            }
        },
        |stage| {
            stage.wal.release(stage.wal.durable()).expect("the disk works");
            stage.wal.prepare_spare().expect("the disk works");
        },
    ];
    let two_segments = || {
        let stage = stage();
        stage.commit(3900).expect("the disk works");
        stage.commit(3900).expect("the disk works");
        stage
    };
    play(PREEMPTIONS, main, two_segments, ROLES, |stage| {
        assert_eq!(stage.wal.stats().spares, 1);
    });
}

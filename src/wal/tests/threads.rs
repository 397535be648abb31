//! Many committers at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::storage::{Fault, Moment, Op};

const THREADS: u64 = 4;

/// Appends a commit at the next timestamp, drawn under the lock of the log.
fn append_next(wal: &Wal, clock: &parking_lot::Mutex<u64>) -> Result<Lsn, WalError> {
    let mut payload = payload(&[7; 90]);
    let reservation = wal.reserve(Some(&mut payload))?;
    let timestamp = {
        let mut clock = clock.lock();
        *clock += 1;
        *clock
    };
    reservation.append(Timestamp::from_raw(timestamp))
}

/// Each thread commits and syncs by itself.
fn crowd(wal: &Wal, commits: u64, clock: &parking_lot::Mutex<u64>) -> Vec<Result<(), WalError>> {
    let one = || {
        for _ in 0..commits {
            let end = append_next(wal, clock)?;
            wal.sync_to(end)?;
            assert!(wal.durable() >= end, "acknowledged at {end}, durable to {}", wal.durable());
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Counts the syncs that run at the same time, and makes them long.
fn watch(disk: &FaultDisk) -> Arc<AtomicUsize> {
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, running) = (Arc::clone(&most), AtomicUsize::new(0));
    disk.observe(move |_, call, moment| {
        if moment == Moment::During && call.op == Op::SyncData {
            seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            (0..20).for_each(|_| thread::yield_now());
            running.fetch_sub(1, Ordering::SeqCst);
        }
    });
    most
}

/// Never more than one sync at a time, however many wait.
pub(super) fn syncs_do_not_overlap(sabotages: Sabotages) -> Result<(), String> {
    let disk = FaultDisk::new(1);
    let (wal, ..) = open_with(&disk, &all(), options(sabotages)).unwrap();
    let most = watch(&disk);
    for result in crowd(&wal, 50, &parking_lot::Mutex::new(0)) {
        result.map_err(|error| error.to_string())?;
    }
    match most.load(Ordering::SeqCst) {
        1 => Ok(()),
        most => Err(format!("{most} syncs at a time")),
    }
}

#[test]
fn one_sync_runs_at_a_time() {
    syncs_do_not_overlap(Sabotages::default()).unwrap();
}

/// A sync that lasts until every committer of its round has appended leaves one more sync to do,
/// for all the others together.
#[test]
fn committers_share_syncs() {
    const ROUNDS: u64 = 100;
    let disk = FaultDisk::new(1);
    let options = WalOptions { gather_max: Duration::from_micros(60), ..small() };
    let (wal, ..) = open_with(&disk, &all(), options).unwrap();
    let appended = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&appended);
    disk.observe(move |_, call, moment| {
        let full_round = seen.load(Ordering::SeqCst).next_multiple_of(THREADS);
        if moment == Moment::During && call.op == Op::SyncData {
            while seen.load(Ordering::SeqCst) < full_round {
                thread::yield_now();
            }
        }
    });
    let clock = parking_lot::Mutex::new(0);
    let round_over = std::sync::Barrier::new(usize::try_from(THREADS).unwrap());
    let one = || {
        for _ in 0..ROUNDS {
            let end = append_next(&wal, &clock).unwrap();
            appended.fetch_add(1, Ordering::SeqCst);
            wal.sync_to(end).unwrap();
            round_over.wait();
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(one))));
    let stats = wal.stats();
    assert_eq!(stats.commits, ROUNDS * THREADS);
    assert_eq!(stats.synced_commits, stats.commits);
    assert!(stats.syncs <= 2 * ROUNDS, "{} syncs of {ROUNDS} rounds", stats.syncs);
    let (_, found) = look(&disk.crash(1), &all()).unwrap();
    let timestamps: Vec<u64> = found.iter().map(|commit| commit.0).collect();
    assert_eq!(timestamps, (1..=ROUNDS * THREADS).collect::<Vec<_>>());
}

#[test]
fn one_committer_alone_syncs_once_for_each_commit() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=20, 100);
    assert_eq!(wal.stats().syncs, 20);
}

#[test]
fn failed_sync_is_told_to_everybody() {
    for nth in [1, 5, 20] {
        let disk = FaultDisk::new(nth);
        let (wal, _) = open(&disk);
        watch(&disk);
        disk.fail_nth(Op::SyncData, nth, Fault::Io);
        let clock = parking_lot::Mutex::new(0);
        for result in crowd(&wal, 1000, &clock) {
            assert!(matches!(result, Err(WalError::Poisoned { .. })), "{result:?}");
        }
        let durable = wal.durable();
        let (recovered, _) = look(&disk.crash(nth), &all()).unwrap();
        assert!(recovered.end >= durable);
    }
}

#[test]
fn leader_that_panics_poisons() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let end = commit(&wal, 1, &[1; 10]).unwrap();
    disk.observe(|_, call, _| assert!(call.op != Op::SyncData, "a bug in the storage"));
    let panicked = thread::scope(|scope| scope.spawn(|| wal.sync_to(end)).join().is_err());
    assert!(panicked);
    assert!(matches!(wal.sync_to(end), Err(WalError::Poisoned { .. })));
}

#[test]
fn spares_are_made_and_segments_released_beside_commits() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let done = std::sync::atomic::AtomicBool::new(false);
    let released = thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            let mut needed = Lsn::ZERO;
            while !done.load(Ordering::SeqCst) {
                wal.prepare_spare().unwrap();
                let end = wal.durable();
                wal.read::<WalError>(needed, end, &mut |_| Ok(())).unwrap();
                needed = end;
                wal.release(needed).unwrap();
            }
            needed
        });
        for result in crowd(&wal, 500, &parking_lot::Mutex::new(0)) {
            result.unwrap();
        }
        done.store(true, Ordering::SeqCst);
        upkeep.join().expect("upkeep does not panic")
    });
    let (recovered, _) = look(&disk.crash(1), &from(released)).unwrap();
    assert_eq!(recovered.end, wal.position());
}

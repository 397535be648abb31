//! Models of the log's floor where it passes the snapshot of a transaction that still runs: its
//! window is given up, and what was kept for it may go.
//!
//! Keys stand for records: one that was buried and has another record is another key, so only the
//! floor can tell who read the one from who writes the other.

use crate::epoch::Guard;
use crate::id::Timestamp;
use crate::ssi::{Kind, Refusal, Registration, Rules};
use crate::ssi_models::{
    Keys, Outcome, Role, Shared, begin, commit, commit_admitted, explore, play, rules, writer,
};

/// The key that an old transaction reads, and the same when it has another record.
const READ: u8 = 1;
const READ_ANEW: u8 = 2;
const OTHERS: u8 = 4;

/// What became of a role.
enum Act {
    /// When the old transaction committed, if it did.
    Old(Option<Timestamp>),
    /// After which moment nobody commits behind the floor, and a commit that may have buried what
    /// the old one read, and written it anew. None if the old one held the floor up by itself.
    Forcer(Option<(Timestamp, Timestamp)>),
}

/// A log without room, and a transaction that has begun there.
fn short_of_memory() -> (Shared, Registration<Keys>) {
    let shared = Shared::new(Rules { retained_bytes_max: 1, ..rules() });
    let old = begin(&shared);
    (shared, old)
}

/// Forces the floor over the old one's snapshot, asks who may still commit behind it, and writes
/// what may be buried by then.
fn forcer() -> Role<Act> {
    Box::new(|shared| {
        let guard = shared.collector.pin();
        let _ = commit(&shared.log, begin(shared), Keys::new(0, OTHERS), &guard);
        if shared.log.passed() == Timestamp::ZERO {
            return Act::Forcer(None);
        }
        let last = shared.log.last_behind(&guard);
        // Refused where the old one has ended and forces the floor itself.
        let anew = commit(&shared.log, begin(shared), Keys::new(0, READ_ANEW), &guard);
        Act::Forcer(Some((last, anew.unwrap_or(Timestamp::MAX))))
    })
}

/// The old one commits by then or is refused, and not behind who has seen its window given up.
fn check(acts: &[Act]) {
    let [Act::Old(old), Act::Forcer(forced)] = acts else { panic!("two roles") };
    if let (Some(old), Some((last, anew))) = (old, forced) {
        assert!(old <= last, "committed at {old}, after {last}");
        assert!(old < anew, "not compared with what was written at {anew}");
    }
}

fn lost<T>(refused: Result<T, Refusal>) -> Option<T> {
    refused.inspect_err(|refusal| assert_eq!(*refusal, Refusal::WindowLost)).ok()
}

/// A transaction commits, or its window was given up. What it commits behind left just before, so
/// nobody else may have found that yet.
pub fn given_up_and_commit(on_main: usize) -> usize {
    explore("given_up_and_commit", on_main, move || {
        let (shared, old) = short_of_memory();
        let old: Role<Act> = Box::new(move |shared| {
            let guard = shared.collector.pin();
            let left = shared.log.begin(Kind::Untracked, None, &guard);
            let leaving = shared.log.prepare(&left, None, Keys::new(0, 0), &guard);
            let pending = shared.log.prepare(&old, None, Keys::new(READ, OTHERS), &guard);
            shared.log.admit(&old);
            let leaving = shared.log.commit(leaving, &left, &guard).expect("nobody's write");
            let committed = commit_admitted(&shared.log, old, pending, &guard);
            let _ = shared.log.finish(leaving, left, &guard);
            Act::Old(lost(committed))
        });
        check(&play(shared, vec![old, forcer()], on_main));
    })
}

/// A transaction that only wrote, over what it saw.
pub fn given_up_and_write(on_main: usize) -> usize {
    explore("given_up_and_write", on_main, move || {
        let (shared, old) = short_of_memory();
        let old: Role<Act> = Box::new(move |shared| {
            let guard = shared.collector.pin();
            Act::Old(lost(commit(&shared.log, old, Keys::new(0, READ), &guard)))
        });
        check(&play(shared, vec![old, forcer()], on_main));
    })
}

/// One that only read: when it says that it did is a moment at which all of it was there.
pub fn given_up_and_read(on_main: usize) -> usize {
    explore("given_up_and_read", on_main, move || {
        let (shared, old) = short_of_memory();
        let old: Role<Act> = Box::new(move |shared| {
            let guard = shared.collector.pin();
            let read = shared.log.commit_reads(&old, None, Keys::new(READ, 0), &guard);
            shared.log.leave(old);
            Act::Old(lost(read))
        });
        check(&play(shared, vec![old, forcer()], on_main));
    })
}

/// Short of memory, the floor passes a transaction that still runs: it is refused or commits
/// rightly, and never looks at freed nodes.
pub fn forced_floor(on_main: usize) -> usize {
    explore("forced_floor", on_main, move || {
        let shared = Shared::new(Rules { retained_bytes_max: 1, ..rules() });
        let (old, young) = (begin(&shared), begin(&shared));
        let forcer: Role<Outcome> = Box::new(|shared| {
            let guard = shared.collector.pin();
            let result = commit(&shared.log, young, Keys::new(2, 1), &guard);
            drop(guard);
            shared.collector.collect();
            Outcome::Committed(result)
        });
        let results = play(shared, vec![writer(old, 1, 2), forcer], on_main);
        match (results[0].committed(), results[1].committed()) {
            (Err(Refusal::WindowLost | Refusal::Cycle(_)), Ok(_)) => {}
            (Ok(_), Err(Refusal::WindowLost | Refusal::Cycle(_))) => {}
            both => panic!("a write skew lets one commit: {both:?}"),
        }
    })
}

//! Defects that the simulator has found, each by itself.

use palisade::testing::{Fault, FaultDisk, Op, Sabotages};

use crate::engine::{Engine, Handle, Setup, recover};
use crate::model::{NAMES, Plan, State, Step, Value};
use crate::plan;
use crate::rng::Rng;
use crate::witness::crash_at_calls;

fn setup(seed: u64) -> Setup {
    plan::setup(&mut Rng::new(seed), Sabotages::default(), false)
}

/// A database with an entry in each bucket, closed.
fn filled(disk: &FaultDisk, seed: u64) -> State {
    let (mut engine, _) = Engine::open(disk, &setup(seed)).unwrap();
    let mut state = State::default();
    for (tag, name) in (1..).zip(NAMES) {
        engine.handles.insert(name, Handle::open(&engine.db, name).unwrap());
        let steps = vec![Step::Insert(name, 1, Value { tag, length: 40 })];
        state = state.with_bucket(name).after(&steps);
        engine.transact(&Plan { steps, is_raised: false, rolls_back: false }).unwrap();
    }
    engine.db.close().unwrap();
    state
}

/// Recovery recycled a last segment without commits before it had made the next one. A power cut
/// between the two left a manifest with a clean end in a segment that was gone, and that was
/// reported as damage.
#[test]
fn clean_end_in_an_empty_segment_survives_the_next_opening() {
    for seed in 0..200 {
        let disk = FaultDisk::new(seed);
        let state = filled(&disk, seed);
        // A life that commits nothing.
        drop(Engine::open(&disk, &setup(seed + 1000)).unwrap());
        let taken = crash_at_calls(&disk, seed, 1);
        drop(Engine::open(&disk, &setup(seed + 2000)).unwrap());
        for (nth, image) in taken.take().into_iter().enumerate() {
            let found = recover(&image, &setup(seed + 3000));
            let found = found.unwrap_or_else(|what| panic!("seed {seed}, image {nth}: {what}"));
            assert_eq!(found.0, state, "seed {seed}, image {nth}");
        }
    }
}

/// A checkpoint that failed at its second delta gave the id of the first one again: the next one
/// overwrote its file and was then refused by its own check.
#[test]
fn checkpoint_that_fails_among_deltas_can_be_made_again() {
    for nth in 1..=6 {
        let disk = FaultDisk::new(nth);
        let state = filled(&disk, nth);
        let (engine, _) = Engine::open(&disk, &setup(nth + 1000)).unwrap();
        disk.fail_nth(Op::SyncAll, nth, Fault::Io);
        assert!(engine.db.checkpoint().is_err(), "delta {nth} cannot be synced");
        assert_eq!(engine.failure(), None, "a table that failed harms nobody");
        engine.db.checkpoint().unwrap();
        engine.db.clone().close().unwrap();
        drop(engine);
        assert_eq!(recover(&disk.crash(nth), &setup(nth + 2000)).unwrap().0, state);
    }
}

/// A close after a life without commits noted the last commit of what was left of the log, which
/// was none after a checkpoint: times began again at zero.
#[test]
fn times_go_on_after_a_life_without_commits() {
    let disk = FaultDisk::new(1);
    filled(&disk, 1);
    let mut newest = 0;
    for life in 0..4 {
        let (engine, recovery) = Engine::open(&disk, &setup(life)).unwrap();
        assert!(recovery.newest.get() >= newest.max(6), "life {life}: {recovery:?}");
        newest = recovery.newest.get();
        engine.db.checkpoint().unwrap();
        engine.db.clone().close().unwrap();
    }
}

//! Short histories, all of them: every sequence of a few calls, a crash at every call to the disk,
//! and another one at every call of the recovery. And every call that can fail, failing once.
//!
//! Most defects of this kind need no more than a few calls in the right order.

use std::sync::Arc;

use palisade::testing::{Fault, Sabotages};

use crate::life::Course;
use crate::model::{Name, Plan, Step, Value};
use crate::plan::{Failing, Op, Scene};
use crate::rng::Rng;
use crate::witness::Effort;

const A: Name = "numbers 0";
const B: Name = "words 0";
const C: Name = "numbers 1";
/// Longer than a segment.
const LONG: usize = 18_000;

fn put(name: Name, key: u16, length: usize) -> Plan {
    let tag = u32::from(key) << 16 | u32::try_from(length).expect("lengths are small");
    let steps = vec![Step::Insert(name, key, Value { tag, length })];
    Plan { steps, is_raised: false, rolls_back: false }
}

/// The calls of which all sequences are tried. `place` makes the writes of a sequence differ.
fn alphabet(place: u16) -> Vec<Op> {
    let key = 10 + place;
    let raised = Plan { is_raised: true, ..put(A, key, 30) };
    let clear = Plan { steps: vec![Step::Clear(A)], ..raised.clone() };
    let both =
        Plan { steps: [put(A, 1, 50).steps, put(B, key, 50).steps].concat(), ..raised.clone() };
    vec![
        Op::Transact(put(A, key, 500)),
        Op::Transact(put(A, key, LONG)),
        Op::Transact(raised),
        Op::Transact(Plan { is_raised: false, ..clear }),
        Op::Transact(Plan { is_raised: false, ..both }),
        Op::Checkpoint(Vec::new()),
        Op::Checkpoint(vec![put(A, 20 + place, 40), put(A, 30 + place, 3500)]),
        Op::Sync(vec![put(A, 40 + place, 40)]),
        Op::Open(B),
        Op::Drop(A),
        Op::Rename(A, C),
        Op::Open(C),
    ]
}

/// How many sequences there are of this length.
pub(crate) fn sequences(length: u32) -> u64 {
    (alphabet(0).len() as u64).pow(length)
}

/// The lives around the `nth` sequence: some entries, a checkpoint and more entries before it, a
/// little work after it.
fn script(mut nth: u64, length: u32) -> Vec<Vec<Op>> {
    let before = vec![
        Op::Open(A),
        Op::Transact(put(A, 1, 200)),
        Op::Transact(put(A, 2, 2000)),
        Op::Checkpoint(Vec::new()),
        Op::Transact(put(A, 3, 20)),
    ];
    let mut middle = Vec::new();
    for place in 0..length {
        let letters = alphabet(u16::try_from(place).expect("sequences are short"));
        let count = letters.len() as u64;
        middle.extend(letters.into_iter().nth(usize::try_from(nth % count).expect("is small")));
        nth /= count;
    }
    let after = vec![Op::Transact(put(A, 4, 30)), Op::Open(B), Op::Transact(put(B, 4, 30))];
    vec![before, middle, after]
}

/// The course of the `nth` sequence of this length.
pub(crate) fn course(nth: u64, length: u32) -> Course {
    Course {
        scene: Scene::Calm,
        effort: Effort { percent: 100, images: 2, deep_every: 16, deep_calls: 1 },
        lives: 3,
        script: Some(Arc::new(script(nth, length))),
        ..Course::of(nth)
    }
}

const FAULTS: [Fault; 5] =
    [Fault::Io, Fault::NoSpace, Fault::Interrupted, Fault::Short, Fault::WriteBack];

/// A course in which one call fails: the `nth` of all pairs of a call and a failure.
pub(crate) fn failing(nth: u64) -> Course {
    let kinds = FAULTS.len() as u64;
    let fault = FAULTS[usize::try_from(nth % kinds).expect("is small")];
    let (call, which) = (1 + nth / kinds % FAILING_CALLS, nth / kinds / FAILING_CALLS);
    let mut rng = Rng::new(which);
    let letters = alphabet(0).len() as u64;
    let sequence = (0..5).fold(0, |all, _| all * letters + u64::from(rng.below(12)));
    Course {
        scene: Scene::Faults,
        sabotages: Sabotages::default(),
        effort: Effort { percent: 8, images: 1, deep_every: 24, deep_calls: 3 },
        lives: 3,
        script: Some(Arc::new(script(sequence, 5))),
        failing: Some((1, Failing::At(call, fault))),
        ..Course::of(which)
    }
}

/// Calls to the disk that a life of a script makes, at most.
const FAILING_CALLS: u64 = 150;

/// How many pairs there are for each history.
pub(crate) fn pairs() -> u64 {
    FAULTS.len() as u64 * FAILING_CALLS
}

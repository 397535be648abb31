//! Sees every call that the engine makes to its disk, takes crash images of it while the engine
//! goes on, opens each of them, and compares what is found with what may be there.
//!
//! ```text
//! engine ──call──► disk        image ──open──► state ── one of the window's?
//!                   │ observe    ▲ │ crash while it recovers, and after   the same again
//!                   └──────────► witness
//! ```
//!
//! 1. One thread drives the engine, and a call to it ends before the next one begins, but for the
//!    transactions that the witness commits from inside a checkpoint or a sync.
//! 2. Whoever calls the engine does not hold the lock of the witness.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade::testing::{Call, FaultDisk, Moment, Op as DiskOp, Sabotages};
use palisade::{Error, Receipt};

use crate::engine::{Engine, recover};
use crate::model::{Plan, State, Window};
use crate::plan;
use crate::rng::Rng;

/// What was done, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Crash states that were opened and compared.
    pub(crate) states: u64,
    /// Of these: the process died and the system went on.
    pub(crate) kills: u64,
    /// Of these: taken while a crash state was being recovered, or right after.
    pub(crate) recoveries: u64,
    pub(crate) runs: u64,
    pub(crate) lives: u64,
    pub(crate) commits: u64,
    pub(crate) interludes: u64,
    pub(crate) checkpoints: u64,
    /// Calls to the engine that were refused, and those after which it was poisoned.
    pub(crate) refusals: u64,
    pub(crate) poisonings: u64,
    /// Values that left memory in these lives, and that came back.
    pub(crate) departures: u64,
    pub(crate) fetches: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.kills += other.kills;
        self.recoveries += other.recoveries;
        self.runs += other.runs;
        self.lives += other.lives;
        self.commits += other.commits;
        self.interludes += other.interludes;
        self.checkpoints += other.checkpoints;
        self.refusals += other.refusals;
        self.poisonings += other.poisonings;
        self.departures += other.departures;
        self.fetches += other.fetches;
    }
}

/// How closely one looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Of a hundred moments so many are looked at.
    pub(crate) percent: u32,
    /// Crash states of each of them.
    pub(crate) images: u32,
    /// One state in so many is crashed again during its recovery ..
    pub(crate) deep_every: u32,
    /// .. at one changing call in so many.
    pub(crate) deep_calls: u32,
}

impl Effort {
    pub(crate) const USUAL: Self = Self { percent: 100, images: 1, deep_every: 24, deep_calls: 3 };
}

/// One state in so many is crashed again once it was recovered.
const AGAIN_EVERY: u32 = 4;

/// What a crash state may hold.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    pub(crate) now: Vec<Arc<State>>,
    /// If the power goes before somebody has recovered it.
    pub(crate) later: Vec<Arc<State>>,
}

impl Allowed {
    pub(crate) fn only(states: Vec<Arc<State>>) -> Self {
        Self { now: states.clone(), later: states }
    }
}

/// A crash state that another life begins with.
#[derive(Debug)]
pub(crate) struct Heir {
    pub(crate) disk: FaultDisk,
    pub(crate) allowed: Allowed,
}

/// What is known of one life, and what was seen of it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Witness {
    pub(crate) window: Window,
    /// While the database is being opened: what a crash may leave.
    pub(crate) opening: Option<Allowed>,
    pub(crate) engine: Option<Engine>,
    /// Transactions to commit inside of the call under way.
    pub(crate) interludes: Vec<Plan>,
    /// Whether a commit is durable when it returns.
    pub(crate) is_durable: bool,
    /// Whether a commit inside of a sync of the log may wait for that sync.
    pub(crate) waits_for_syncs: bool,
    is_busy: bool,
    pub(crate) rng: Rng,
    sabotages: Sabotages,
    effort: Effort,
    is_limited: bool,
    seen: u32,
    pub(crate) heir: Option<Heir>,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<String>,
    /// The last error of an interlude.
    pub(crate) refused: Option<Error>,
}

/// The witness, as the driver and the observer hold it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Witness>>);

impl Shared {
    pub(crate) fn new(rng: Rng, sabotages: Sabotages, effort: Effort, is_limited: bool) -> Self {
        Self(Arc::new(Mutex::new(Witness {
            window: Window::new(Arc::default()),
            opening: None,
            engine: None,
            interludes: Vec::new(),
            is_durable: false,
            waits_for_syncs: false,
            is_busy: false,
            rng,
            sabotages,
            effort,
            is_limited,
            seen: 0,
            heir: None,
            tally: Tally::default(),
            failure: None,
            refused: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Witness> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees every call to this disk from now on.
    pub(crate) fn watch(&self, disk: &FaultDisk) {
        let shared = self.clone();
        disk.observe(move |disk, call, moment| shared.see(disk, call, moment));
    }

    fn see(&self, disk: &FaultDisk, call: &Call, moment: Moment) {
        loop {
            let Some((engine, plan)) = self.lock().interlude(call, moment) else { break };
            let outcome = self.transact(&engine, &plan);
            let mut witness = self.lock();
            witness.is_busy = false;
            witness.tally.interludes += 1;
            witness.refused = outcome.err();
        }
        if moment == Moment::During || call.op.changes() {
            let place =
                format_args!("{moment:?} call {}, {:?} of {}", call.number, call.op, call.path);
            self.lock().look(disk, &place);
        }
    }

    /// Commits a transaction, and notes what it makes of the database.
    pub(crate) fn transact(&self, engine: &Engine, plan: &Plan) -> Result<Option<Receipt>, Error> {
        let full = {
            let mut witness = self.lock();
            if !plan.rolls_back {
                let next = witness.window.current().after(&plan.steps);
                witness.window.begin(next);
            }
            witness.tally.commits += 1;
            witness.is_durable || plan.is_raised
        };
        let outcome = engine.transact(plan);
        if plan.rolls_back {
            return outcome;
        }
        let outcome = self.conclude(engine, outcome, full);
        if let Ok(Some(receipt)) = &outcome
            && receipt.position().is_some()
        {
            let mut witness = self.lock();
            if let Err(what) = witness.window.stamp(receipt.timestamp().get()) {
                witness.fail(what);
            }
        }
        outcome
    }

    /// Notes the end of a call that was to change the database.
    pub(crate) fn conclude<T>(
        &self,
        engine: &Engine,
        outcome: Result<T, Error>,
        is_durable: bool,
    ) -> Result<T, Error> {
        let mut witness = self.lock();
        match &outcome {
            Ok(_) => {
                witness.window.succeed();
                if is_durable {
                    let number = witness.window.number();
                    witness.window.synced(number);
                }
            }
            // Nobody knows whether it stands on the device.
            Err(_) if engine.failure().is_some() => {}
            Err(_) => witness.window.fail(),
        }
        outcome
    }
}

impl Witness {
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.failure.get_or_insert(what);
    }

    /// A transaction to commit at this moment, if one is waiting and nothing is in its way: it
    /// must not need what the engine holds there.
    fn interlude(&mut self, call: &Call, moment: Moment) -> Option<(Engine, Plan)> {
        if self.is_busy || self.interludes.is_empty() || self.refused.is_some() {
            return None;
        }
        let file = call.path.rsplit('/').next().unwrap_or_default();
        let is_free = match moment {
            Moment::Before => file.starts_with("tab-") || file.starts_with("MANIFEST"),
            Moment::During => {
                file.starts_with("tab-") || call.op == DiskOp::SyncData && !self.waits_for_syncs
            }
        };
        if !is_free || !self.rng.percent(50) {
            return None;
        }
        let engine = self.engine.clone()?;
        self.is_busy = true;
        self.interludes.pop().map(|plan| (engine, plan))
    }

    /// Takes crash images at this moment and judges them.
    pub(crate) fn look(&mut self, disk: &FaultDisk, place: &dyn Display) {
        if self.heir.is_some() && !self.rng.percent(self.effort.percent) {
            return;
        }
        for _ in 0..self.effort.images {
            if self.failure.is_some() {
                return;
            }
            let (seed, is_kill) = (self.rng.next(), self.rng.percent(12));
            let take = || {
                let image = if is_kill { disk.kill(seed) } else { disk.crash(seed) };
                image.set_capacity(None);
                image
            };
            let (cut, kill) = match &self.opening {
                Some(Allowed { now, later }) => (later.clone(), now.clone()),
                None => (self.window.after_power_cut().to_vec(), self.window.after_kill().to_vec()),
            };
            let allowed = Allowed { now: if is_kill { kill } else { cut.clone() }, later: cut };
            self.tally.kills += u64::from(is_kill);
            if let Err(what) = self.judge(&take(), &allowed) {
                let how = if is_kill { "the process dies" } else { "the power goes" };
                self.fail(format!("{how} {place}: {what}"));
            }
            self.seen += 1;
            if self.rng.below(self.seen) == 0 {
                self.heir = Some(Heir { disk: take(), allowed });
            }
        }
    }

    /// Begins to count anew for the choice of the heir.
    pub(crate) fn forget_heir(&mut self) {
        self.heir = None;
        self.seen = 0;
    }

    /// Judges one state.
    pub(crate) fn judge(
        &mut self,
        disk: &FaultDisk,
        allowed: &Allowed,
    ) -> Result<Arc<State>, String> {
        let mut judge = Judge {
            rng: &mut self.rng,
            tally: &mut self.tally,
            sabotages: self.sabotages,
            effort: self.effort,
            is_limited: self.is_limited,
            depth: 0,
        };
        judge.judge(disk, allowed)
    }
}

/// Opens crash states and compares.
struct Judge<'a> {
    rng: &'a mut Rng,
    tally: &'a mut Tally,
    sabotages: Sabotages,
    effort: Effort,
    is_limited: bool,
    depth: u32,
}

impl Judge<'_> {
    /// The state that the image holds, which must be one of those allowed.
    fn judge(&mut self, image: &FaultDisk, allowed: &Allowed) -> Result<Arc<State>, String> {
        self.tally.states += 1;
        let setup = plan::setup(self.rng, self.sabotages, self.is_limited);
        let is_deep = self.depth == 0 && self.rng.below(self.effort.deep_every) == 0;
        let every = self.effort.deep_calls;
        let inner = is_deep.then(|| crash_at_calls(image, self.rng.next(), every));
        let (state, recovery, db) =
            recover(image, &setup).map_err(|what| format!("it does not open: {what}"))?;
        let found = find(&state, &allowed.now, recovery.newest.get()).ok_or_else(|| {
            let known = allowed.now.first().map(|first| state.differs_from(first));
            let newest = allowed.now.last().map(|last| state.differs_from(last));
            format!(
                "none of {} states; against the oldest: {}; against the newest: {}; {recovery:?}",
                allowed.now.len(),
                known.unwrap_or_default(),
                newest.unwrap_or_default()
            )
        })?;
        let again = self.depth == 0 && self.rng.below(AGAIN_EVERY) == 0;
        let after = again.then(|| image.crash(self.rng.next()));
        // So that closing it costs nothing.
        image.power_off();
        drop(db);
        self.depth += 1;
        for image in inner.into_iter().flat_map(Taken::take) {
            self.tally.recoveries += 1;
            let judged = self.judge(&image, &Allowed::only(allowed.later.clone()));
            judged.map_err(|what| format!("the power goes during recovery: {what}"))?;
        }
        if let Some(after) = after {
            self.tally.recoveries += 1;
            let judged = self.judge(&after, &Allowed::only(vec![Arc::clone(&found)]));
            judged.map_err(|what| format!("the power goes after recovery: {what}"))?;
        }
        self.depth -= 1;
        Ok(found)
    }
}

/// The newest equal state without commits behind `newest`.
fn find(state: &State, allowed: &[Arc<State>], newest: u64) -> Option<Arc<State>> {
    let print = state.print();
    let mut same = allowed.iter().rev().filter(|known| known.print() == print);
    same.find(|known| ***known == *state && known.stamp() <= newest).cloned()
}

/// Images taken while another disk is being recovered.
pub(crate) struct Taken(Arc<Mutex<Vec<FaultDisk>>>);

impl Taken {
    pub(crate) fn take(self) -> Vec<FaultDisk> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// From now on takes one image for so many changing calls.
pub(crate) fn crash_at_calls(disk: &FaultDisk, seed: u64, every: u32) -> Taken {
    let images = Arc::new(Mutex::new(Vec::new()));
    let rng = Mutex::new(Rng::new(seed));
    let to = Arc::clone(&images);
    disk.observe(move |disk, call, _| {
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        if call.op.changes() && rng.below(every) == 0 {
            let image = disk.crash(rng.next());
            to.lock().unwrap_or_else(PoisonError::into_inner).push(image);
        }
    });
    Taken(images)
}

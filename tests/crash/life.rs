//! A run: several lives of one database, each of which ends in a crash, a close or a poisoning,
//! and goes on from what that left.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade::testing::{FaultDisk, Sabotages};
use palisade::{Error, Receipt};

use crate::engine::{Engine, Handle, Setup, blames_the_disk, recover, tell, wants_room};
use crate::model::{Name, State, Window};
use crate::plan::{self, Failing, Op, Planner, Scene};
use crate::rng::Rng;
use crate::witness::{Allowed, Effort, Heir, Shared, Tally};

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) seed: u64,
    pub(crate) scene: Scene,
    pub(crate) sabotages: Sabotages,
    pub(crate) effort: Effort,
    pub(crate) lives: u32,
    pub(crate) ops_max: u32,
    /// Under a limit, so that values leave memory and come back.
    pub(crate) is_limited: bool,
    /// What each life does, instead of what chance has it do; all but the last end in a close.
    pub(crate) script: Option<Arc<Vec<Vec<Op>>>>,
    /// What goes wrong in which life, instead of what chance has go wrong.
    pub(crate) failing: Option<(u32, Failing)>,
}

impl Course {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            seed,
            scene: Scene::pick(&mut rng),
            sabotages: Sabotages::default(),
            effort: Effort::USUAL,
            lives: 2 + rng.below(4),
            ops_max: 60,
            is_limited: false,
            script: None,
            failing: None,
        }
    }
}

/// Runs the course. What was seen, and what went wrong if something did.
pub(crate) fn run(course: &Course) -> (Tally, Option<String>) {
    let mut rng = Rng::new(course.seed ^ 0xc0_a1e5);
    let is_limited = course.is_limited;
    let planner = Planner::new(Rng::new(rng.next()), is_limited);
    let shared = Shared::new(Rng::new(rng.next()), course.sabotages, course.effort, is_limited);
    let empty: Arc<State> = Arc::default();
    let mut heir = Heir { disk: FaultDisk::new(rng.next()), allowed: Allowed::only(vec![empty]) };
    let mut driver = Driver {
        course,
        planner,
        shared,
        life: 0,
        is_full: false,
        failing: None,
        receipt: None,
        last: String::new(),
    };
    let mut failure = None;
    for life in 0..course.lives {
        driver.life = life;
        match driver.live(heir) {
            Ok(next) => heir = next,
            Err(what) => {
                failure = Some(format!("life {life}, {}: {what}", driver.last));
                break;
            }
        }
    }
    let mut tally = driver.shared.lock().tally;
    tally.runs += 1;
    (tally, failure)
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    Refused,
    Poisoned,
}

struct Driver<'a> {
    course: &'a Course,
    planner: Planner,
    shared: Shared,
    life: u32,
    /// Whether the device is full.
    is_full: bool,
    failing: Option<Failing>,
    receipt: Option<(usize, Receipt)>,
    /// What was done last.
    last: String,
}

impl Driver<'_> {
    /// One life on the disk; the next begins with what is returned.
    fn live(&mut self, heir: Heir) -> Result<Heir, String> {
        let Heir { disk, allowed } = heir;
        self.shared.lock().tally.lives += 1;
        self.is_full = false;
        self.last = String::from("found");
        let copy = disk.kill(self.planner.rng.next());
        let state = self.shared.lock().judge(&copy, &allowed)?;
        self.shared.lock().forget_heir();
        self.shared.lock().opening = Some(allowed);
        self.shared.watch(&disk);
        self.failing = match self.course.failing {
            Some((life, failing)) => Some(failing).filter(|_| life == self.life),
            None => (self.course.scene == Scene::Faults).then(|| self.planner.fault()),
        };
        if let Some(failing) = self.failing {
            failing.plan(&disk);
        }
        let outcome = self.work(&disk, &state);
        disk.observe(|_, _, _| {});
        let mut witness = self.shared.lock();
        if let Some(engine) = witness.engine.take() {
            let counts = engine.db.stats();
            witness.tally.departures += counts.departures;
            witness.tally.fetches += counts.fetches;
            drop(witness);
            // Dropped without the lock: closing is seen, too.
            drop(engine);
            witness = self.shared.lock();
        }
        if let Some(failure) = witness.failure.take() {
            return Err(failure);
        }
        drop(witness);
        match outcome? {
            Some(next) => Ok(next),
            None => self.shared.lock().heir.take().ok_or("no call was seen".to_owned()),
        }
    }

    /// Opens the database and works. What the next life begins with, if it is the end of this one
    /// and not one of its moments.
    fn work(&mut self, disk: &FaultDisk, state: &State) -> Result<Option<Heir>, String> {
        let (mut engine, newest) = self.open(disk)?;
        {
            let mut witness = self.shared.lock();
            witness.opening = None;
            witness.window = Window::new(Arc::new(state.recovered(newest)));
            witness.engine = Some(engine.clone());
        }
        self.receipt = None;
        let mut script =
            self.course.script.as_ref().map(|script| script[self.life as usize].iter());
        let share = if script.is_some() { 100 } else { 60 };
        let names: Vec<Name> = state.names().collect();
        for name in names {
            if self.planner.rng.percent(share)
                && self.call(disk, &mut engine, Op::Open(name))? == Ended::Poisoned
            {
                return self.after_poison(disk, &engine).map(|()| None);
            }
        }
        let mut left = 1 + self.planner.rng.below(self.course.ops_max);
        loop {
            self.change_capacity(disk);
            let open: BTreeSet<Name> = engine.handles.keys().copied().collect();
            let current = Arc::clone(self.shared.lock().window.current());
            let op = match &mut script {
                Some(ops) => ops.next().cloned(),
                None => (left > 0).then(|| self.planner.op(&current, &open)),
            };
            left = left.saturating_sub(1);
            let Some(op) = op else { break };
            if op.fits(&current, &open) && self.call(disk, &mut engine, op)? == Ended::Poisoned {
                return self.after_poison(disk, &engine).map(|()| None);
            }
        }
        // The witness sees what reading asks of the disk, so it is not locked meanwhile.
        let states = self.shared.lock().window.after_kill().to_vec();
        engine.shows_one_of(&states)?;
        match self.planner.rng.below(100) {
            _ if self.course.script.is_some() && self.life + 1 < self.course.lives => {
                self.close(disk, engine, true)
            }
            0..25 => self.close(disk, engine, true),
            25..35 => self.close(disk, engine, false),
            _ => Ok(None),
        }
    }

    /// Opens the database; a failing call may make that take more than one attempt.
    fn open(&mut self, disk: &FaultDisk) -> Result<(Engine, u64), String> {
        loop {
            let setup = self.setup();
            self.last = format!("opening, {setup:?}");
            self.shared.lock().waits_for_syncs =
                setup.is_full() || setup.flush_after_commits.is_some();
            match Engine::open(disk, &setup) {
                Ok((engine, recovery)) => {
                    self.shared.lock().is_durable = setup.is_full();
                    return Ok((engine, recovery.newest.get()));
                }
                Err(error) => self.excuse(&error)?,
            }
            if self.is_full {
                disk.set_capacity(None);
                self.is_full = false;
            }
        }
    }

    fn setup(&mut self) -> Setup {
        let Course { sabotages, is_limited, .. } = *self.course;
        plan::setup(&mut self.planner.rng, sabotages, is_limited)
    }

    /// Whether nothing goes wrong that the engine may tell of.
    fn is_calm(&self) -> bool {
        match self.course.scene {
            Scene::Calm => true,
            Scene::Faults => self.failing.is_none_or(Failing::is_harmless),
            Scene::Full => !self.is_full,
        }
    }

    /// An error is a failure of the run unless something was made to go wrong.
    fn excuse(&mut self, error: &Error) -> Result<(), String> {
        self.shared.lock().tally.refusals += 1;
        if self.course.is_limited && wants_room(error) {
            return Ok(());
        }
        if self.is_calm() || blames_the_disk(error) {
            return Err(format!("refused: {}", tell(error)));
        }
        Ok(())
    }

    /// One call to the engine, and a look at the disk after it.
    fn call(&mut self, disk: &FaultDisk, engine: &mut Engine, op: Op) -> Result<Ended, String> {
        self.last = format!("{op:?}");
        let outcome = self.perform(engine, op);
        self.shared.lock().engine = Some(engine.clone());
        self.shared.lock().interludes.clear();
        let interlude = self.shared.lock().refused.take();
        for error in outcome.as_ref().err().into_iter().chain(&interlude) {
            self.excuse(error)?;
        }
        self.shared.lock().look(disk, &"after the call");
        if let Some(failure) = self.shared.lock().failure.take() {
            return Err(failure);
        }
        if let Some(cause) = engine.failure() {
            if self.course.scene != Scene::Faults || self.is_calm() {
                return Err(format!("poisoned: {cause}"));
            }
            return Ok(Ended::Poisoned);
        }
        if outcome.is_ok() && interlude.is_none() {
            return Ok(Ended::Well);
        }
        let states = self.shared.lock().window.after_power_cut().to_vec();
        engine.shows_one_of(&states)?;
        Ok(Ended::Refused)
    }

    fn perform(&mut self, engine: &mut Engine, op: Op) -> Result<(), Error> {
        let current = Arc::clone(self.shared.lock().window.current());
        match op {
            Op::Transact(plan) => {
                let receipt = self.shared.transact(engine, &plan)?;
                let number = self.shared.lock().window.number();
                self.receipt = receipt.map(|receipt| (number, receipt)).or(self.receipt);
                Ok(())
            }
            Op::Open(name) => {
                if current.content(name).is_some() {
                    engine.handles.insert(name, Handle::open(&engine.db, name)?);
                    return Ok(());
                }
                let open = |engine: &mut Engine| {
                    let handle = Handle::open(&engine.db, name)?;
                    engine.handles.insert(name, handle);
                    Ok(())
                };
                self.change(engine, current.with_bucket(name), open)
            }
            Op::Drop(name) => self.change(engine, current.without_bucket(name), |engine| {
                assert!(engine.db.drop_bucket(name)?, "the bucket was there");
                engine.handles.remove(name);
                Ok(())
            }),
            Op::Rename(from, to) => self.change(engine, current.with_name(from, to), |engine| {
                engine.db.rename_bucket(from, to)?;
                if let Some(handle) = engine.handles.remove(from) {
                    engine.handles.insert(to, handle);
                }
                Ok(())
            }),
            Op::Checkpoint(plans) => {
                self.shared.lock().interludes = plans;
                self.shared.lock().tally.checkpoints += 1;
                engine.db.checkpoint().map(drop)
            }
            Op::Sync(plans) => {
                let number = self.shared.lock().window.number();
                self.shared.lock().interludes = plans;
                engine.db.sync()?;
                self.shared.lock().window.synced(number);
                Ok(())
            }
            Op::Wait => self.wait(engine),
            Op::Vacuum => {
                engine.db.vacuum(usize::MAX);
                Ok(())
            }
        }
    }

    /// A change of the catalog.
    fn change(
        &mut self,
        engine: &mut Engine,
        next: State,
        change: impl FnOnce(&mut Engine) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.shared.lock().window.begin(next);
        let outcome = change(engine);
        let is_durable = self.shared.lock().is_durable;
        self.shared.conclude(engine, outcome, is_durable)
    }

    fn wait(&mut self, engine: &Engine) -> Result<(), Error> {
        let Some((number, receipt)) = self.receipt else { return Ok(()) };
        engine.db.wait_durable(&receipt)?;
        if receipt.position().is_some() {
            self.shared.lock().window.synced(number);
        }
        Ok(())
    }

    /// In a run with a full device: fills it, or makes room again.
    fn change_capacity(&mut self, disk: &FaultDisk) {
        if self.course.scene == Scene::Full && self.planner.rng.percent(20) {
            self.is_full = !self.is_full;
            let bytes = 4096 * u64::from(self.planner.rng.below(24));
            disk.set_capacity(self.is_full.then_some(bytes));
        }
    }

    /// After a failed write or sync: readers see what they saw, and writers are told why not.
    fn after_poison(&mut self, disk: &FaultDisk, engine: &Engine) -> Result<(), String> {
        self.shared.lock().tally.poisonings += 1;
        let states = self.shared.lock().window.after_kill().to_vec();
        engine.shows_one_of(&states)?;
        if let Some(&name) = engine.handles.keys().next() {
            let plan = self.planner.insertion(name);
            match engine.transact(&plan) {
                Err(Error::Log(palisade::WalError::Poisoned { .. })) => {}
                // It asks for room first, which is made by what can no longer be written.
                Err(error) if self.course.is_limited && wants_room(&error) => {}
                other => return Err(format!("a write after the log failed: {other:?}")),
            }
            engine.shows_one_of(&states)?;
        }
        if engine.db.clone().close().is_ok() {
            return Err("it can be closed although the log failed".to_owned());
        }
        self.shared.lock().look(disk, &"after the log failed");
        match self.shared.lock().failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// The end of a life in peace: by a call, or by letting go of the last handle.
    fn close(
        &mut self,
        disk: &FaultDisk,
        engine: Engine,
        by_call: bool,
    ) -> Result<Option<Heir>, String> {
        self.last = format!("closing, by a call: {by_call}");
        self.shared.lock().engine = None;
        if by_call && let Err(error) = engine.db.clone().close() {
            self.excuse(&error)?;
            return Ok(None);
        }
        drop(engine);
        let current = Arc::clone(self.shared.lock().window.current());
        if self.course.scene != Scene::Calm && !by_call {
            return Ok(None);
        }
        let seed = self.planner.rng.next();
        let setup = self.setup();
        disk.set_capacity(None);
        let (_, recovery, _) = recover(&disk.crash(seed), &setup)?;
        if !recovery.was_closed || recovery.discarded_bytes > 0 {
            return Err(format!("it was closed, and found so: {recovery:?}"));
        }
        Ok(Some(Heir { disk: disk.crash(seed), allowed: Allowed::only(vec![current]) }))
    }
}

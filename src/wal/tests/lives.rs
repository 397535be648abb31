//! Random histories of a log over several lives, with a crash at every call.
//!
//! Aim: whatever is found after a crash is exactly a prefix of what was appended, from the place
//! that the manifest says is needed; it holds at least what was promised; and nothing is taken for
//! damage. Then the log goes on.
//!
//! Method: one thread appends, syncs, marks, lets go and makes spares at random; while a sync is on
//! its way, more is appended. Before every call that changes anything the disk is asked what a
//! power cut would leave, or the death of the process, and that is opened. Some of those are opened
//! again after a crash in the middle of the recovery, or go on for a while. A life ends by a clean
//! close, by a crash, by a kill or by a failure of the disk, and the next one begins there. The
//! manifest is a part of the model: it changes all at once.

use crate::id::{Lsn, Timestamp};
use crate::storage::{Fault, FaultDisk, Moment, Op, Sabotages};
use crate::sync::{Arc, Mutex};
use crate::wal::{Scope, Wal, WalError, WalOptions};

use super::{Commit, DATABASE, Random, keep, open_with, options, payload};

/// What is known from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Everything appended, or about to be.
    commits: Vec<Commit>,
    /// The position behind each commit whose append returned.
    ends: Vec<Lsn>,
    /// Commits that must be there after a power cut.
    acknowledged: usize,
    /// Commits that must be there after the death of the process.
    returned: usize,
    /// The manifest: what is needed, and how many commits come before.
    needed: Lsn,
    skipped: usize,
    clean_end: Option<Lsn>,
    /// Makes each payload another one.
    serial: u64,
}

impl Model {
    fn scope(&self) -> Scope {
        Scope {
            database: DATABASE,
            needed: self.needed,
            clean_end: self.clean_end,
            durable: Lsn::ZERO,
            tolerates_damage: false,
        }
    }

    fn last(&self) -> u64 {
        self.commits.last().map_or(0, |commit| commit.0)
    }

    /// A commit with a payload that no other one has.
    fn draw(&mut self, random: &mut Random) -> Commit {
        self.serial += 1;
        let sizes = [0, 16, 100, 100, 100, 100, 700, 1500, 4200, 9000];
        let size = sizes[usize::try_from(random.below(sizes.len() as u64)).unwrap()];
        let bytes = self.serial.to_le_bytes().into_iter().cycle().take(size).collect();
        (self.last() + 1, bytes)
    }

    /// Compares with what was found, and goes on from there.
    fn adopt(&mut self, found: &[Commit], least: usize) -> Result<(), String> {
        let expected = self.commits.get(self.skipped..).unwrap_or_default();
        if !expected.starts_with(found) {
            let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
            return Err(format!(
                "not a prefix: {} found, {} appended behind {}, the first {at} agree",
                found.len(),
                expected.len(),
                self.skipped
            ));
        }
        let count = self.skipped + found.len();
        if count < least {
            return Err(format!("{count} commits found, {least} were promised"));
        }
        self.commits.truncate(count);
        self.ends.truncate(count);
        (self.acknowledged, self.returned) = (count, count);
        self.clean_end = None;
        Ok(())
    }
}

/// A run of several lives.
pub(super) struct Run {
    pub(super) sabotages: Sabotages,
    pub(super) seed: u64,
    pub(super) lives: usize,
    pub(super) operations: u64,
    /// Whether calls fail.
    pub(super) faults: bool,
}

/// What all parts of a run share.
#[derive(Debug)]
struct Shared {
    model: Model,
    random: Random,
    wal: Option<Arc<Wal>>,
    failure: Option<String>,
    states: u64,
    /// Whether the observer is at work itself.
    is_busy: bool,
}

type Stage = Arc<Mutex<Shared>>;

impl Run {
    fn options(&self, random: &mut Random) -> WalOptions {
        WalOptions {
            is_full: random.once_in(2),
            segment_bytes: [8192, 8192, 12288][usize::try_from(random.below(3)).unwrap()],
            // A sync that waits for itself would wait for ever; see `append` in `watch`.
            unsynced_bytes_max: u64::MAX,
            seed: random.next(),
            ..options(self.sabotages)
        }
    }

    /// Runs; gives the number of crash states that were opened.
    pub(super) fn run(&self) -> Result<u64, String> {
        let random = Random(self.seed);
        let stage = Arc::new(Mutex::new(Shared {
            model: Model::default(),
            random,
            wal: None,
            failure: None,
            states: 0,
            is_busy: false,
        }));
        let mut disk = FaultDisk::new(self.seed);
        for life in 0..self.lives {
            self.watch(&disk, &stage);
            let ended = self.live(&disk, &stage);
            let mut shared = stage.lock();
            shared.wal = None;
            let ended = ended.and_then(|()| shared.failure.take().map_or(Ok(()), Err));
            if let Err(failure) = ended {
                return Err(format!("seed {}, life {life}: {failure}", self.seed));
            }
            let seed = shared.random.next();
            let is_kill = shared.random.once_in(3);
            disk = if is_kill { disk.kill(seed) } else { disk.crash(seed) };
            if !is_kill {
                shared.model.returned = shared.model.acknowledged;
            }
        }
        Ok(stage.lock().states)
    }

    /// Takes crash states before every call, and appends while a sync is on its way.
    fn watch(&self, disk: &FaultDisk, stage: &Stage) {
        let stage = Arc::downgrade(stage);
        let sabotages = self.sabotages;
        disk.observe(move |disk, call, moment| {
            let Some(stage) = stage.upgrade() else { return };
            if !call.op.changes() || std::mem::replace(&mut stage.lock().is_busy, true) {
                return;
            }
            match moment {
                Moment::Before => crash(disk, &stage, sabotages),
                // The log is not locked then; where names are synced it may be.
                Moment::During if call.op == Op::SyncData => drop(append(&stage)),
                Moment::During => {}
            }
            stage.lock().is_busy = false;
        });
    }

    fn live(&self, disk: &FaultDisk, stage: &Stage) -> Result<(), String> {
        let (scope, options, has_fault) = {
            let mut shared = stage.lock();
            let random = &mut shared.random;
            let has_fault = self.faults && random.once_in(2);
            if has_fault {
                let faults = [
                    Fault::Io,
                    Fault::Io,
                    Fault::NoSpace,
                    Fault::Interrupted,
                    Fault::Short,
                    Fault::WriteBack,
                ];
                let fault = faults[usize::try_from(random.below(6)).unwrap()];
                let at = random.below(30 + 8 * self.operations);
                disk.fail_at(disk.calls() + 1 + at, fault);
            }
            let options = self.options(random);
            (shared.model.scope(), options, has_fault)
        };
        let (wal, _, found) = match open_with(disk, &scope, options) {
            Ok(opened) => opened,
            Err(error) if has_fault && is_of_the_system(&error) => return Ok(()),
            Err(error) => return Err(format!("cannot open: {error:?}")),
        };
        {
            let mut shared = stage.lock();
            let least = shared.model.returned;
            shared.model.adopt(&found, least)?;
            // Of older commits only the order is known, so one looks no further back.
            let position = wal.position();
            let missing = shared.model.commits.len() - shared.model.ends.len();
            shared.model.ends.extend(std::iter::repeat_n(position, missing));
            shared.wal = Some(Arc::new(wal));
        }
        let operations = stage.lock().random.below(self.operations);
        for _ in 0..operations {
            match operate(stage) {
                Ok(()) => {}
                Err(error) if has_fault && is_of_the_system(&error) => {
                    if matches!(error, WalError::Poisoned { .. }) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(format!("refused: {error:?}")),
            }
            if stage.lock().failure.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether an error may come from a call that failed, and is not about what was read.
fn is_of_the_system(error: &WalError) -> bool {
    matches!(error, WalError::Io { .. } | WalError::NoSpace { .. } | WalError::Poisoned { .. })
}

/// Appends a random commit.
fn append(stage: &Stage) -> Result<Lsn, WalError> {
    let (wal, (timestamp, bytes)) = {
        let mut guard = stage.lock();
        let shared = &mut *guard;
        let Some(wal) = shared.wal.clone() else { return Ok(Lsn::ZERO) };
        (wal, shared.model.draw(&mut shared.random))
    };
    let mut payload = payload(&bytes);
    let reservation = wal.reserve(Some(&mut payload))?;
    stage.lock().model.commits.push((timestamp, bytes));
    let end = reservation.append(Timestamp::from_raw(timestamp))?;
    let model = &mut stage.lock().model;
    model.ends.push(end);
    model.returned = model.ends.len();
    Ok(end)
}

/// One thing that a database may do with its log.
fn operate(stage: &Stage) -> Result<(), WalError> {
    let (wal, choice) = {
        let mut shared = stage.lock();
        (shared.wal.clone().expect("the log is open"), shared.random.below(20))
    };
    match choice {
        0..=9 => append(stage).map(drop),
        10..=14 => {
            let count = stage.lock().model.ends.len();
            let position = wal.position();
            wal.sync_to(position)?;
            let model = &mut stage.lock().model;
            model.acknowledged = model.acknowledged.max(count);
            Ok(())
        }
        15 => wal.mark().map(drop),
        16 | 17 => wal.prepare_spare().map(drop),
        18 => {
            {
                let mut shared = stage.lock();
                let durable = wal.durable();
                let Shared { model, random, .. } = &mut *shared;
                let done = model.ends.iter().take_while(|end| **end <= durable).count();
                let kept = usize::try_from(random.below(4)).unwrap();
                let skipped = done.saturating_sub(kept);
                if skipped > model.skipped {
                    model.skipped = skipped;
                    model.needed = model.ends[skipped - 1];
                }
            }
            let needed = stage.lock().model.needed;
            wal.release(needed)
        }
        _ => {
            let (from, expected) = {
                let model = &stage.lock().model;
                (model.needed, model.commits[model.skipped..model.ends.len()].to_vec())
            };
            let mut found = Vec::new();
            wal.read(from, wal.position(), &mut keep(&mut found))?;
            if found != expected {
                let lengths = (found.len(), expected.len());
                stage.lock().failure = Some(format!("read back {lengths:?}"));
            }
            Ok(())
        }
    }
}

/// Opens what a crash at this moment leaves.
fn crash(disk: &FaultDisk, stage: &Stage, sabotages: Sabotages) {
    let (model, mut random) = {
        let mut shared = stage.lock();
        shared.states += 1;
        let seed = shared.random.next();
        let mut model = shared.model.clone();
        if let Some(wal) = &shared.wal {
            let durable = model.ends.iter().take_while(|end| **end <= wal.durable()).count();
            model.acknowledged = model.acknowledged.max(durable);
        }
        (model, Random(seed))
    };
    let is_kill = random.once_in(8);
    let seed = random.next();
    let image = if is_kill { disk.kill(seed) } else { disk.crash(seed) };
    let least = if is_kill { model.returned } else { model.acknowledged };
    let outcome = reopen(&image, model, least, &mut random, sabotages);
    let mut shared = stage.lock();
    match outcome {
        Ok(states) => shared.states += states,
        Err(failure) => {
            let how = if is_kill { "kill" } else { "crash" };
            let calls = disk.calls();
            shared.failure.get_or_insert(format!("{how} at call {calls}: {failure}"));
        }
    }
}

/// Opens an image, and now and then one of what a crash of that leaves, and so on.
fn reopen(
    image: &FaultDisk,
    mut model: Model,
    mut least: usize,
    random: &mut Random,
    sabotages: Sabotages,
) -> Result<u64, String> {
    let mut image = image.clone();
    let mut states = 0;
    // In the middle of a recovery.
    if random.once_in(8) {
        image.fail_at(image.calls() + 1 + random.below(40), Fault::PowerOff);
        let cut = open_with(&image, &model.scope(), options(sabotages));
        drop(cut);
        image = image.crash(random.next());
        least = model.acknowledged;
        states += 1;
    }
    for _ in 0..3 {
        let options = WalOptions { seed: random.next(), ..options(sabotages) };
        let scope = model.scope();
        let (wal, _, found) =
            open_with(&image, &scope, options).map_err(|error| format!("cannot open: {error}"))?;
        model.adopt(&found, least)?;
        if !random.once_in(4) {
            break;
        }
        least = found.len() + model.skipped;
        for _ in 0..random.below(4) {
            let (timestamp, bytes) = model.draw(random);
            let mut payload = payload(&bytes);
            let reservation = wal.reserve(Some(&mut payload)).map_err(|e| e.to_string())?;
            reservation.append(Timestamp::from_raw(timestamp)).map_err(|e| e.to_string())?;
            model.commits.push((timestamp, bytes));
        }
        match random.below(3) {
            0 => model.clean_end = Some(wal.close().map_err(|error| error.to_string())?),
            1 => wal.sync_to(wal.position()).map_err(|error| error.to_string())?,
            _ => {
                image = image.crash(random.next());
                continue;
            }
        }
        least = model.commits.len();
        image = image.crash(random.next());
        states += 1;
    }
    Ok(states)
}

/// Runs over seeds until one fails; gives the states opened.
pub(super) fn runs(
    sabotages: Sabotages,
    seeds: std::ops::Range<u64>,
    faults: bool,
) -> Result<u64, String> {
    let mut states = 0;
    for seed in seeds {
        let run = Run { sabotages, seed, lives: 4, operations: 40, faults };
        states += run.run()?;
    }
    Ok(states)
}

/// How many histories: more where it is asked for by the environment.
fn seeds() -> u64 {
    let asked = std::env::var("PALISADE_WAL_SEEDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(30)
}

#[test]
fn every_crash_leaves_a_prefix_that_holds_what_was_promised() {
    let states = runs(Sabotages::default(), 0..seeds(), false).unwrap();
    println!("{states} crash states");
    assert!(states > 20 * seeds(), "hardly anything was tried: {states}");
}

#[test]
fn the_same_holds_where_calls_fail() {
    let states = runs(Sabotages::default(), 1_000_000..1_000_000 + seeds(), true).unwrap();
    println!("{states} crash states");
    assert!(states > 20 * seeds(), "hardly anything was tried: {states}");
}

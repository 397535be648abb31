//! Disks that break their word: bytes change, sectors land elsewhere, syncs lie.
//!
//! Nothing is promised then but this: what is damaged where the log was durable is told, and a log
//! that opens is a prefix of what was committed, of one history and not of two.

use std::path::Path;
use std::sync::Arc;

use palisade::testing::{Fault, FaultDisk, Op as DiskOp, Sabotages};
use palisade::{Durability, Lsn};

use crate::engine::{DIRECTORY, Engine, Handle, Setup, blames_the_disk, recover, tell};
use crate::model::{Name, Plan, State, Step, Value};
use crate::rng::Rng;

const NAME: Name = "numbers 0";
/// Where the records of a segment begin.
const RECORDS: u64 = 4096;

fn setup(durability: Durability, segment_bytes: u32, seed: u64, sabotages: Sabotages) -> Setup {
    Setup {
        durability,
        segment_bytes,
        table_bytes: 4096,
        flush_after_commits: None,
        memory_limit: None,
        seed,
        sabotages,
    }
}

/// A database with one bucket, its history, and where each commit ends in the log.
struct History {
    engine: Engine,
    states: Vec<Arc<State>>,
    ends: Vec<Lsn>,
}

impl History {
    fn open(disk: &FaultDisk, setup: &Setup) -> Result<Self, String> {
        let (mut engine, _) = Engine::open(disk, setup).map_err(|error| tell(&error))?;
        let handle = Handle::open(&engine.db, NAME).map_err(|error| tell(&error))?;
        engine.handles.insert(NAME, handle);
        let state = State::default().with_bucket(NAME);
        Ok(Self { engine, states: vec![Arc::new(state)], ends: Vec::new() })
    }

    /// Commits one entry with a value of this length. Answers how many bytes of the log it takes.
    fn insert(&mut self, length: usize) -> Result<u64, String> {
        let key = u16::try_from(self.states.len()).expect("histories are short");
        let steps = vec![Step::Insert(NAME, key, Value { tag: key.into(), length })];
        let next = self.states[self.states.len() - 1].after(&steps);
        let plan = Plan { steps, is_raised: false, rolls_back: false };
        let receipt = self.engine.transact(&plan).map_err(|error| tell(&error))?;
        let end = receipt.and_then(|receipt| receipt.position()).ok_or("no position")?;
        let before = self.ends.last().map_or(0, |before| before.get());
        self.states.push(Arc::new(next));
        self.ends.push(end);
        Ok(end.get().saturating_sub(before))
    }
}

fn segment_number(at: Lsn) -> String {
    format!("{:08x}", at.get() >> 32)
}

fn segment_path(at: Lsn) -> String {
    format!("{DIRECTORY}/wal-{}.log", segment_number(at))
}

fn offset(at: Lsn) -> u64 {
    at.get() & u64::from(u32::MAX)
}

/// One bit of a record flips, and a later record says that it had been durable.
pub(crate) fn flipped_bit(seed: u64, sabotages: Sabotages) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let disk = FaultDisk::new(rng.next());
    let setup = setup(Durability::Full, 64 << 10, rng.next(), sabotages);
    let mut history = History::open(&disk, &setup)?;
    if rng.percent(50) {
        history.engine.db.clone().close().map_err(|error| tell(&error))?;
        drop(history);
        history = History::open(&disk, &setup)?;
    }
    for _ in 0..8 {
        history.insert(Value::LENGTH_MIN + rng.below(300) as usize)?;
    }
    let image = disk.kill(rng.next());
    // The first one together with what comes before it in the segment. Not the last one, which
    // nothing vouches for.
    let victim = rng.below(7) as usize;
    let from = victim.checked_sub(1).map_or(RECORDS, |before| offset(history.ends[before]));
    let to = offset(history.ends[victim]);
    let length = u32::try_from(8 * (to - from)).expect("records are short");
    let bit = 8 * from + u64::from(rng.below(length));
    let (path, segment) =
        (segment_path(history.ends[victim]), segment_number(history.ends[victim]));
    assert!(image.flip_bit(Path::new(&path), bit), "the file is long enough");
    match setup.options(&image).open(DIRECTORY) {
        Err(error) if blames_the_disk(&error) && tell(&error).contains(&segment) => Ok(()),
        Err(error) => Err(format!("bit {bit} of {path}: {}", tell(&error))),
        Ok(db) => {
            drop(db);
            let (state, recovery, _) = recover(&image, &setup)?;
            // The padding of a record is covered by no checksum.
            let is_whole = history.states.last().is_some_and(|last| **last == state);
            if is_whole { Ok(()) } else { Err(format!("bit {bit} of {path}: {recovery:?}")) }
        }
    }
}

/// A sector of the log that was never synced lands in the place of another one.
pub(crate) fn misplaced_sector(seed: u64, sabotages: Sabotages) -> Result<(), String> {
    const SECTOR: u64 = 512;
    let mut rng = Rng::new(seed);
    let disk = FaultDisk::new(rng.next());
    let setup = setup(Durability::Relaxed, 64 << 10, rng.next(), sabotages);
    let mut history = History::open(&disk, &setup)?;
    // Records of a sector each, aligned: the worst case.
    history.insert(Value::LENGTH_MIN)?;
    let shortest = history.insert(Value::LENGTH_MIN)?;
    let more = |bytes: u64| usize::try_from(bytes).expect("is small") + Value::LENGTH_MIN;
    let gap = SECTOR - offset(history.ends[1]) % SECTOR;
    let gap = if gap < shortest { gap + SECTOR } else { gap };
    history.insert(more(gap - shortest))?;
    let count = 4 + u64::from(rng.below(8));
    for _ in 0..count {
        let bytes = history.insert(more(SECTOR - shortest))?;
        assert_eq!(bytes, SECTOR, "a record fills its sector");
    }
    let image = disk.kill(rng.next());
    let first = offset(history.ends[2]) / SECTOR;
    let mut place = || {
        let nth = rng.below(u32::try_from(count).expect("is small"));
        usize::try_from(first).expect("is small") + nth as usize
    };
    let (from, to) = (place(), place());
    let path = segment_path(history.ends[2]);
    assert!(image.copy_sector(Path::new(&path), from, to), "the file is long enough");
    match recover(&image, &setup) {
        Err(what) if what.starts_with("panic") => Err(what),
        Err(_) => Ok(()),
        Ok((state, ..)) if history.states.iter().any(|known| **known == state) => Ok(()),
        Ok((state, ..)) => {
            let what = state.differs_from(&history.states[0]);
            Err(format!("sector {from} in the place of {to}: {what}"))
        }
    }
}

/// For one life every sync lies; then the power goes. What the next life shows, the one after it
/// shows too: nothing of the life that was lost comes back behind its end.
pub(crate) fn lying_syncs(seed: u64, sabotages: Sabotages) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let disk = FaultDisk::new(rng.next());
    let mut next_setup = || setup(Durability::Full, 8192, rng.next(), sabotages);
    let honest = next_setup();
    let mut history = History::open(&disk, &honest)?;
    for _ in 0..12 {
        history.insert(1000)?;
    }
    history.engine.db.checkpoint().map_err(|error| tell(&error))?;
    history.insert(20)?;
    drop(history);
    disk.settle();

    for op in [DiskOp::SyncData, DiskOp::SyncAll, DiskOp::SyncDir] {
        (0..100).for_each(|_| disk.fail_nth(op, 1, Fault::Lie));
    }
    let (lying, found, last) = (next_setup(), next_setup(), next_setup());
    let mut history = History::open(&disk, &lying)?;
    for length in [20, 400, 20] {
        history.insert(length)?;
    }
    for _ in 0..24 {
        let image = disk.crash(rng.next());
        let Ok((before, _, db)) = recover(&image, &found) else { continue };
        let next = image.kill(rng.next());
        drop(db);
        let (after, recovery, _) = recover(&next, &last)?;
        if after != before {
            let what = after.differs_from(&before);
            return Err(format!("something came back: {what}; {recovery:?}"));
        }
    }
    Ok(())
}

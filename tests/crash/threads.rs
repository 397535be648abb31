//! Real threads that commit, sync and make checkpoints at the same time, on a disk of which crash
//! states are taken while they do.
//!
//! Method: each thread counts upwards, the same number under its key in two buckets, and notes the
//! times at which its commits took effect. Before a crash state is taken each thread's last
//! promised number is read, after it each thread's last begun one. In the state both buckets must
//! say the same, and between the two; and when all is over, the times say whether the numbers of
//! all threads together are the first commits in the order of commit.
//!
//! What runs when is up to the system, so a seed repeats the work and not the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use palisade::testing::{Call, Fault, FaultDisk, Moment, Op as DiskOp, Sabotages};
use palisade::{Bucket, Database, Durability, Error, Timestamp, TransactionOptions};

use crate::engine::{DIRECTORY, Setup, blames_the_disk, tell};
use crate::rng::Rng;

const THREADS: usize = 3;
const COMMITS: u32 = 40;
const SHOTS_MAX: usize = 80;

type Counters = Bucket<u64, (u32, Vec<u8>)>;

/// How far each thread has come.
#[derive(Debug, Default)]
struct Progress {
    begun: [AtomicU32; THREADS],
    promised: [AtomicU32; THREADS],
    /// Syncs that began.
    syncs: AtomicU32,
}

fn read(counters: &[AtomicU32; THREADS]) -> [u32; THREADS] {
    std::array::from_fn(|at| counters[at].load(Ordering::SeqCst))
}

/// A crash state, and what it may hold.
struct Shot {
    disk: FaultDisk,
    promised: [u32; THREADS],
    begun: [u32; THREADS],
}

struct Round {
    progress: Progress,
    shots: Mutex<Vec<Shot>>,
    rng: Mutex<Rng>,
    is_over: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Round {
    fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn fail(&self, what: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn see(&self, disk: &FaultDisk, call: &Call, moment: Moment) {
        if moment == Moment::During && call.op == DiskOp::SyncData {
            // Time for the others to append, and to come and wait for this sync.
            let begun = read(&self.progress.begun);
            let syncs = self.progress.syncs.fetch_add(1, Ordering::SeqCst) + 1;
            let since = Instant::now();
            while since.elapsed() < Duration::from_micros(60)
                && (read(&self.progress.begun) == begun
                    || self.progress.syncs.load(Ordering::SeqCst) == syncs)
            {
                thread::yield_now();
            }
        }
        let share = if moment == Moment::During { 2 } else { 12 };
        if call.op.changes() && self.random().is_multiple_of(share) {
            self.shoot(disk);
        }
    }

    fn shoot(&self, disk: &FaultDisk) {
        let mut shots = self.shots.lock().unwrap_or_else(PoisonError::into_inner);
        if shots.len() < SHOTS_MAX {
            let promised = read(&self.progress.promised);
            let disk = disk.crash(self.random());
            let begun = read(&self.progress.begun);
            shots.push(Shot { disk, promised, begun });
        }
    }
}

/// How the database is opened, and what goes wrong.
struct Course {
    setup: Setup,
    has_threads: bool,
    failing_sync: Option<u64>,
}

impl Course {
    fn pick(rng: &mut Rng, sabotages: Sabotages) -> Self {
        let is_full = rng.percent(60);
        Self {
            setup: Setup {
                durability: if is_full { Durability::Full } else { Durability::Relaxed },
                segment_bytes: 4096 * (2 + rng.below(4)),
                table_bytes: 2048,
                flush_after_commits: (!is_full).then_some(7),
                memory_limit: None,
                seed: rng.next(),
                sabotages,
            },
            has_threads: rng.percent(50),
            failing_sync: rng.percent(40).then(|| 1 + u64::from(rng.below(60))),
        }
    }

    fn open(&self, disk: &FaultDisk) -> Result<(Database, [Counters; 2]), Error> {
        let options = self.setup.options(disk).threads(self.has_threads);
        let db = options.flush_interval(Duration::from_micros(200)).open(DIRECTORY)?;
        let counters = [db.bucket("counters")?, db.bucket("copies")?];
        Ok((db, counters))
    }
}

/// One round with real threads. How many crash states were judged.
pub(crate) fn round(seed: u64, sabotages: Sabotages) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let course = Course::pick(&mut rng, sabotages);
    let disk = FaultDisk::new(rng.next());
    let (db, counters) = course.open(&disk).map_err(|error| tell(&error))?;
    let round = Arc::new(Round {
        progress: Progress::default(),
        shots: Mutex::default(),
        rng: Mutex::new(Rng::new(rng.next())),
        is_over: AtomicBool::new(false),
        failure: Mutex::default(),
    });
    let observer = Arc::clone(&round);
    disk.observe(move |disk, call, moment| observer.see(disk, call, moment));
    if let Some(nth) = course.failing_sync {
        disk.fail_nth(DiskOp::SyncData, nth, Fault::Io);
    }
    let times = work(&round, &course, &db, &counters);
    disk.observe(|_, _, _| {});
    for _ in 0..4 {
        let (promised, begun) = (read(&round.progress.promised), read(&round.progress.begun));
        let shot = Shot { disk: disk.crash(round.random()), promised, begun };
        round.shots.lock().unwrap_or_else(PoisonError::into_inner).push(shot);
    }
    drop((db, counters));
    if let Some(failure) = round.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(failure);
    }
    let shots = std::mem::take(&mut *round.shots.lock().unwrap_or_else(PoisonError::into_inner));
    let judge = Course { has_threads: false, ..course };
    for shot in &shots {
        judge_shot(shot, &judge, &times)?;
    }
    Ok(shots.len() as u64)
}

/// Runs the threads. When each commit of each thread took effect.
fn work(
    round: &Round,
    course: &Course,
    db: &Database,
    counters: &[Counters; 2],
) -> [Vec<Timestamp>; THREADS] {
    thread::scope(|scope| {
        let committers: [_; THREADS] =
            std::array::from_fn(|me| scope.spawn(move || count(round, course, db, counters, me)));
        let checkpointer = scope.spawn(|| {
            while !round.is_over.load(Ordering::SeqCst) {
                if let Err(error) = db.checkpoint() {
                    excuse(round, course, &error);
                }
                thread::sleep(Duration::from_micros(300));
            }
        });
        let times =
            committers.map(|committer| committer.join().expect("the engine does not panic"));
        round.is_over.store(true, Ordering::SeqCst);
        checkpointer.join().expect("the engine does not panic");
        times
    })
}

fn excuse(round: &Round, course: &Course, error: &Error) {
    if course.failing_sync.is_none() || blames_the_disk(error) {
        round.fail(format!("refused: {}", tell(error)));
    }
}

/// One thread's commits.
fn count(
    round: &Round,
    course: &Course,
    db: &Database,
    counters: &[Counters; 2],
    me: usize,
) -> Vec<Timestamp> {
    let mut times = Vec::new();
    for number in 1..=COMMITS {
        let random = round.random();
        round.progress.begun[me].store(number, Ordering::SeqCst);
        let is_raised = random.is_multiple_of(4);
        let is_promised = course.setup.is_full() || is_raised;
        let filler = vec![7; (random >> 8) as usize % 600];
        match commit(db, counters, (me as u64, number, filler), is_raised) {
            Ok(time) => times.push(time),
            Err(error) => {
                excuse(round, course, &error);
                break;
            }
        }
        if is_promised || random % 16 == 1 && db.sync().is_ok() {
            round.progress.promised[me].store(number, Ordering::SeqCst);
        }
    }
    times
}

fn commit(
    db: &Database,
    counters: &[Counters; 2],
    (me, number, filler): (u64, u32, Vec<u8>),
    is_raised: bool,
) -> Result<Timestamp, Error> {
    let mut options = TransactionOptions::new();
    if is_raised {
        options = options.durability(Durability::Full);
    }
    loop {
        let tx = db.begin_with(&options);
        for bucket in counters {
            tx.insert(bucket, me, (number, filler.clone()))?;
        }
        match tx.commit() {
            Ok(receipt) => return Ok(receipt.timestamp()),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
}

fn judge_shot(
    shot: &Shot,
    course: &Course,
    times: &[Vec<Timestamp>; THREADS],
) -> Result<(), String> {
    let (_db, counters) = course.open(&shot.disk).map_err(|error| tell(&error))?;
    let mut found = [0; THREADS];
    for (me, found) in found.iter_mut().enumerate() {
        let numbers = counters
            .each_ref()
            .map(|bucket| bucket.get(&(me as u64)).map(|it| it.map_or(0, |it| it.0)));
        let [Ok(one), Ok(two)] = numbers else { return Err("it cannot be read".to_owned()) };
        if one != two {
            return Err(format!("half of a commit: {one} and {two} of thread {me}"));
        }
        if one < shot.promised[me] || one > shot.begun[me] {
            let (promised, begun) = (shot.promised[me], shot.begun[me]);
            return Err(format!("thread {me}: {one}, promised {promised}, begun {begun}"));
        }
        *found = one;
    }
    // Those that are there come before those that are not.
    let time = |me: usize, number: u32| times[me].get((number as usize).checked_sub(1)?).copied();
    let newest = (0..THREADS).filter_map(|me| time(me, found[me])).max();
    let oldest_lost = (0..THREADS).filter_map(|me| time(me, found[me] + 1)).min();
    match newest.zip(oldest_lost) {
        Some((newest, lost)) if newest > lost => Err(format!(
            "the commit at {lost} is missing, and that at {newest} is there: {found:?}"
        )),
        _ => Ok(()),
    }
}

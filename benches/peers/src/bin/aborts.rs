//! How often commits are refused on five contended workloads, with the rescue of harmless commits
//! and without it (which is what backward validation does: any read that is no longer current
//! aborts).
//!
//! | | keys | clients |
//! |---|---|---|
//! | W1 | 300 uniform | 24 of 4 reads, 1 write |
//! | W2 | 10 000, zipf 0.8 | 32 of 10 reads, 2 of them also written |
//! | W3 | 10 000, zipf 0.99 | 32 of 8 reads, 2 blind writes |
//! | W4 | 5 000 uniform | 28 of 5 reads, 1 write; 4 of 300 reads, 3 writes |
//! | W5 | as W4 | the same, 12 of 5 reads and 1 of 300 reads declared read-only |
//!
//! Two processors cannot hold 32 transactions open by threads alone, so the first table runs the
//! clients as a schedule: one thread owns all open transactions and lets a random one take its next
//! step. The second table runs W4 and W5 on real threads that yield after each step, through
//! `Database::write`, which is what keeps long writers from starving.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use palisade::{Bucket, ConflictKind, Database, Error, Options, Snapshot, Transaction};
use peers::lab::{Random, Zipf, sized};

/// What one kind of client does, over and over.
#[derive(Clone, Copy)]
struct Program {
    clients: usize,
    reads: usize,
    writes: usize,
    /// Writes go to keys that were read before.
    modifies: bool,
    read_only: bool,
}

const fn writer(clients: usize, reads: usize, writes: usize) -> Program {
    Program { clients, reads, writes, modifies: false, read_only: false }
}

const fn reader(clients: usize, reads: usize) -> Program {
    Program { clients, reads, writes: 0, modifies: false, read_only: true }
}

struct Workload {
    name: &'static str,
    keys: u32,
    skew: f64,
    programs: &'static [Program],
}

const WORKLOADS: [Workload; 5] = [
    Workload { name: "W1", keys: 300, skew: 0.0, programs: &[writer(24, 4, 1)] },
    Workload {
        name: "W2",
        keys: 10_000,
        skew: 0.8,
        programs: &[Program { modifies: true, ..writer(32, 10, 2) }],
    },
    Workload { name: "W3", keys: 10_000, skew: 0.99, programs: &[writer(32, 8, 2)] },
    Workload {
        name: "W4",
        keys: 5_000,
        skew: 0.0,
        programs: &[writer(28, 5, 1), writer(4, 300, 3)],
    },
    Workload {
        name: "W5",
        keys: 5_000,
        skew: 0.0,
        programs: &[writer(28, 5, 1), writer(4, 300, 3), reader(12, 5), reader(1, 300)],
    },
];

/// The steps of one transaction: reads, and writes at places of their own among them.
fn draw_steps(program: &Program, keys: &Zipf, random: &mut Random) -> Vec<(u64, bool)> {
    let mut steps: Vec<(u64, bool)> =
        (0..program.reads).map(|_| (keys.draw(random), false)).collect();
    for write in 0..program.writes {
        if program.modifies {
            let key = steps[write].0;
            steps.push((key, true));
        } else {
            let at = random.below(steps.len() as u64 + 1);
            steps.insert(usize::try_from(at).unwrap_or(0), (keys.draw(random), true));
        }
    }
    steps
}

/// What became of the attempts of one program.
#[derive(Clone, Copy, Default)]
struct Outcome {
    commits: u64,
    write_write: u64,
    cycles: u64,
    /// Pivots that might have to answer to a read-only snapshot.
    pivots: u64,
    /// Windows that were lost and searches over budget.
    bounds: u64,
}

impl Outcome {
    fn count(&mut self, result: Result<(), &Error>) {
        let refused = match result {
            Ok(()) => &mut self.commits,
            Err(Error::Conflict(conflict)) => match conflict.kind() {
                ConflictKind::WriteWrite => &mut self.write_write,
                ConflictKind::Cycle => &mut self.cycles,
                ConflictKind::ReadOnlyPivot => &mut self.pivots,
                _ => &mut self.bounds,
            },
            Err(error) => panic!("{error}"),
        };
        *refused += 1;
    }

    const fn certifier(&self) -> u64 {
        self.cycles + self.pivots + self.bounds
    }

    fn percent(&self, part: u64) -> f64 {
        let attempts = self.commits + self.write_write + self.certifier();
        100.0 * part as f64 / attempts.max(1) as f64
    }
}

enum Running<'db> {
    Writer(Box<Transaction<'db>>),
    Reader(Snapshot),
}

struct Client<'db> {
    program: usize,
    running: Option<Running<'db>>,
    steps: Vec<(u64, bool)>,
    at: usize,
}

fn open(workload: &Workload, rescue: bool) -> palisade::Result<(Database, Bucket<u64, u64>)> {
    let db = Options::new().rescue(rescue).in_memory();
    let bucket = db.bucket("numbers")?;
    db.write(|tx| {
        for key in 0..u64::from(workload.keys) {
            tx.insert(&bucket, key, 0)?;
        }
        Ok(())
    })?;
    Ok((db, bucket))
}

/// Plays the clients' steps in random order until `commits` writers have committed.
fn play(workload: &Workload, rescue: bool, commits: u64) -> palisade::Result<Vec<Outcome>> {
    let (db, bucket) = open(workload, rescue)?;
    let keys = Zipf::new(workload.keys, workload.skew);
    let mut random = Random::new(7);
    let mut outcomes = vec![Outcome::default(); workload.programs.len()];
    let mut clients: Vec<Client<'_>> = (0..workload.programs.len())
        .flat_map(|program| vec![program; workload.programs[program].clients])
        .map(|program| Client { program, running: None, steps: Vec::new(), at: 0 })
        .collect();
    let mut committed = 0;
    while committed < commits {
        let chosen = random.below(clients.len() as u64);
        let client = &mut clients[usize::try_from(chosen).unwrap_or(0)];
        let program = &workload.programs[client.program];
        let Some(running) = &client.running else {
            // A refused transaction tries the same steps again.
            if client.steps.is_empty() {
                client.steps = draw_steps(program, &keys, &mut random);
            }
            client.at = 0;
            client.running = Some(if program.read_only {
                Running::Reader(db.snapshot())
            } else {
                Running::Writer(Box::new(db.begin()))
            });
            continue;
        };
        let step = client.steps.get(client.at).copied();
        client.at += 1;
        let result = match (running, step) {
            (Running::Reader(snapshot), Some((key, _))) => snapshot.get(&bucket, &key).map(drop),
            (Running::Writer(tx), Some((key, false))) => tx.get(&bucket, &key).map(drop),
            (Running::Writer(tx), Some((key, true))) => tx.insert(&bucket, key, 1).map(drop),
            (_, None) => Ok(()),
        };
        if result.is_ok() && step.is_some() {
            continue;
        }
        let result = result.and_then(|()| match client.running.take() {
            Some(Running::Writer(tx)) => tx.commit().map(drop),
            _ => Ok(()),
        });
        client.running = None;
        if result.is_ok() {
            client.steps.clear();
            committed += u64::from(!program.read_only);
        }
        outcomes[client.program].count(result.as_ref().map(|&()| ()));
    }
    Ok(outcomes)
}

fn print_schedules() -> palisade::Result<()> {
    let commits = sized(200_000, 5_000);
    println!("Schedules of open transactions, {commits} commits each, % of attempts\n");
    println!("   program     rescue   commits write-write  certifier  (cycle  pivot  bound)");
    for workload in &WORKLOADS {
        let mut certifier = [0.0; 2];
        for (rescue, total) in [true, false].into_iter().zip(&mut certifier) {
            let outcomes = play(workload, rescue, commits)?;
            for (program, outcome) in workload.programs.iter().zip(&outcomes) {
                let kind = format!("{}R+{}W", program.reads, program.writes);
                let state = if rescue { "on" } else { "off" };
                println!(
                    "{} {kind:<12}{state:<6} {:>9} {:>11.2} {:>10.2}  {:>6.2} {:>6.2} {:>6.2}",
                    workload.name,
                    outcome.commits,
                    outcome.percent(outcome.write_write),
                    outcome.percent(outcome.certifier()),
                    outcome.percent(outcome.cycles),
                    outcome.percent(outcome.pivots),
                    outcome.percent(outcome.bounds),
                );
                let aborts = outcome.certifier() + outcome.write_write;
                assert!(!program.read_only || aborts == 0, "a read-only transaction aborted");
            }
            let refused: u64 = outcomes.iter().map(Outcome::certifier).sum();
            *total = refused as f64;
        }
        let [on, off] = certifier;
        println!(
            "{} certifier aborts with rescue, of those without: {:.2}\n",
            workload.name,
            on / off
        );
    }
    Ok(())
}

/// Attempts that the commits of one program took on real threads.
#[derive(Default)]
struct Attempts(BTreeMap<u64, u64>);

impl Attempts {
    fn commits(&self) -> u64 {
        self.0.values().sum()
    }

    fn all(&self) -> u64 {
        self.0.iter().map(|(attempts, commits)| attempts * commits).sum()
    }

    fn most(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(&attempts, _)| attempts)
    }
}

/// Runs the workload's clients on threads of their own for `span`.
fn run_threads(workload: &Workload, rescue: bool, span: Duration) -> palisade::Result<()> {
    let (db, bucket) = open(workload, rescue)?;
    let keys = Zipf::new(workload.keys, workload.skew);
    let stop = AtomicBool::new(false);
    let seed = AtomicU64::new(1);
    let client = |program: &Program| -> palisade::Result<Attempts> {
        // Relaxed: any number will do that no other thread has.
        let mut random = Random::new(seed.fetch_add(1, Ordering::Relaxed));
        let mut attempts = Attempts::default();
        // Relaxed: the flag only ends the loops soon.
        while !stop.load(Ordering::Relaxed) {
            let steps = draw_steps(program, &keys, &mut random);
            let mut attempt = 0;
            if program.read_only {
                attempt = 1;
                read_all(&db.snapshot(), &bucket, &steps)?;
            } else {
                db.write(|tx| {
                    attempt += 1;
                    write_all(tx, &bucket, &steps)
                })?;
            }
            *attempts.0.entry(attempt).or_default() += 1;
        }
        Ok(attempts)
    };
    let started = Instant::now();
    let results: Vec<palisade::Result<Attempts>> = thread::scope(|scope| {
        let mut threads = Vec::new();
        for program in workload.programs {
            threads.push((0..program.clients).map(|_| scope.spawn(|| client(program))).collect());
        }
        let threads: Vec<Vec<_>> = threads;
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        let join = |group: Vec<thread::ScopedJoinHandle<'_, palisade::Result<Attempts>>>| {
            let mut sum = Attempts::default();
            for thread in group {
                for (attempts, commits) in thread.join().expect("a client does not panic")?.0 {
                    *sum.0.entry(attempts).or_default() += commits;
                }
            }
            Ok(sum)
        };
        threads.into_iter().map(join).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    for (program, attempts) in workload.programs.iter().zip(results) {
        let attempts = attempts?;
        let kind = format!("{}R+{}W", program.reads, program.writes);
        let (commits, all) = (attempts.commits(), attempts.all());
        println!(
            "{} {kind:<12}{:<6} {:>11.0} {:>11.2} {:>14}",
            workload.name,
            if rescue { "on" } else { "off" },
            commits as f64 / seconds,
            100.0 * (all - commits) as f64 / all.max(1) as f64,
            attempts.most(),
        );
    }
    Ok(())
}

fn read_all(
    snapshot: &Snapshot,
    bucket: &Bucket<u64, u64>,
    steps: &[(u64, bool)],
) -> palisade::Result<()> {
    for (key, _) in steps {
        snapshot.get(bucket, key)?;
        thread::yield_now();
    }
    Ok(())
}

fn write_all(
    tx: &Transaction<'_>,
    bucket: &Bucket<u64, u64>,
    steps: &[(u64, bool)],
) -> palisade::Result<()> {
    for &(key, write) in steps {
        if write {
            tx.insert(bucket, key, 1)?;
        } else {
            tx.get(bucket, &key)?;
        }
        thread::yield_now();
    }
    Ok(())
}

fn main() -> palisade::Result<()> {
    print_schedules()?;
    let span = Duration::from_secs(sized(10, 1));
    println!("Threads that yield after each step, {} s each\n", span.as_secs());
    println!("   program     rescue   commits/s   aborted %  most attempts");
    for workload in WORKLOADS.iter().skip(3) {
        for rescue in [true, false] {
            run_threads(workload, rescue, span)?;
        }
    }
    Ok(())
}

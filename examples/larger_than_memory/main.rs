//! A store several times larger than the memory it may take.
//!
//! ```text
//! cargo run --release --example larger_than_memory
//! cargo run --release --example larger_than_memory -- --entries 200000 --limit-mib 256 --store DIR
//! ```
//!
//! Loads a durable bucket (a million values of 4 KiB under a limit of 512 MiB, unless told
//! otherwise), reads and writes it from four threads, is killed in the middle of that, recovers,
//! and checks every value. The memory of the process is measured ten times a second and drawn over
//! time; the example fails if it ever exceeds the limit by more than 15 percent, or if anything is
//! lost. The folder, which must be new, is removed when all went well.

mod meter;
mod plan;

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use palisade::{Bucket, Database};

use meter::{Meter, draw};
use plan::{Ledger, Plan, Random};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn rate(what: &str, count: u64, since: Instant) {
    let elapsed = since.elapsed();
    let each_second = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    println!("  {what:<36} {each_second:>9}/s  ({count} in {elapsed:.1?})");
}

fn load(plan: &Plan) -> Outcome<()> {
    let (db, bucket) = plan.open()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let bucket = &bucket;

                scope.spawn(move || {
                    for key in plan.keys_of(thread) {
                        bucket.set(key, plan.value(key, 0))?;
                    }
                    palisade::Result::Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    rate("loaded", plan.entries, start);
    print_memory(&db);
    db.close()?;
    Ok(())
}

fn print_memory(db: &Database) {
    let stats = db.stats();
    let mut text = String::new();
    let read = File::open("/proc/self/io").and_then(|mut file| file.read_to_string(&mut text));
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0) >> 20
    };
    if read.is_ok() {
        println!("  read {} MiB and wrote {} MiB", bytes("rchar: "), bytes("wchar: "));
    }
    println!(
        "  entries take {} MiB, {} values left memory, {} came back",
        stats.memory.buckets.total() >> 20,
        stats.departures,
        stats.fetches
    );
}

/// Reads and writes at random until the time is over, or the process is killed.
fn work(plan: &Plan) -> Outcome<()> {
    let (db, bucket) = plan.open()?;
    let ledger = Ledger::open(plan)?;
    let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    let slowest = Mutex::new(Duration::ZERO);
    let start = Instant::now();
    let end = start + Duration::from_secs(plan.seconds);
    thread::scope(|scope| {
        for thread in 0..plan.threads {
            let (bucket, ledger, reads, writes, slowest) =
                (&bucket, &ledger, &reads, &writes, &slowest);
            scope.spawn(move || {
                let mut random = Random::new(thread + 1 + u64::from(std::process::id()));
                while Instant::now() < end {
                    let key = random.next() % plan.entries;
                    if !random.next().is_multiple_of(4) {
                        let bytes = bucket.get(&key).expect("reads").expect("nothing is lost");
                        plan.check(key, &bytes).expect("values are what was written");
                        reads.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    // Each thread has keys of its own to write.
                    let key = key / plan.threads * plan.threads + thread;
                    if key >= plan.entries {
                        continue;
                    }
                    let version = ledger.get(key).expect("the ledger is read") + 1;
                    let before = Instant::now();
                    bucket.set(key, plan.value(key, version)).expect("writes");
                    let took = before.elapsed();
                    ledger.acknowledge(key, version).expect("the ledger is written");
                    writes.fetch_add(1, Ordering::Relaxed);
                    let mut slowest = slowest.lock().expect("nobody panics");
                    *slowest = took.max(*slowest);
                }
            });
        }
    });
    rate("reads", reads.load(Ordering::Relaxed), start);
    rate("writes", writes.load(Ordering::Relaxed), start);
    println!("  the slowest write took {:.0?}", slowest.lock().expect("nobody panics"));
    print_memory(&db);
    if plan.limit.is_some() {
        let start = Instant::now();
        let done = db.checkpoint()?;
        println!("  checkpoint: {} MiB in {:.1?}", done.table_bytes >> 20, start.elapsed());
    }
    measure(plan, &bucket)?;
    db.close()?;
    Ok(())
}

/// Single reads of values that are in memory, and of values that mostly are not.
fn measure(plan: &Plan, bucket: &Bucket<u64, Vec<u8>>) -> Outcome<()> {
    const COUNT: u64 = 50_000;
    let hot = 100.min(plan.entries);
    let mut random = Random::new(7);
    let mut read = |keys: u64, what: &str| -> Outcome<()> {
        let start = Instant::now();
        for _ in 0..COUNT {
            bucket.get_with(&(random.next() % keys), Vec::len)?;
        }
        rate(what, COUNT, start);
        println!("    {} ns each", start.elapsed().as_nanos() / u128::from(COUNT));
        Ok(())
    };
    read(hot, "warm-up")?;
    read(hot, "reads of hot keys (hits)")?;
    read(plan.entries, "reads of any key (mostly misses)")
}

/// Recovers, and compares every value with what was acknowledged.
fn verify(plan: &Plan) -> Outcome<()> {
    let start = Instant::now();
    let (db, bucket) = plan.open()?;
    println!("  opened in {:.1?}", start.elapsed());
    let ledger = Ledger::open(plan)?;
    let (mut seen, mut newer, mut wrong) = (0, 0, None);
    let start = Instant::now();
    db.snapshot().iter(&bucket)?.visit(|&key, bytes| {
        let checked = plan.check(key, bytes).and_then(|version| {
            let acknowledged = ledger.get(key).map_err(|error| error.to_string())?;
            // One write a thread may have been under way.
            newer += u64::from(version == acknowledged + 1);
            match version == acknowledged || version == acknowledged + 1 {
                true if key == seen => Ok(()),
                true => Err(format!("key {seen} is lost")),
                false => Err(format!("{key} is at {version}, and {acknowledged} was acknowledged")),
            }
        });
        seen += 1;
        wrong = checked.err();
        if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    rate("scanned and compared", seen, start);
    if let Some(wrong) = wrong {
        return Err(wrong.into());
    }
    if seen != plan.entries || newer > plan.threads {
        return Err(format!("{seen} entries, {newer} of them newer than acknowledged").into());
    }
    print_memory(&db);
    db.close()?;
    Ok(())
}

fn run_part(plan: &Plan, part: &str) -> Outcome<()> {
    let _meter = Meter::start(plan, part)?;
    match part {
        "load" => load(plan),
        "work" | "killed" => work(plan),
        "unlimited" => {
            let plan = Plan { limit: None, ..plan.clone() };
            load(&plan)?;
            work(&plan)
        }
        "verify" => verify(plan),
        other => Err(format!("there is no part {other:?}").into()),
    }
}

/// Runs a part in a process of its own; kills it after a while if told to.
fn spawn(plan: &Plan, part: &str, kill_after: Option<Duration>) -> Outcome<()> {
    println!("{part}");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args().skip(1)).args(["--part", part]);
    command.arg("--store").arg(&plan.store);
    // An arena of the allocator for each thread would keep what others of them could use.
    command.env("MALLOC_ARENA_MAX", "1");
    if kill_after.is_some() {
        command.stdout(Stdio::null());
    }
    let mut child = command.spawn()?;
    if let Some(after) = kill_after {
        thread::sleep(after);
        child.kill()?;
        child.wait()?;
        println!("  killed after {after:?}");
        return Ok(());
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{part} failed: {status}").into()) }
}

fn run(plan: &Plan) -> Outcome<bool> {
    if let Some(part) = &plan.part {
        run_part(plan, part)?;
        return Ok(true);
    }
    std::fs::create_dir(&plan.store)
        .map_err(|error| format!("{} must be a new folder: {error}", plan.store.display()))?;
    let limit = plan.limit.unwrap_or(u64::MAX);
    println!(
        "{} values of {} bytes, {} MiB, under a limit of {} MiB; {} threads",
        plan.entries,
        plan.value_bytes,
        (plan.entries * plan.value_bytes as u64) >> 20,
        limit >> 20,
        plan.threads
    );
    spawn(plan, "load", None)?;
    spawn(plan, "work", None)?;
    spawn(plan, "killed", Some(Duration::from_secs(plan.seconds / 2)))?;
    spawn(plan, "verify", None)?;
    // To compare with: the same without a limit.
    spawn(plan, "unlimited", None)?;
    let most = draw(&plan.store, limit)?;
    std::fs::remove_dir_all(&plan.store)?;
    let is_within = most <= limit / 100 * 115;
    println!("{}", if is_within { "within the limit" } else { "MORE THAN THE LIMIT ALLOWS" });
    Ok(is_within)
}

fn main() -> ExitCode {
    match Plan::of_arguments().and_then(|plan| run(&plan)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

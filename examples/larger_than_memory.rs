//! A store several times larger than the memory it may take.
//!
//! ```text
//! cargo run --release --example larger_than_memory
//! cargo run --release --example larger_than_memory -- --entries 100000 --limit-mib 51
//! ```
//!
//! Loads a durable bucket (a million values of 4 KiB under a limit of 512 MiB, unless told
//! otherwise), reads and writes it from four threads, is killed in the middle of that, recovers,
//! and checks every value. The memory of the process is measured ten times a second and drawn over
//! time; the example fails if it ever exceeds the limit by more than 15 percent, or if anything is
//! lost.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use palisade::{Bucket, Database, Durability, Options};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Clone)]
struct Plan {
    store: PathBuf,
    entries: u64,
    value_bytes: usize,
    limit: Option<u64>,
    threads: u64,
    seconds: u64,
    /// Which part of the run this process is; none for the whole.
    part: Option<String>,
}

impl Plan {
    fn of_arguments() -> Outcome<Self> {
        let mut plan = Self {
            store: std::env::temp_dir().join("palisade-larger-than-memory"),
            entries: 1_000_000,
            value_bytes: 4096,
            limit: Some(512 << 20),
            threads: 4,
            seconds: 20,
            part: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} takes a value"));
            match name.as_str() {
                "--store" => plan.store = value()?.into(),
                "--entries" => plan.entries = value()?.parse()?,
                "--value-bytes" => plan.value_bytes = value()?.parse()?,
                "--limit-mib" => plan.limit = Some(value()?.parse::<u64>()? << 20),
                "--threads" => plan.threads = value()?.parse()?,
                "--seconds" => plan.seconds = value()?.parse()?,
                "--part" => plan.part = Some(value()?),
                _ => return Err(format!("{name} is no option of this example").into()),
            }
        }
        Ok(plan)
    }

    fn open(&self) -> palisade::Result<(Database, Bucket<u64, Vec<u8>>)> {
        let mut options = Options::new().durability(Durability::Relaxed);
        if let Some(limit) = self.limit {
            options = options.memory_limit(limit);
        }
        let db = options.open(self.store.join("db"))?;
        let bucket = db.bucket("values")?;
        Ok((db, bucket))
    }

    /// The value of a key after so many writes.
    fn value(&self, key: u64, version: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.value_bytes);
        bytes.extend(key.to_le_bytes());
        bytes.extend(version.to_le_bytes());
        let mut random = Random::new(key ^ u64::from(version) << 40);
        while bytes.len() < self.value_bytes {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes.truncate(self.value_bytes);
        bytes
    }

    /// The version that a value is of; an error if it is not what was written.
    fn check(&self, key: u64, bytes: &[u8]) -> Result<u32, String> {
        let version = bytes.get(8..12).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes);
        match version {
            Some(version) if bytes == self.value(key, version) => Ok(version),
            _ => Err(format!("the value of {key} is not what was written")),
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// What was acknowledged, by key: outlives the process.
struct Ledger(File);

impl Ledger {
    fn open(plan: &Plan) -> std::io::Result<Self> {
        let path = plan.store.join("acknowledged");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(plan.entries * 4)?;
        Ok(Self(file))
    }

    fn acknowledge(&self, key: u64, version: u32) -> std::io::Result<()> {
        self.0.write_all_at(&version.to_le_bytes(), key * 4)
    }

    fn get(&self, key: u64) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, key * 4)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let mut text = String::new();
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
    let line = read.ok().and_then(|_| text.lines().find(|line| line.starts_with("VmRSS:")));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Measures the memory of the process now and then, and appends it to a file.
struct Meter {
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Meter {
    fn start(plan: &Plan, part: &str) -> std::io::Result<Self> {
        let mut file =
            OpenOptions::new().append(true).create(true).open(plan.store.join("memory"))?;
        let (ends, part) = (Arc::new(AtomicBool::new(false)), part.to_owned());
        let flag = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                // What is not written is not drawn.
                let _ = writeln!(file, "{part} {}", resident());
                thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn rate(what: &str, count: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("  {what:<42} {:>9.0}/s  ({count} in {seconds:.1} s)", count as f64 / seconds);
}

fn load(plan: &Plan) -> Outcome<()> {
    let (db, bucket) = plan.open()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let bucket = &bucket;
                let db = &db;
                scope.spawn(move || {
                    for key in (thread..plan.entries).step_by(plan.threads as usize) {
                        if let Err(e) = bucket.set(key, plan.value(key, 0)) {
                            eprintln!("{key} {e} {:?}", db.stats());
                            return Err(e);
                        }
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
                    if random.next() % 4 != 0 {
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
            bucket.get_with(&(random.next() % keys), |bytes| bytes.len())?;
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
        "work" | "killed" | "unlimited" => work(plan),
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

/// Draws the memory over time, and answers the most that was seen under the limit.
fn draw(store: &Path, limit: u64) -> Outcome<u64> {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const WIDTH: usize = 72;
    let text = std::fs::read_to_string(store.join("memory"))?;
    let samples: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(part, bytes)| Some((part, bytes.parse().ok()?)))
        .collect();
    let mut most = 0;
    println!("resident memory, each sign {} ms or more; a full block is the limit", 100);
    let mut parts: Vec<&str> = samples.iter().map(|sample| sample.0).collect();
    parts.dedup();
    for part in parts {
        let of_part: Vec<u64> =
            samples.iter().filter(|sample| sample.0 == part).map(|sample| sample.1).collect();
        let peak = of_part.iter().copied().max().unwrap_or(0);
        let chunk = of_part.len().div_ceil(WIDTH).max(1);
        let bar = |chunk: &[u64]| {
            let bytes = chunk.iter().copied().max().unwrap_or(0);
            BARS[usize::try_from(bytes * 8 / limit).unwrap_or(8).min(8)]
        };
        let line: String = of_part.chunks(chunk).map(bar).collect();
        println!(
            "  {part:<9} |{line}| {} MiB at most, {}% of the limit",
            peak >> 20,
            peak * 100 / limit
        );
        most = most.max(peak);
    }
    Ok(most)
}

fn run(plan: &Plan) -> Outcome<bool> {
    if let Some(part) = &plan.part {
        run_part(plan, part)?;
        return Ok(true);
    }
    let _ = std::fs::remove_dir_all(&plan.store);
    std::fs::create_dir_all(&plan.store)?;
    let limit = plan.limit.unwrap_or(u64::MAX);
    println!(
        "{} values of {} bytes, {} MiB, under a limit of {} MiB; {} threads",
        plan.entries,
        plan.value_bytes,
        plan.entries * plan.value_bytes as u64 >> 20,
        limit >> 20,
        plan.threads
    );
    spawn(plan, "load", None)?;
    spawn(plan, "work", None)?;
    spawn(plan, "killed", Some(Duration::from_secs(plan.seconds / 2)))?;
    spawn(plan, "verify", None)?;
    let most = draw(&plan.store, limit)?;
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

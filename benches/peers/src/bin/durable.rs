//! What durability costs, beside what the disk can do.
//!
//! 1. Commits at `Full` from one thread and from sixteen, beside the raw rate of write and sync of
//!    as many bytes into a file that was written before: the physical limit.
//! 2. Commits at `Relaxed` beside the same transaction in memory.
//! 3. The latency of commits at `Full` without a checkpoint and beside one.
//! 4. Opening: a million entries of 16 + 100 bytes after a close, and after a kill with all of
//!    them in the log, beside reading the same bytes raw.
//!
//! `--folder PATH` says where the files go: the disk that is measured. Rounds are interleaved, the
//! figures medians.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use palisade::{Bucket, Database, Durability, Options, Result};
use peers::lab::{Random, median, sized};

/// A value; with its key and what is written around them a record of 180 bytes.
const VALUE: usize = 100;
const RECORD: usize = 184;

type Store = Bucket<u64, Vec<u8>>;

fn folder() -> PathBuf {
    let named = std::env::args().skip_while(|it| it != "--folder").nth(1);
    let base = named.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = base.join(format!("palisade-durable-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// A file of this size that was written once, in pages.
fn written_before(path: &Path, bytes: u64) -> File {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path);
    let file = file.expect("the file can be made");
    (0..bytes / 4096).for_each(|page| {
        file.write_all_at(&[0; 4096], page * 4096).expect("there is space");
    });
    file.sync_all().expect("a sync");
    file
}

/// Commits in a second, from so many threads, for so long.
fn commits(db: &Database, store: &Store, threads: u64, span: Duration) -> f64 {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    thread::scope(|scope| {
        for seed in 0..threads {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !stop.load(Ordering::Relaxed) {
                    insert(db, store, random.below(1 << 40));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
    });
    done.into_inner() as f64 / began.elapsed().as_secs_f64()
}

fn insert(db: &Database, store: &Store, key: u64) {
    let done = db.write(|tx| tx.insert(store, key, vec![7; VALUE]).map(drop));
    done.expect("the disk has space");
}

fn raw(file: &File, span: Duration) -> f64 {
    let record = [7; RECORD];
    let (began, mut count) = (Instant::now(), 0_u64);
    let room = file.metadata().expect("the file is open").len() - 4096;
    while began.elapsed() < span {
        file.write_all_at(&record, count * RECORD as u64 % room).expect("a write");
        file.sync_data().expect("a sync");
        count += 1;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn full(folder: &Path, rounds: u64, span: Duration) -> Result<()> {
    let db = Database::open(folder.join("full"))?;
    let store = db.bucket("entries")?;
    let file = written_before(&folder.join("raw"), 32 << 20);
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let [limit, one, sixteen] = &mut rates;
        limit.push(raw(&file, span));
        one.push(commits(&db, &store, 1, span));
        sixteen.push(commits(&db, &store, 16, span));
    }
    let [limit, one, sixteen] = rates.map(|rates| median(&rates));
    println!("\nFull, {VALUE}-byte values        commits/s");
    println!("write and sync, raw         {limit:>9.0}");
    println!("1 committer                 {one:>9.0}   {:.2} of raw", one / limit);
    println!("16 committers               {sixteen:>9.0}   {:.1} x 1 committer", sixteen / one);
    db.close()
}

/// Several pairs of fresh databases, so that no median hangs on the size that one pair has come to,
/// nor on what else the machine did meanwhile; who goes first changes from round to round.
fn relaxed(folder: &Path, (pairs, rounds): (u64, u64), count: u64) -> Result<()> {
    let mut times: [Vec<f64>; 2] = Default::default();
    for pair in 0..pairs {
        let options = Options::new().durability(Durability::Relaxed);
        let disk = options.open(folder.join(format!("relaxed-{pair}")))?;
        let memory = Database::in_memory();
        let (disk_store, memory_store) = (disk.bucket("entries")?, memory.bucket("entries")?);
        let sides = [(&disk, &disk_store), (&memory, &memory_store)];
        for round in 0..rounds {
            let first = usize::from(round % 2 == 1);
            for side in [first, 1 - first] {
                let (db, store) = sides[side];
                let mut random = Random::new(round);
                let began = Instant::now();
                (0..count).for_each(|_| insert(db, store, random.below(1 << 40)));
                times[side].push(began.elapsed().as_nanos() as f64 / count as f64);
            }
        }
        disk.close()?;
    }
    let [on_disk, in_memory] = times.map(|times| median(&times));
    println!("\n1 thread, {VALUE}-byte values     ns a commit");
    println!("in memory                   {in_memory:>9.0}");
    println!("Relaxed                     {on_disk:>9.0}   {:.2} x in memory", on_disk / in_memory);
    Ok(())
}

/// The 99th percentile of `Full` commits, in microseconds.
fn p99(db: &Database, store: &Store, go_on: impl Fn() -> bool) -> f64 {
    let mut random = Random::new(3);
    let mut times = Vec::new();
    while go_on() {
        let began = Instant::now();
        insert(db, store, random.below(1 << 40));
        times.push(began.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}

fn beside_checkpoint(folder: &Path, entries: u64, rounds: u64) -> Result<()> {
    let db = Database::open(folder.join("checkpoint"))?;
    let store: Store = db.bucket("entries")?;
    fill(&db, &store, entries)?;
    let mut sides: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        // Every range is touched, so that the checkpoint writes everything.
        (0..1_000).for_each(|n| insert(&db, &store, n * ((1 << 40) / 1_000)));
        let [alone, beside] = &mut sides;
        let until = Instant::now() + Duration::from_secs(1);
        alone.push(p99(&db, &store, || Instant::now() < until));
        let is_running = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                db.checkpoint().expect("the disk has space");
                is_running.store(false, Ordering::Relaxed);
            });
            beside.push(p99(&db, &store, || is_running.load(Ordering::Relaxed)));
        });
    }
    let [alone, beside] = sides.map(|times| median(&times));
    println!("\nFull, 1 committer           p99, us");
    println!("alone                       {alone:>9.0}");
    println!("beside a checkpoint         {beside:>9.0}   {:.1} x alone", beside / alone);
    db.close()
}

fn fill(db: &Database, store: &Store, entries: u64) -> Result<()> {
    let mut random = Random::new(1);
    for _ in 0..entries / 100 {
        db.write(|tx| {
            for _ in 0..100 {
                tx.insert(store, random.below(1 << 40), vec![7; VALUE])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn big_options() -> Options {
    // All of it stays in the log until somebody asks for a checkpoint.
    Options::new().durability(Durability::Relaxed).checkpoint_after(1 << 40, 100)
}

/// A child: fills a database and is gone without closing it.
fn fill_and_die(path: &Path, entries: u64) -> ! {
    let db = big_options().open(path).expect("the folder is empty");
    let store: Bucket<[u8; 16], Vec<u8>> = db.bucket("entries").expect("a new bucket");
    let mut random = Random::new(1);
    for start in (0..entries).step_by(20) {
        let done = db.write(|tx| {
            for n in start..start + 20 {
                let mut key = [0; 16];
                key[..8].copy_from_slice(&random.below(u64::MAX).to_be_bytes());
                key[8..].copy_from_slice(&n.to_be_bytes());
                tx.insert(&store, key, vec![7; VALUE])?;
            }
            Ok(())
        });
        done.expect("the disk has space");
    }
    std::process::abort();
}

fn reopen(path: &Path, entries: u64) -> Result<(f64, Database)> {
    let began = Instant::now();
    let db = big_options().open(path)?;
    let store: Bucket<[u8; 16], Vec<u8>> = db.bucket("entries")?;
    let took = began.elapsed().as_secs_f64();
    assert_eq!(store.len()? as u64, entries, "nothing is lost");
    Ok((took, db))
}

/// Seconds to read all files of a folder.
fn read_raw(path: &Path) -> f64 {
    let mut buffer = vec![0; 1 << 20];
    let began = Instant::now();
    for entry in fs::read_dir(path).expect("the folder is there").flatten() {
        let file = File::open(entry.path()).expect("a file");
        let mut at = 0;
        while let Ok(read) = file.read_at(&mut buffer, at)
            && read > 0
        {
            at += read as u64;
        }
    }
    began.elapsed().as_secs_f64()
}

fn opening(folder: &Path, entries: u64, rounds: u64) -> Result<()> {
    let path = folder.join("opening");
    let child = std::env::current_exe().expect("this program");
    let status = Command::new(child).arg("--fill").arg(&path).arg(entries.to_string()).status();
    assert!(!status.expect("the child ran").success(), "it dies");
    println!("\nopening {entries} entries of 16 + {VALUE} bytes, page cache warm");
    let (mut after_kill, mut after_close) = (Vec::new(), Vec::new());
    let (mut raw_log, mut raw_tables) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // A copy: a recovery begins a new segment, and the next one is to find the same.
        let copy = folder.join("copy");
        copy_folder(&path, &copy);
        raw_log.push(read_raw(&copy));
        let (took, db) = reopen(&copy, entries)?;
        after_kill.push(took);
        db.checkpoint()?;
        db.close()?;
        raw_tables.push(read_raw(&copy));
        let (took, db) = reopen(&copy, entries)?;
        after_close.push(took);
        drop(db);
        fs::remove_dir_all(&copy).expect("our own folder");
    }
    let sides =
        [("after a kill", &after_kill, &raw_log), ("after a close", &after_close, &raw_tables)];
    for (what, times, raw) in sides {
        let (took, raw) = (median(times), median(raw));
        let each = took * 1e9 / entries as f64;
        println!(
            "{what:<24}    {took:>9.3} s {each:>6.0} ns an entry, {:.2} of raw reading",
            raw / took
        );
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("there is space");
    for entry in fs::read_dir(from).expect("the folder is there").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("there is space");
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, path, entries] = arguments.as_slice()
        && command == "--fill"
    {
        fill_and_die(Path::new(path), entries.parse().expect("a number"));
    }
    let folder = folder();
    let (rounds, span) = sized((7, 1_000), (1, 200));
    let few = sized(3, 1);
    full(&folder, rounds, Duration::from_millis(span))?;
    relaxed(&folder, (few, rounds), sized(100_000, 10_000))?;
    beside_checkpoint(&folder, sized(1_000_000, 50_000), few)?;
    opening(&folder, sized(1_000_000, 50_000), few)?;
    fs::remove_dir_all(&folder).expect("our own folder");
    Ok(())
}

//! What the child does until it is killed, and what must be there afterwards.
//!
//! ```text
//! writer w, commit s     heads[w] = s          one transaction
//!                        log w[s] = value        and, for the even writers, total += 1
//!                        shared[(w, s)] = value
//!                        and entry s - WINDOW of both goes
//! then                   acks/w = s            a file of its own: outlives the process
//! ```
//!
//! So a head h says which entries there are, each with its bytes, and the file says which heads
//! are possible: h, or the one commit that was under way. One more writer makes, renames and drops
//! buckets. Whose turn it is to write is drawn anew in each life, so that some buckets stay closed
//! while checkpoints go on without them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use palisade::{Bucket, Database, Durability, Options, Result, TransactionOptions};

use crate::rng::Rng;

pub(crate) const WRITERS: u64 = 5;
/// The number of the writer that makes and drops buckets.
const CHURN: u64 = WRITERS;
/// Where the lives that were checked are counted, among the acknowledgements.
const LIVES: u64 = WRITERS + 1;
const TOTAL: u64 = u64::MAX;
const WINDOW: u64 = 40;
/// One value in so many is larger than a segment.
const LARGE_EVERY: u64 = 64;

/// What was acknowledged, in files that outlive the process.
pub(crate) struct Acks {
    files: Vec<File>,
}

impl Acks {
    pub(crate) fn open(folder: &Path) -> Self {
        let open = |name: u64| {
            let path = folder.join(format!("ack-{name}"));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).open(path)
        };
        let files = (0..=LIVES).map(open).collect::<std::io::Result<_>>();
        Self { files: files.expect("the folder can be written to") }
    }

    pub(crate) fn get(&self, name: u64) -> u64 {
        let mut bytes = [0; 8];
        let file = self.files.get(usize::try_from(name).expect("few")).expect("a known name");
        match file.read_at(&mut bytes, 0).expect("a file of ours") {
            0 => 0,
            8 => u64::from_le_bytes(bytes),
            other => panic!("{other} bytes of an acknowledgement"),
        }
    }

    fn set(&self, name: u64, value: u64) {
        let file = self.files.get(usize::try_from(name).expect("few")).expect("a known name");
        file.write_all_at(&value.to_le_bytes(), 0).expect("a file of ours");
    }

    /// Lives that opened the store and found everything.
    pub(crate) fn lives(&self) -> u64 {
        self.get(LIVES)
    }

    /// Commits that were acknowledged by all writers.
    pub(crate) fn commits(&self) -> u64 {
        (0..WRITERS).map(|writer| self.get(writer)).sum::<u64>() + self.get(CHURN) / 2
    }
}

/// Where the store and the acknowledgements are, below one folder.
pub(crate) fn store_of(folder: &Path) -> PathBuf {
    folder.join("store")
}

/// Small enough for everything to happen often: segments of a few commits, tables of a few blocks.
pub(crate) fn options(rng: &mut Rng) -> Options {
    let segment = (8 << 10) << rng.below(4);
    let options = Options::new()
        .segment_bytes(segment)
        .checkpoint_after(32 << 10, 50)
        .checkpoint_bytes_per_second(None)
        .table_bytes(2048 << rng.below(4));
    if rng.percent(50) {
        return options.durability(Durability::Full);
    }
    let flush = Duration::from_millis(u64::from(rng.below(20)) + 1);
    options.durability(Durability::Relaxed).flush_interval(flush).flush_after_commits(50)
}

/// One life: opens, checks, and writes until it is killed or `length` is over.
pub(crate) fn live(folder: &Path, seed: u64, length: Duration) {
    let mut rng = Rng::new(seed);
    let acks = Acks::open(folder);
    let db = options(&mut rng).open(store_of(folder)).expect("the store opens");
    // Opening a bucket is a part of what is tried: late, beside checkpoints, or not at all.
    check_heads(&db, &acks);
    if rng.percent(25) {
        check_all(&db, &acks);
    }
    acks.set(LIVES, acks.lives() + 1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let late = Duration::from_millis(u64::from(rng.below(30)));
            if rng.percent(40) {
                continue;
            }
            let (db, acks, is_over) = (&db, &acks, &is_over);
            scope.spawn(move || {
                thread::sleep(late);
                check_writer(db, acks, writer);
                write(db, acks, writer, is_over).expect("commits succeed until the kill");
            });
        }
        if rng.percent(60) {
            scope.spawn(|| churn(&db, &acks, &is_over).expect("buckets come and go"));
        }
        let pause = Duration::from_millis(u64::from(rng.below(10)));
        let began = Instant::now();
        while began.elapsed() < length {
            db.checkpoint().expect("checkpoints succeed until the kill");
            thread::sleep(pause);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

fn value(writer: u64, commit: u64) -> Vec<u8> {
    let mut rng = Rng::new(writer << 32 ^ commit);
    let length = if commit % LARGE_EVERY == 1 { 20_000 } else { rng.below(120) as usize };
    let byte = u8::try_from(rng.next() & 0xff).expect("masked");
    let mut value = vec![byte; length];
    value.extend(commit.to_le_bytes());
    value
}

struct Buckets {
    heads: Bucket<u64, u64>,
    own: Bucket<u64, Vec<u8>>,
    shared: Bucket<(u64, u64), Vec<u8>>,
}

fn buckets(db: &Database, writer: u64) -> Result<Buckets> {
    Ok(Buckets {
        heads: db.bucket("heads")?,
        own: db.bucket(&format!("log {writer}"))?,
        shared: db.bucket("shared")?,
    })
}

fn write(db: &Database, acks: &Acks, writer: u64, is_over: &AtomicBool) -> Result<()> {
    let Buckets { heads, own, shared } = buckets(db, writer)?;
    let mut level = TransactionOptions::new();
    if writer.is_multiple_of(3) {
        level = level.durability(Durability::Full);
    }
    while !is_over.load(Ordering::Relaxed) {
        let commit = db.write_with(&level, |tx| {
            let commit = tx.get(&heads, &writer)?.copied().unwrap_or(0) + 1;
            let value = value(writer, commit);
            tx.insert(&own, commit, value.clone())?;
            tx.insert(&shared, (writer, commit), value)?;
            tx.insert(&heads, writer, commit)?;
            if let Some(old) = commit.checked_sub(WINDOW).filter(|&old| old > 0) {
                tx.remove(&own, &old)?;
                tx.remove(&shared, &(writer, old))?;
            }
            if writer.is_multiple_of(2) {
                tx.update(&heads, TOTAL, |total| Some(total.copied().unwrap_or(0) + 1))?;
            }
            Ok::<u64, palisade::Error>(commit)
        })?;
        acks.set(writer, commit);
    }
    Ok(())
}

fn churned(step: u64) -> String {
    format!("churn {step}")
}

/// Makes, names, fills and drops a bucket each step. Acknowledges 2 n when bucket n is there, and
/// 2 n + 1 when bucket n - 2 is gone.
fn churn(db: &Database, acks: &Acks, is_over: &AtomicBool) -> Result<()> {
    let heads = db.bucket::<u64, u64>("heads")?;
    let done = heads.get(&CHURN)?.unwrap_or(0);
    check_churn(db, acks);
    db.drop_bucket("fresh")?;
    db.drop_bucket(&churned(done + 1))?;
    db.drop_bucket(&churned(done.saturating_sub(2)))?;
    acks.set(CHURN, 2 * done + 1);
    for step in done + 1.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let fresh = db.bucket::<u64, String>("fresh")?;
        db.rename_bucket("fresh", &churned(step))?;
        db.write(|tx| {
            tx.insert(&fresh, step, churned(step))?;
            tx.insert(&heads, CHURN, step)?;
            Ok(())
        })?;
        acks.set(CHURN, 2 * step);
        if let Some(old) = step.checked_sub(2) {
            db.drop_bucket(&churned(old))?;
        }
        acks.set(CHURN, 2 * step + 1);
        let cache = db.volatile_bucket::<u64, u64>("cache")?;
        cache.insert(step, step)?;
    }
    Ok(())
}

/// The heads are what was acknowledged, or one commit further, and agree with the total.
fn check_heads(db: &Database, acks: &Acks) {
    let heads = db.bucket::<u64, u64>("heads").expect("the heads load");
    let snapshot = db.snapshot();
    let head = |name| snapshot.get(&heads, &name).expect("open").copied().unwrap_or(0);
    for writer in 0..WRITERS {
        let (head, acked) = (head(writer), acks.get(writer));
        let is_possible = head == acked || head == acked + 1;
        assert!(is_possible, "writer {writer} was told of {acked}, and {head} is there");
        // What was recovered once stays.
        acks.set(writer, head);
    }
    let sum: u64 = (0..WRITERS).filter(|writer| writer % 2 == 0).map(head).sum();
    assert_eq!(head(TOTAL), sum, "the total and the heads are of one moment");
    let cache = db.volatile_bucket::<u64, u64>("cache").expect("nothing of it was kept");
    assert!(cache.is_empty().expect("open"), "a volatile bucket begins empty");
}

/// The entries of a writer are those that its head says.
fn check_writer(db: &Database, acks: &Acks, writer: u64) {
    let Buckets { heads, own, shared } = buckets(db, writer).expect("the buckets load");
    let snapshot = db.snapshot();
    let head = snapshot.get(&heads, &writer).expect("open").copied().unwrap_or(0);
    assert!(head >= acks.get(writer));
    let first = (head + 1).saturating_sub(WINDOW).max(1);
    let expected = || (first..=head).map(|commit| (commit, value(writer, commit)));
    let found = snapshot.iter(&own).expect("open").map(|(&commit, value)| (commit, value.clone()));
    let (found, wanted): (Vec<_>, Vec<_>) = (found.collect(), expected().collect());
    assert!(found == wanted, "log {writer}: {:?}, not {first}..={head}", ends(&found));
    let range = snapshot.range(&shared, (writer, 0)..=(writer, u64::MAX)).expect("open");
    let found: Vec<_> = range.map(|(&(_, commit), value)| (commit, value.clone())).collect();
    assert!(found == wanted, "shared, {writer}: {:?}, not {first}..={head}", ends(&found));
}

/// The first and the last commit, and how many there are.
fn ends(found: &[(u64, Vec<u8>)]) -> (Option<u64>, Option<u64>, usize) {
    (found.first().map(|it| it.0), found.last().map(|it| it.0), found.len())
}

/// The buckets that come and go are those that the last step left.
fn check_churn(db: &Database, acks: &Acks) {
    let heads = db.bucket::<u64, u64>("heads").expect("the heads load");
    let head = heads.get(&CHURN).expect("open").unwrap_or(0);
    let acked = acks.get(CHURN);
    let is_possible = head == acked / 2 || head == acked / 2 + 1;
    assert!(is_possible, "bucket {} was acknowledged, and {head} is the last", acked / 2);
    let numbers = db.buckets().into_iter();
    let numbers = numbers.filter_map(|it| it.name.strip_prefix("churn ")?.parse::<u64>().ok());
    for number in numbers {
        let is_gone = acked == 2 * head + 1 && number + 2 == head;
        assert!(!is_gone, "the drop of {number} was acknowledged, and it is there");
        assert!((head.saturating_sub(2)..=head + 1).contains(&number), "bucket {number}, {head}");
        let bucket = db.bucket::<u64, String>(&churned(number)).expect("it is listed");
        let found = bucket.iter().expect("open").collect::<Vec<_>>();
        // That of the step after the head may have been made without its transaction.
        let expected = (number <= head).then(|| (number, churned(number)));
        assert!(found.iter().eq(&expected), "{found:?}, after step {head}");
    }
    let names: Vec<_> = db.buckets().into_iter().map(|it| it.name).collect();
    for kept in head.saturating_sub(1).max(1)..=head {
        assert!(names.iter().any(|name| **name == churned(kept)), "{kept} of {names:?} is missing");
    }
}

/// Everything, bucket by bucket.
pub(crate) fn check_all(db: &Database, acks: &Acks) {
    check_heads(db, acks);
    (0..WRITERS).for_each(|writer| check_writer(db, acks, writer));
    check_churn(db, acks);
}

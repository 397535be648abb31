//! Real devices that are full, fail, or lose their power; real limits; real locks.
//!
//! What a machine lacks the means for (root, a tool, loop devices) is skipped, and says why. The
//! oracle is the `ledger`: whatever is found afterwards must be the first n commits, with n at
//! least what was promised.

#![cfg(all(target_os = "linux", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};

use palisade::{Database, Durability, Error, Options, WalError};

#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/child.rs"]
mod child;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "faults/mounts.rs"]
mod mounts;

use ledger::Ledger;
use mounts::{Mount, fill, make_image, punch};

fn options() -> Options {
    Options::new()
        .segment_bytes(64 << 10)
        .checkpoint_bytes_per_second(None)
        .checkpoint_after(u64::MAX, 100)
        .threads(false)
}

/// Skips the test when the machine cannot do something.
macro_rules! or_skip {
    ($possible:expr) => {
        match $possible {
            Ok(made) => made,
            Err(why) => {
                child::skip(&why);
                return;
            }
        }
    };
}

fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::Log(WalError::NoSpace { .. }))
}

fn is_poisoned(error: &Error) -> bool {
    matches!(error, Error::Log(WalError::Poisoned { .. }))
}

/// Error and causes in one line.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn failure(db: &Database) -> Option<String> {
    db.stats().log.expect("the database is durable").failure
}

/// Commits until the log refuses; the last number that was acknowledged, and what it said.
fn add_until_refused(ledger: &Ledger, bytes: usize) -> (u64, Error) {
    let mut last = ledger.check();
    loop {
        match ledger.add(bytes) {
            Ok(number) => last = number,
            Err(error) => return (last, error),
        }
    }
}

#[test]
fn full_device_refuses_commits_and_takes_them_again_when_there_is_space() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let mount = or_skip!(Mount::tmpfs(folder.path().join("full"), 10 << 20));
    let (store, ballast) = (mount.path.join("store"), mount.path.join("ballast"));
    fs::write(&ballast, vec![1; 7 << 20]).unwrap();
    let db = options().open(&store).unwrap();
    let ledger = Ledger::open(&db).unwrap();
    let (acked, error) = add_until_refused(&ledger, 3000);
    assert!(is_no_space(&error), "{}", whole(&error));
    assert_eq!(ledger.check(), acked, "reads go on, and what was refused is not there");
    // A checkpoint needs more room than there is: it fails, and does no harm.
    fill(&mount.path.join("filler"));
    let error = db.checkpoint().unwrap_err();
    assert_eq!(failure(&db), None, "a full device poisons nothing: {}", whole(&error));
    assert!(is_no_space(&ledger.add(200_000).unwrap_err()));
    assert_eq!(ledger.check(), acked);

    fs::remove_file(mount.path.join("filler")).unwrap();
    fs::remove_file(&ballast).unwrap();
    assert_eq!(ledger.add(3000).unwrap(), acked + 1);
    assert!(db.checkpoint().unwrap().tables > 0);
    for _ in 0..20 {
        ledger.add(3000).unwrap();
    }
    drop(ledger);
    db.close().unwrap();
    let db = options().open(&store).unwrap();
    assert_eq!(Ledger::open(&db).unwrap().check(), acked + 21);
    drop(db);
    mount.unmount().unwrap();
}

/// The child's part of the next test: files may have 200 blocks of 512 bytes, or of 1024.
#[test]
#[ignore = "runs as a child, whose files may not be large"]
fn limited() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").expect("the parent says where"));
    let db = options().open(&folder).unwrap();
    let ledger = Ledger::open(&db).unwrap();
    for _ in 0..100 {
        ledger.add(2000).unwrap();
    }
    let error = ledger.add(300_000).unwrap_err();
    assert!(is_no_space(&error), "{}", whole(&error));
    let error = db.checkpoint().unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)), "{}", whole(&error));
    assert_eq!(failure(&db), None);
    assert_eq!(ledger.add(2000).unwrap(), 101);
    assert_eq!(ledger.check(), 101);
    drop(ledger);
    db.close().unwrap();
}

#[test]
fn limit_on_the_size_of_files_is_an_error_and_no_signal() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut command = child::after("trap '' XFSZ; ulimit -f 200", "limited");
    command.env("FOLDER", folder.path());
    child::succeed(command);
    let db = options().open(folder.path()).unwrap();
    assert_eq!(Ledger::open(&db).unwrap().check(), 101);
}

/// The child's part of the next test: few files may be open.
#[test]
#[ignore = "runs as a child, which may not open many files"]
fn crowded() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").expect("the parent says where"));
    let db = options().open(&folder).unwrap();
    let ledger = Ledger::open(&db).unwrap();
    ledger.add(100).unwrap();
    let mut others: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // The next segment cannot be made, nor a table.
    let (acked, error) = add_until_refused(&ledger, 2000);
    let limit = "Too many open files";
    assert!(acked > 10 && whole(&error).contains(limit), "{acked}, {}", whole(&error));
    let error = db.checkpoint().unwrap_err();
    assert!(whole(&error).contains(limit), "{}", whole(&error));
    let error = Database::open(folder.join("other")).unwrap_err();
    assert!(whole(&error).contains(limit), "{}", whole(&error));
    assert_eq!(failure(&db), None);
    assert_eq!(ledger.check(), acked);

    others.truncate(others.len() - 8);
    for number in acked + 1..=100 {
        assert_eq!(ledger.add(2000).unwrap(), number);
    }
    db.checkpoint().unwrap();
    drop(ledger);
    db.close().unwrap();
}

#[test]
fn too_many_open_files_refuse_commits_until_some_are_closed() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut command = child::after("ulimit -n 48", "crowded");
    command.env("FOLDER", folder.path());
    child::succeed(command);
    let db = options().open(folder.path()).unwrap();
    assert_eq!(Ledger::open(&db).unwrap().check(), 100);
}

/// The child's part of the next test: holds the store until it is killed.
#[test]
#[ignore = "runs as a child, which is killed"]
fn holder() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").expect("the parent says where"));
    let db = options().durability(Durability::Relaxed).open(folder.join("store")).unwrap();
    let ledger = Ledger::open(&db).unwrap();
    let number = ledger.add(10).unwrap();
    fs::write(folder.join("ready"), number.to_string()).unwrap();
    thread::sleep(child::PATIENCE);
}

#[test]
fn second_process_is_refused_by_name_and_let_in_after_a_kill() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for life in 1..=2 {
        let mut command = child::plain("holder");
        command.env("FOLDER", folder.path());
        let mut child = command.spawn().unwrap();
        let ready = folder.path().join("ready");
        let life_text = life.to_string();
        child::wait_until(&mut child, "a commit", || {
            fs::read_to_string(&ready).is_ok_and(|text| text == life_text)
        });
        let refused = Database::open(&store).unwrap_err();
        let Error::AlreadyOpen { holder, path } = &refused else { panic!("{refused}") };
        assert_eq!(holder.as_deref(), Some(format!("process {}", child.id()).as_str()));
        assert_eq!(*path, store);
        child.kill().unwrap();
        child.wait().unwrap();
        let db = Database::open(&store).unwrap();
        assert_eq!(Ledger::open(&db).unwrap().check(), life);
    }
}

#[test]
fn directory_that_may_not_be_written_to_is_refused_and_left_alone() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let mount = or_skip!(Mount::tmpfs(folder.path().join("readonly"), 4 << 20));
    let store = mount.path.join("store");
    let db = options().open(&store).unwrap();
    Ledger::open(&db).unwrap().add(10).unwrap();
    drop(db);
    or_skip!(mount.remount("ro"));
    for path in [&store, &mount.path.join("new")] {
        let error = options().open(path).unwrap_err();
        let text = whole(&error);
        assert!(matches!(error, Error::Io { .. }) && text.contains("Read-only"), "{text}");
    }
    mount.remount("rw").unwrap();
    let db = options().open(&store).unwrap();
    assert_eq!(Ledger::open(&db).unwrap().check(), 1);
    drop(db);
    mount.unmount().unwrap();
}

/// Cuts the power of a file system: nothing more is written to its device, its journal's last
/// records neither.
fn cut_power(folder: &Path) -> Result<(), String> {
    use rustix::ioctl::{Setter, ioctl, opcode};
    const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
    const NO_LOG_FLUSH: u32 = 2;
    let folder = File::open(folder).map_err(|error| error.to_string())?;
    // SAFETY: the file system reads one `u32` through the pointer, which is what the opcode says,
    // and keeps none of it.
    let request = unsafe { Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH) };
    // SAFETY: as above; the descriptor is open for the length of the call.
    let done = unsafe { ioctl(folder.as_fd(), request) };
    done.map_err(|errno| format!("this file system has no shutdown: {errno}"))
}

/// Threads that commit until the log refuses; each acknowledged number goes to `acked`.
fn write_until_refused(db: &Database, acked: &AtomicU64, cut: impl FnOnce()) {
    let (is_over, enough) = (AtomicBool::new(false), acked.load(Ordering::Relaxed) + 60);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let ledger = Ledger::open(db).unwrap();
                    while !is_over.load(Ordering::Relaxed) {
                        match ledger.add(300) {
                            Ok(number) => drop(acked.fetch_max(number, Ordering::Relaxed)),
                            Err(_) => break,
                        }
                    }
                })
            })
            .collect();
        while acked.load(Ordering::Relaxed) < enough
            && !writers.iter().all(ScopedJoinHandle::is_finished)
        {
            thread::yield_now();
        }
        cut();
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn power_cut_keeps_what_was_synced_and_leaves_no_hole() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    or_skip!(make_image(&image, 64 << 20, true));
    let mut total = 0;
    for life in 0..6_u64 {
        let mount = or_skip!(Mount::image(&image, folder.path().join("disk")));
        let store = mount.path.join("store");
        let level = if life % 2 == 0 { Durability::Full } else { Durability::Relaxed };
        let options = options().durability(level).threads(true).checkpoint_after(64 << 10, 50);
        let db = options.open(&store).unwrap();
        let ledger = Ledger::open(&db).unwrap();
        let found = ledger.check();
        assert!(found >= total, "life {life}: {total} were durable, and {found} are there");
        let (acked, synced) = (AtomicU64::new(found), AtomicU64::new(found));
        let mut power = Ok(());
        write_until_refused(&db, &acked, || {
            if level == Durability::Relaxed {
                let before = acked.load(Ordering::Relaxed);
                db.sync().unwrap();
                synced.fetch_max(before, Ordering::Relaxed);
            }
            power = cut_power(&mount.path);
        });
        or_skip!(power);
        let error = add_until_refused(&ledger, 300).1;
        assert!(matches!(error, Error::Log(_)), "{}", whole(&error));
        let shown = ledger.check();
        if level == Durability::Full {
            synced.fetch_max(acked.load(Ordering::Relaxed), Ordering::Relaxed);
            assert!(shown >= synced.load(Ordering::Relaxed), "reads go on");
        }
        total = synced.load(Ordering::Relaxed);
        println!("life {life}, {level:?}: {found} were found, {total} durable at the cut");
        drop(ledger);
        drop(db);
        mount.unmount().unwrap();
    }
    let mount = or_skip!(Mount::image(&image, folder.path().join("disk")));
    let db = options().open(mount.path.join("store")).unwrap();
    let found = Ledger::open(&db).unwrap().check();
    assert!(found >= total && total >= 360, "{total} were durable, and {found} are there");
    drop(db);
    mount.unmount().unwrap();
}

/// Commits until the log ends at the end of a block; the block that comes next. For the loop device
/// takes a request of which only the beginning found room for a success: none may begin in a block
/// that has its room.
fn fill_block(db: &Database, ledger: &Ledger) -> u64 {
    // The position in the file is the lower half.
    let position = || db.stats().log.unwrap().position.get() & 0xffff_ffff;
    let end = || position() % 4096;
    ledger.add(1000).unwrap();
    let before = end();
    ledger.add(1000).unwrap();
    // All that a commit takes beside its bytes.
    let overhead = end() - before - 1000;
    let rest = 4096 - end();
    ledger.add(usize::try_from(rest - overhead).unwrap()).unwrap();
    db.sync().unwrap();
    assert_eq!(end(), 0, "the block is full");
    position() / 4096
}

/// A write-back that fails because the device below has no room for blocks that it gave away.
#[test]
fn failed_write_back_stops_writing_for_good_and_loses_nothing_promised() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let below = or_skip!(Mount::tmpfs(folder.path().join("below"), 24 << 20));
    let image = below.path.join("image");
    or_skip!(make_image(&image, 48 << 20, false));
    for (life, level) in [Durability::Full, Durability::Relaxed].into_iter().enumerate() {
        let disk = or_skip!(Mount::image(&image, folder.path().join("disk")));
        let store = disk.path.join(format!("store {life}"));
        let db = options().durability(level).open(&store).unwrap();
        let ledger = Ledger::open(&db).unwrap();
        let first = fill_block(&db, &ledger);
        or_skip!(mounts::run("sync", &[]));
        for entry in fs::read_dir(&store).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                or_skip!(punch(&image, &path, first));
            }
        }
        let filler = below.path.join("filler");
        fill(&filler);
        let mut acked = ledger.check();
        let error = loop {
            let outcome = ledger.add(3000).and_then(|number| db.sync().map(|()| number));
            match outcome {
                Ok(number) => acked = number,
                Err(error) => break error,
            }
            assert!(acked < 100, "the device was to fail");
        };
        assert!(is_poisoned(&error), "{}", whole(&error));
        let cause = failure(&db).expect("told in the statistics");
        assert!(whole(&error).contains("rror"), "{} / {cause}", whole(&error));

        fs::remove_file(&filler).unwrap();
        for _ in 0..3 {
            let again = ledger.add(10).unwrap_err();
            assert!(is_poisoned(&again), "healing does not help: {}", whole(&again));
            assert!(is_poisoned(&db.sync().unwrap_err()) && db.checkpoint().is_err());
        }
        let shown = ledger.check();
        assert!(shown >= acked, "reads go on");
        drop(ledger);
        db.close().unwrap_err();
        disk.unmount().unwrap();
        let disk = Mount::image(&image, folder.path().join("disk")).unwrap();
        let db = options().open(&store).unwrap();
        let ledger = Ledger::open(&db).unwrap();
        let found = ledger.check();
        assert!(found >= acked, "{acked} were durable, and {found} are there");
        println!("{level:?}: {acked} durable, {found} found; {}", whole(&error));
        assert_eq!(ledger.add(10).unwrap(), found + 1);
        drop((ledger, db));
        disk.unmount().unwrap();
    }
    below.unmount().unwrap();
}

/// The child's part of the next test: one of its system calls fails.
#[test]
#[ignore = "runs as a child, under a tracer that lets a call fail"]
fn refused() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").expect("the parent says where"));
    let Ok(db) = options().open(folder.join("store")) else { return };
    let Ok(ledger) = Ledger::open(&db) else { return };
    let mut acked = ledger.check();
    let mut poisoned = None;
    for step in 0..60 {
        if step % 20 == 10 {
            // It may fail by itself, and leave the log as it was.
            let _ = db.checkpoint();
        }
        let outcome = ledger.add(2000);
        if let Some(first) = &poisoned {
            let error = outcome.unwrap_err();
            assert_eq!(whole(&error), *first, "the first cause stays");
            continue;
        }
        match outcome {
            Ok(number) => {
                assert_eq!(number, acked + 1, "a refused commit is not there");
                acked = number;
                fs::write(folder.join("acked"), acked.to_string()).unwrap();
            }
            Err(error) if is_poisoned(&error) => poisoned = Some(whole(&error)),
            Err(error) => assert!(matches!(error, Error::Log(_)), "{}", whole(&error)),
        }
    }
    assert!(ledger.check() >= acked, "reads go on");
    assert_eq!(failure(&db).is_some(), poisoned.is_some());
    fs::write(folder.join("outcome"), poisoned.unwrap_or_default()).unwrap();
}

#[test]
fn single_failing_calls_lose_nothing_acknowledged() {
    let _alone = child::alone();
    if !child::has_program("strace", "--version") {
        child::skip("strace is not installed");
        return;
    }
    let (mut poisoned, mut unharmed) = (0, 0);
    for (call, error) in [
        ("fdatasync", "EIO"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("fsync", "EIO"),
        ("?rename,?renameat,?renameat2", "EIO"),
        ("?fallocate", "ENOSPC"),
        ("?mmap", "ENOMEM"),
    ] {
        for at in [1, 6, 20, 45] {
            // Mapping memory is what starting a process consists of; only later ones are ours.
            let at = if call == "?mmap" { at + 60 } else { at };
            let folder = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:error={error}:when={at}");
            let tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let mut command = child::under(&tracer, "refused");
            command.env("FOLDER", folder.path());
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{inject}: {told}");
            match fs::read_to_string(folder.path().join("outcome")).as_deref() {
                Ok("") => unharmed += 1,
                Ok(_) => poisoned += 1,
                Err(_) => {}
            }
            let acked = fs::read_to_string(folder.path().join("acked"));
            let acked: u64 = acked.map_or(0, |text| text.parse().unwrap());
            let db = options().open(folder.path().join("store")).unwrap();
            let found = Ledger::open(&db).unwrap().check();
            assert!(found >= acked, "{inject}: {acked} acknowledged, and {found} are there");
        }
    }
    println!("{poisoned} failures stopped the log, {unharmed} did no harm");
    assert!(poisoned >= 4 && unharmed >= 4, "too few calls were reached");
}

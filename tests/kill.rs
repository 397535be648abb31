//! Processes that are killed while they write, on real files: nothing that was acknowledged is
//! lost, at either level of durability, and nothing is there by half.
//!
//! A child (this binary again) writes from many threads while checkpoints run; the parent kills it
//! and starts the next one on the same directory, which first checks what it finds. The children
//! die at random moments, in the middle of a recovery included, and at chosen system calls.
//!
//! ```text
//! KILL_CYCLES=1000 cargo test --release --all-features --test kill -- --nocapture
//! ```

#![cfg(all(unix, feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use palisade::Options;

#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/child.rs"]
mod child;
#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/rng.rs"]
mod rng;
#[path = "kill/workload.rs"]
mod workload;

use rng::{Rng, env, seed};
use workload::{Acks, check_all, live, store_of};

/// The child's part, told by the environment.
#[test]
#[ignore = "runs as a child of the other tests, which kill it"]
fn writer() {
    let folder = PathBuf::from(std::env::var_os("KILL_FOLDER").expect("the parent says where"));
    live(&folder, env("KILL_SEED", 0), Duration::from_millis(env("KILL_LENGTH_MS", 0)));
}

/// Tells a child what to do.
fn brief(mut command: Command, folder: &Path, seed: u64, length_ms: u64) -> Command {
    command.env("KILL_FOLDER", folder);
    command.env("KILL_SEED", seed.to_string()).env("KILL_LENGTH_MS", length_ms.to_string());
    command
}

/// Everything is there, and once more after a clean close.
fn check_at_the_end(folder: &Path) {
    let acks = Acks::open(folder);
    for _ in 0..2 {
        let db = Options::new().segment_bytes(16 << 10).open(store_of(folder)).unwrap();
        check_all(&db, &acks);
        db.close().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kills_at_random_moments() {
    let _alone = child::alone();
    let folder = tempfile::tempdir().unwrap();
    let (cycles, seed) = (env("KILL_CYCLES", 20), seed());
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let acks = Acks::open(folder.path());
    let began = Instant::now();
    for cycle in 0..cycles {
        let lives = acks.lives();
        let command = brief(child::plain("writer"), folder.path(), rng.next(), 60_000);
        let mut child = { command }.spawn().unwrap();
        if rng.percent(75) {
            child::wait_until(&mut child, "the end of its checks", || acks.lives() > lives);
            thread::sleep(Duration::from_micros(u64::from(rng.below(80_000))));
        } else {
            // While it opens the store.
            thread::sleep(Duration::from_micros(u64::from(rng.below(30_000))));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "cycle {cycle}: {status}\n{}", child::told(&mut child));
    }
    check_at_the_end(folder.path());
    let (lives, commits) = (acks.lives(), acks.commits());
    println!("{cycles} kills, {lives} after all was checked, {commits} commits acknowledged");
    println!("none lost, in {:.1} s", began.elapsed().as_secs_f64());
    assert!(lives * 2 >= cycles && commits > cycles, "too little happened to prove anything");
}

#[test]
fn nothing_acknowledged_is_lost_to_kills_at_chosen_system_calls() {
    let _alone = child::alone();
    if !child::has_program("strace", "--version") {
        child::skip("strace is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let calls = [
        "pwrite64",
        "fdatasync",
        "fsync",
        "?rename,?renameat,?renameat2",
        "?unlink,?unlinkat",
        "?fallocate",
        "?open,?openat",
    ];
    let (rounds, seed) = (env("KILL_CYCLES", 20).div_ceil(10), seed());
    println!("seed {seed}");
    let mut rng = Rng::new(seed ^ 1);
    let (mut killed, began) = (0, Instant::now());
    for round in 0..rounds {
        for call in calls {
            let at = 1 + rng.below(24);
            let inject = format!("inject={call}:signal=SIGKILL:when={at}");
            let program = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let command = brief(child::under(&program, "writer"), folder.path(), rng.next(), 700);
            let output = { command }.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            if told.contains("ptrace") && told.contains("not permitted") {
                child::skip(&format!("strace may not trace here: {told}"));
                return;
            }
            // The tracer dies the way of its child; one that is not killed ends well.
            let is_killed = output.status.code().is_none();
            assert!(is_killed || output.status.success(), "{round}, {inject}: {told}");
            killed += u64::from(is_killed);
        }
    }
    check_at_the_end(folder.path());
    let (tried, commits) = (rounds * calls.len() as u64, Acks::open(folder.path()).commits());
    println!("{killed} kills of {tried} at system calls, {commits} commits acknowledged");
    println!("none lost, in {:.1} s", began.elapsed().as_secs_f64());
    assert!(killed * 2 > tried, "too few calls were reached");
}

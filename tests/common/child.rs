//! This test binary once more, as a process of its own that may be killed, limited or locked out.
//!
//! The child runs one test that is ignored otherwise, and is told what to do by the environment.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a child may take for anything before the test fails instead of waiting.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Has the tests of a binary run one after the other. A child that another thread starts holds all
/// open files for a moment, until it becomes its program: locks and mounts, too.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs the ignored test `role` of this binary.
pub(crate) fn arguments(role: &str) -> Vec<String> {
    let binary = std::env::current_exe().expect("this process runs a file");
    let binary = binary.into_os_string().into_string().expect("cargo names its files in UTF-8");
    [&binary, role, "--exact", "--ignored", "--nocapture", "--test-threads=1"]
        .map(str::to_owned)
        .into()
}

/// Has a shell do `setup` (limits, signals that are ignored) and become the child.
pub(crate) fn after(setup: &str, role: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{setup}\nexec \"$0\" \"$@\"")).args(arguments(role));
    quiet(command)
}

/// The child, without anything around it.
pub(crate) fn plain(role: &str) -> Command {
    under(&[], role)
}

/// The child as the last arguments of another program.
pub(crate) fn under(program: &[&str], role: &str) -> Command {
    let mut all = program.iter().map(|&word| word.to_owned()).chain(arguments(role));
    let mut command = Command::new(all.next().expect("the child's own name is there"));
    command.args(all);
    quiet(command)
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits for `is_there`, looking again and again; fails when the child ends before, or never gets
/// there.
pub(crate) fn wait_until(child: &mut Child, what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < PATIENCE, "the child does not come to {what}");
        if let Some(status) = child.try_wait().expect("the child is ours") {
            assert!(is_there(), "the child ended before {what}: {status}\n{}", told(child));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the child wrote to its standard error. It has ended, or this waits for that.
pub(crate) fn told(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(pipe) = &mut child.stderr {
        std::io::Read::read_to_string(pipe, &mut text).expect("what a child tells is text");
    }
    text
}

/// Runs the child to its end, which must be a good one.
pub(crate) fn succeed(mut command: Command) {
    let Output { status, stderr, .. } = command.output().expect("the child can be started");
    assert!(status.success(), "the child failed: {status}\n{}", String::from_utf8_lossy(&stderr));
}

/// Says that the test which runs is skipped, and why: not by what the harness captures of tests
/// that succeed, so never silently.
pub(crate) fn skip(why: &str) {
    let test = thread::current();
    let line = format!("skipped: {}: {why}\n", test.name().unwrap_or("a test"));
    std::io::stderr().write_all(line.as_bytes()).expect("the standard error can be written to");
}

/// Whether a program is there to be run.
pub(crate) fn has_program(name: &str, argument: &str) -> bool {
    let mut command = Command::new(name);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

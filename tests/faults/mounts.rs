//! File systems of our own, made by the system's own tools: what only root may do.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program; what it said if it failed or is not there.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("folders of tests are named in UTF-8")
}

/// A mounted file system, gone with this.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
}

impl Mount {
    /// A file system in memory of so many bytes.
    pub(crate) fn tmpfs(path: PathBuf, bytes: u64) -> Result<Self, String> {
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", text(&path)])?;
        Ok(Self { path })
    }

    /// An ext4 file system that lies in a file.
    pub(crate) fn image(image: &Path, path: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        run("mount", &["-t", "ext4", "-o", "loop", text(image), text(&path)])?;
        Ok(Self { path })
    }

    pub(crate) fn remount(&self, how: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.path)]).map(drop)
    }

    /// Takes it away, as if the machine had gone on without it.
    pub(crate) fn unmount(self) -> Result<(), String> {
        let outcome = run("umount", &[text(&self.path)]).map(drop);
        if outcome.is_ok() {
            std::mem::forget(self);
        }
        outcome
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A failing test may have files open still.
        let _ = run("umount", &["--lazy", text(&self.path)]);
    }
}

/// A file with an empty ext4 file system of so many bytes, none of which it takes yet. All of its
/// own records are written at once, not when there is time.
pub(crate) fn make_image(path: &Path, bytes: u64, journal: bool) -> Result<(), String> {
    let file = File::create(path).and_then(|file| file.set_len(bytes));
    file.map_err(|error| error.to_string())?;
    let extended = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    let features = if journal { "has_journal" } else { "^has_journal" };
    run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", extended, "-O", features, text(path)])?;
    Ok(())
}

/// Takes the image's blocks away from a file in it, from block `first` on: they read as zeros, and
/// whoever writes to them needs new space below.
pub(crate) fn punch(image: &Path, file: &Path, first: u64) -> Result<(), String> {
    let listed = run("filefrag", &["-e", "-b4096", text(file)])?;
    for line in listed.lines() {
        // `   0:        0..      15:      34304..     34319:     16:  last,eof`
        let fields = line.split(&[':', '.', ' ', ','][..]).filter(|field| !field.is_empty());
        let numbers: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let [_, logical, _, physical, _, blocks, ..] = numbers[..] else { continue };
        let skipped = first.saturating_sub(logical).min(blocks);
        let offset = ((physical + skipped) * 4096).to_string();
        let length = ((blocks - skipped) * 4096).to_string();
        if skipped < blocks {
            run("fallocate", &["--punch-hole", "-o", &offset, "-l", &length, text(image)])?;
        }
    }
    Ok(())
}

/// Writes a file until there is no room for more of it.
pub(crate) fn fill(path: &Path) {
    let mut file = File::create(path).expect("there is room for a name");
    for bytes in [1 << 20, 4096, 1] {
        loop {
            match file.write_all(&vec![1; bytes]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

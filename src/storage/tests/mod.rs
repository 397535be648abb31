//! What every storage promises, what a crash of the simulated one may do, and what it must not.
//!
//! `seam` runs one suite of facts on real files and on the simulated disk. `crash` looks at single
//! rules of a power cut, and that each outcome which a rule allows does occur; `faults` at what
//! goes wrong without one. `model` compares random histories with a plain model.

mod crash;
mod faults;
mod model;
mod seam;

use crate::storage::{Access, FaultDisk, File, Storage};
use std::collections::BTreeSet;
use std::path::Path;

/// The top directory of a simulated disk.
const TOP: &str = "";
/// Crash states that are looked at where every outcome must be met.
const SEEDS: u64 = 400;

/// A disk on which nothing is written back by itself.
fn quiet() -> FaultDisk {
    let disk = FaultDisk::new(1);
    disk.set_write_back(0);
    disk
}

fn create(disk: &FaultDisk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.open(Path::new(path), Access::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// The same, durable with its name.
fn create_synced(disk: &FaultDisk, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = create(disk, path, bytes);
    file.sync_all().unwrap();
    disk.sync_dir(Path::new(TOP)).unwrap();
    file
}

fn content(disk: &FaultDisk, path: &str) -> Option<Vec<u8>> {
    disk.content(Path::new(path))
}

/// What crashes leave, each once.
fn crashes<T: Ord>(disk: &FaultDisk, look: impl Fn(&FaultDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.crash(seed))).collect()
}

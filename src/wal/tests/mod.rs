//! The log on the simulated disk.
//!
//! `facts` looks at single promises, `faults` at calls that fail, `damage` at files that changed
//! behind the log's back. `lives` runs random histories with a crash at every call, and `mistakes`
//! shows that each rule of the log that is broken on purpose is noticed by one of them.

mod damage;
mod facts;
mod faults;
mod lives;
mod mistakes;
mod threads;

use std::path::Path;
use std::time::Duration;

use crate::id::{DatabaseId, Lsn, Timestamp};
use crate::storage::{FaultDisk, Sabotages};
use crate::sync::Arc;
use crate::wal::{
    Draft, Flaw, FlushPolicy, Kind, Payload, PayloadSeed, Record, Recovered, Scope, Wal, WalError,
    WalOptions, read_log,
};

const DATABASE: DatabaseId = DatabaseId::from_raw(0x5EED);

/// The directory of the log.
fn top() -> &'static Path {
    Path::new("")
}

/// Everything, strictly.
fn all() -> Scope {
    from(Lsn::ZERO)
}

fn from(needed: Lsn) -> Scope {
    let (clean_end, durable) = (None, Lsn::ZERO);
    Scope { database: DATABASE, needed, clean_end, durable, tolerates_damage: false }
}

/// Small segments, and nothing that depends on a clock.
fn options(sabotages: Sabotages) -> WalOptions {
    WalOptions {
        segment_bytes: WalOptions::SEGMENT_BYTES_MIN,
        gather_max: Duration::ZERO,
        flush: FlushPolicy { interval: None, commits: None, bytes: None },
        sabotages,
        ..WalOptions::new(7)
    }
}

fn small() -> WalOptions {
    options(Sabotages::default())
}

fn payload(bytes: &[u8]) -> Payload {
    let mut draft = Draft::new(PayloadSeed::of(DATABASE));
    draft.bytes().extend_from_slice(bytes);
    draft.finish(bytes.len()).expect("the payloads of these tests are small")
}

/// A commit as it is read back.
type Commit = (u64, Vec<u8>);

/// Opens, and gives the commits that were there.
fn open_with(
    disk: &FaultDisk,
    scope: &Scope,
    options: WalOptions,
) -> Result<(Wal, Recovered, Vec<Commit>), WalError> {
    let mut commits = Vec::new();
    let (wal, recovered) =
        Wal::open(Arc::new(disk.clone()), top(), scope, options, &mut keep(&mut commits))?;
    Ok((wal, recovered, commits))
}

fn keep(commits: &mut Vec<Commit>) -> impl FnMut(Record<'_>) -> Result<(), WalError> {
    |record| {
        if record.kind == Kind::Commit {
            commits.push((record.timestamp.get(), record.payload.to_vec()));
        }
        Ok(())
    }
}

fn open(disk: &FaultDisk) -> (Wal, Vec<Commit>) {
    let (wal, _, commits) = open_with(disk, &all(), small()).expect("the log is whole");
    (wal, commits)
}

/// Reads without writing.
fn look(disk: &FaultDisk, scope: &Scope) -> Result<(Recovered, Vec<Commit>), WalError> {
    let mut commits = Vec::new();
    let storage = Arc::new(disk.clone());
    let recovered = read_log(storage, top(), scope, &small(), &mut keep(&mut commits))?;
    Ok((recovered, commits))
}

/// Appends one commit; does not sync.
fn commit(wal: &Wal, timestamp: u64, bytes: &[u8]) -> Result<Lsn, WalError> {
    let mut payload = payload(bytes);
    wal.reserve(Some(&mut payload))?.append(Timestamp::from_raw(timestamp))
}

/// Appends and syncs commits whose payload is their timestamp, over and over.
fn commit_all(wal: &Wal, timestamps: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Lsn> {
    let mut ends = Vec::new();
    for timestamp in timestamps {
        let end = commit(wal, timestamp, &content(timestamp, bytes)).expect("there is room");
        wal.sync_to(end).expect("the disk works");
        ends.push(end);
    }
    ends
}

fn content(timestamp: u64, bytes: usize) -> Vec<u8> {
    timestamp.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

fn contents(timestamps: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Commit> {
    timestamps.map(|timestamp| (timestamp, content(timestamp, bytes))).collect()
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

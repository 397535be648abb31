//! Files that changed behind the log's back.
//!
//! Aim: what is found is all there was, or it is refused as damage; less is found only where
//! nothing that is left can prove that there was more, which after a clean close is nowhere. Never
//! anything else, and never a panic.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::storage::Sabotage;

/// A log of several segments, recycled ones among them, closed cleanly.
struct Store {
    disk: FaultDisk,
    needed: Lsn,
    clean_end: Lsn,
    commits: Vec<Commit>,
}

fn store(seed: u64, sabotages: Sabotages) -> Store {
    let disk = FaultDisk::new(seed);
    let mut random = Random(seed);
    let (wal, ..) = open_with(&disk, &all(), options(sabotages)).unwrap();
    let mut commits = Vec::new();
    let mut needed = Lsn::ZERO;
    for timestamp in 1..=60_u64 {
        let size = [20, 100, 100, 700, 1500][usize::try_from(random.below(5)).unwrap()];
        let end = commit(&wal, timestamp, &content(timestamp, size)).unwrap();
        wal.sync_to(end).unwrap();
        commits.push((timestamp, content(timestamp, size)));
        if timestamp == 30 {
            (needed, commits) = (end, Vec::new());
            wal.release(needed).unwrap();
        }
        if random.once_in(8) {
            wal.prepare_spare().unwrap();
        }
    }
    let clean_end = wal.close().unwrap();
    drop(wal);
    disk.settle();
    Store { disk, needed, clean_end, commits }
}

fn is_refusal(error: &WalError) -> bool {
    matches!(
        error,
        WalError::Corruption { .. }
            | WalError::MissingSegment { .. }
            | WalError::Foreign { .. }
            | WalError::Version { .. }
    )
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Same,
    Refused,
    Shorter,
}

impl Store {
    /// Reads a damaged copy, strictly, then as salvage does, then by opening it.
    fn judge(&self, damaged: &FaultDisk, is_clean: bool) -> Result<Verdict, String> {
        let clean_end = is_clean.then_some(self.clean_end);
        let scope = Scope { clean_end, ..from(self.needed) };
        let (salvaged, found) = look(damaged, &Scope { tolerates_damage: true, ..scope })
            .map_err(|error| format!("not even tolerated: {error}"))?;
        if !self.commits.starts_with(&found) {
            return Err(format!("salvage found another history, {} commits", found.len()));
        }
        let verdict = match look(damaged, &scope) {
            Ok((_, strict)) if strict != found => return Err("salvage sees another log".to_owned()),
            Ok(_) if !salvaged.damage.is_empty() => return Err("damage was not told".to_owned()),
            Ok((_, found)) if found == self.commits => Verdict::Same,
            Ok((_, found)) if self.commits.starts_with(&found) && !is_clean => Verdict::Shorter,
            Ok((_, found)) => return Err(format!("{} of {}", found.len(), self.commits.len())),
            Err(error) if !is_refusal(&error) => return Err(format!("refused by: {error}")),
            Err(_) => Verdict::Refused,
        };
        let opened = open_with(&damaged.kill(1), &scope, small());
        if opened.is_ok() != (verdict != Verdict::Refused) {
            return Err(format!("opening and reading disagree: {:?}", opened.err()));
        }
        Ok(verdict)
    }
}

/// Does something bad to one file, by the number of the way.
fn harm(disk: &FaultDisk, way: u64, random: &mut Random) -> bool {
    let paths = disk.paths();
    let mut pick = || paths[usize::try_from(random.below(paths.len() as u64)).unwrap()].clone();
    let (path, other) = (pick(), pick());
    let (path, other) = (Path::new(&path), Path::new(&other));
    let length = disk.content(path).map_or(0, |bytes| bytes.len());
    let sectors = length as u64 / 512;
    let sector = |random: &mut Random| usize::try_from(random.below(sectors)).unwrap();
    match way {
        0..=3 => disk.flip_bit(path, random.below(length as u64 * 8)),
        4 => disk.zero_sector(path, sector(random)),
        5 => disk.copy_sector(path, sector(random), sector(random)),
        6 => disk.swap_sectors(path, sector(random), sector(random)),
        7 => {
            disk.truncate(path, usize::try_from(random.below(length as u64)).unwrap());
            true
        }
        8 => {
            disk.delete(path);
            true
        }
        _ => {
            disk.swap_files(path, other);
            path != other
        }
    }
}

#[test]
fn damage_is_refused_or_harmless() {
    let mut met = BTreeSet::new();
    for seed in 0..8 {
        let store = store(seed, Sabotages::default());
        for is_clean in [true, false] {
            let undamaged = store.judge(&store.disk.kill(0), is_clean);
            assert_eq!(undamaged.unwrap(), Verdict::Same);
        }
        for case in 0..60_u64 {
            let mut random = Random(seed << 32 | case);
            let damaged = store.disk.kill(0);
            if !harm(&damaged, case % 10, &mut random) {
                continue;
            }
            for is_clean in [true, false] {
                let verdict = store.judge(&damaged, is_clean);
                let verdict =
                    verdict.unwrap_or_else(|error| panic!("seed {seed}, case {case}: {error}"));
                met.insert((is_clean, verdict));
            }
        }
    }
    let all = [
        (true, Verdict::Same),
        (true, Verdict::Refused),
        (false, Verdict::Same),
        (false, Verdict::Refused),
        (false, Verdict::Shorter),
    ];
    assert_eq!(met, BTreeSet::from(all), "each verdict that may come does");
}

/// Every bit of a small log without a clean end: what is in doubt is the last record alone.
pub(super) fn every_bit(sabotages: Sabotages) -> Result<(), String> {
    let disk = FaultDisk::new(1);
    let (wal, ..) = open_with(&disk, &all(), options(sabotages)).unwrap();
    let ends = commit_all(&wal, 1..=5, 24);
    drop(wal);
    let path = Path::new("wal-00000001.log");
    let (mut refused, mut shorter) = (0, 0);
    for bit in 0..u64::from(ends[4].offset()) * 8 {
        let damaged = disk.kill(0);
        assert!(damaged.flip_bit(path, bit));
        match look(&damaged, &all()) {
            Err(error) if is_refusal(&error) => refused += 1,
            Err(error) => return Err(format!("bit {bit}: {error}")),
            Ok((_, found)) if found == contents(1..=5, 24) => {}
            Ok((_, found))
                if found == contents(1..=4, 24) && bit / 8 >= ends[3].offset().into() =>
            {
                shorter += 1;
            }
            Ok((_, found)) => return Err(format!("bit {bit}: {} commits", found.len())),
        }
    }
    // The link and four records have witnesses behind them, and the header of the file needs none.
    if (refused, shorter) != ((64 + 48 + 4 * 64) * 8, 64 * 8) {
        return Err(format!("{refused} refused, {shorter} shorter"));
    }
    Ok(())
}

#[test]
fn every_flipped_bit_with_a_witness_is_refused() {
    every_bit(Sabotages::default()).unwrap();
}

/// The last record written over the one before it: nothing is wrong with it but its place.
pub(super) fn misplaced_record(sabotages: Sabotages) -> Result<(), String> {
    let disk = FaultDisk::new(1);
    let (wal, ..) = open_with(&disk, &all(), options(sabotages)).unwrap();
    let ends = commit_all(&wal, 1..=5, 24);
    drop(wal);
    let places = [ends[2], ends[3], ends[4]].map(|lsn| lsn.offset() as usize);
    disk.edit(Path::new("wal-00000001.log"), |bytes| {
        bytes.copy_within(places[1]..places[2], places[0]);
    });
    match open_with(&disk, &all(), options(sabotages)) {
        Err(WalError::Corruption { offset, flaw: Flaw::Position, .. })
            if offset == places[0] as u64 =>
        {
            Ok(())
        }
        other => Err(format!("{:?}", other.map(|(.., found)| found.len()))),
    }
}

#[test]
fn misplaced_record_is_refused() {
    misplaced_record(Sabotages::default()).unwrap();
}

#[test]
fn damage_names_its_place_and_its_witness() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let ends = commit_all(&wal, 1..=9, 1500);
    drop(wal);
    let bit = (u64::from(ends[0].offset()) + 50) * 8;
    assert!(disk.flip_bit(Path::new("wal-00000001.log"), bit));
    let error = look(&disk, &all()).unwrap_err();
    let WalError::Corruption { path, offset, flaw, durable } = error else { panic!("{error}") };
    assert_eq!(path, Path::new("wal-00000001.log"));
    assert_eq!((offset, flaw), (ends[0].offset().into(), Flaw::PayloadChecksum));
    assert_eq!(durable, ends[7], "what the last record says");
    let scope = Scope { tolerates_damage: true, ..all() };
    let (recovered, found) = look(&disk, &scope).unwrap();
    assert_eq!(found, contents(1..=1, 1500));
    assert_eq!(recovered.end, ends[0]);
    assert_eq!(recovered.discarded_records, 8 + 4 + 4, "seals and links among them");
    assert!(matches!(recovered.damage[..], [WalError::Corruption { .. }]));
}

/// A seal names the segment in which the log goes on: if that is gone with all that was in it, this
/// is told, although a spare is there and nothing else proves that there was more.
#[test]
fn lost_last_segment_is_missed() {
    for has_spare in [false, true] {
        let disk = FaultDisk::new(1);
        let (wal, _) = open(&disk);
        commit_all(&wal, 1..=9, 1500);
        let last = wal.position().segment();
        if has_spare {
            wal.prepare_spare().unwrap();
        }
        drop(wal);
        disk.delete(Path::new(&format!("wal-{last}.log")));
        for is_read in [true, false] {
            let outcome = if is_read {
                look(&disk, &all()).map(drop)
            } else {
                open_with(&disk, &all(), small()).map(drop)
            };
            let Err(WalError::MissingSegment { segment, .. }) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(segment, last.to_string());
        }
        let (recovered, found) = look(&disk, &Scope { tolerates_damage: true, ..all() }).unwrap();
        assert_eq!(found, contents(1..=8, 1500));
        assert!(matches!(recovered.damage[..], [WalError::MissingSegment { .. }]));
    }
}

proptest! {
    /// Files of any content under a segment's name are refused or ignored, and never a panic.
    #[test]
    fn any_bytes_may_stand_behind_a_good_header(
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
        at in 4096_usize..8192,
    ) {
        let disk = FaultDisk::new(1);
        drop(open(&disk));
        disk.edit(Path::new("wal-00000001.log"), |file| {
            for (place, byte) in file[at..].iter_mut().zip(&bytes) {
                *place = *byte;
            }
        });
        if let Ok((recovered, found)) = look(&disk, &all()) {
            prop_assert!(found.is_empty());
            prop_assert!(recovered.end <= Lsn::new(crate::id::SegmentId::FIRST, 4144));
        }
    }

    #[test]
    fn any_file_may_have_the_name_of_a_segment(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let disk = FaultDisk::new(1);
        disk.put(Path::new("wal-00000001.log"), &bytes);
        let refused = look(&disk, &all()).unwrap_err();
        prop_assert!(is_refusal(&refused), "{}", refused);
    }
}

/// The sabotages that only damage brings to light are real: see `mistakes`.
#[test]
fn sabotages_are_off_by_default() {
    assert!(Sabotage::ALL.iter().all(|rule| !Sabotages::default().breaks(*rule)));
}

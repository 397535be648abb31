//! Single promises of a log whose disk works.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::id::SegmentId;
use crate::storage::{Disk, Op, Storage};

fn names(disk: &FaultDisk) -> Vec<String> {
    disk.paths()
}

/// The salts of the segments on the disk, by name.
fn salts(disk: &FaultDisk) -> Vec<(String, u32)> {
    let salt = |path: &String| {
        let bytes = disk.content(Path::new(path)).expect("it was just listed");
        u32::from_le_bytes(*bytes[36..].first_chunk().unwrap())
    };
    names(disk).into_iter().map(|path| (path.clone(), salt(&path))).collect()
}

proptest! {
    /// Whatever is appended comes back in order, over several lives, for all sizes.
    #[test]
    fn commits_come_back(
        lives in prop::collection::vec(prop::collection::vec(0_usize..20_000, 0..12), 1..4),
        is_full: bool,
        segment_bytes in 8192_u32..40_000,
    ) {
        let disk = FaultDisk::new(1);
        let options = WalOptions { segment_bytes, is_full, ..small() };
        let mut model: Vec<Commit> = Vec::new();
        for (life, sizes) in lives.iter().enumerate() {
            let options = WalOptions { seed: life as u64, ..options };
            let (wal, recovered, found) = open_with(&disk, &all(), options).unwrap();
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(recovered.commits, model.len() as u64);
            for &size in sizes {
                let timestamp = model.len() as u64 + 1;
                model.push((timestamp, content(timestamp, size)));
                let before = wal.position();
                let end = commit(&wal, timestamp, &model[model.len() - 1].1).unwrap();
                prop_assert!(before < end);
                prop_assert_eq!(wal.position(), end);
            }
            let mut read = Vec::new();
            wal.read(Lsn::ZERO, wal.position(), &mut keep(&mut read)).unwrap();
            prop_assert_eq!(&read, &model);
        }
    }

    /// A log can be read from behind any commit, also where that position was skipped later.
    #[test]
    fn log_is_read_from_any_commit(sizes in prop::collection::vec(0_usize..5000, 1..20)) {
        let disk = FaultDisk::new(1);
        let mut ends = vec![Lsn::ZERO];
        let mut model = Vec::new();
        for pair in sizes.chunks(3) {
            let (wal, _) = open(&disk);
            ends[model.len()] = wal.position();
            for &size in pair {
                let timestamp = model.len() as u64 + 1;
                model.push((timestamp, content(timestamp, size)));
                ends.push(commit(&wal, timestamp, &content(timestamp, size)).unwrap());
            }
        }
        for (at, &end) in ends.iter().enumerate() {
            let (recovered, found) = look(&disk, &from(end)).unwrap();
            prop_assert_eq!(&found, &model[at..]);
            if at < model.len() {
                prop_assert_eq!(recovered.last.get(), model.len() as u64);
            }
        }
    }
}

#[test]
fn new_log_is_empty_and_durable() {
    let disk = FaultDisk::new(1);
    let (wal, recovered, found) = open_with(&disk, &all(), small()).unwrap();
    assert!(found.is_empty());
    assert_eq!((recovered.end, recovered.last), (Lsn::ZERO, Timestamp::ZERO));
    assert_eq!(wal.position(), Lsn::new(SegmentId::FIRST, 4096 + 48));
    assert_eq!(wal.durable(), wal.position());
    assert_eq!(names(&disk.crash(1)), ["wal-00000001.log"]);
}

#[test]
fn reservation_that_is_dropped_changes_nothing() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let before = wal.position();
    let mut payload = payload(&[1; 100]);
    drop(wal.reserve(Some(&mut payload)).unwrap());
    assert_eq!(wal.position(), before);
    let reserved = wal.reserve(Some(&mut payload)).unwrap();
    assert_eq!(reserved.append(Timestamp::from_raw(1)).unwrap().offset(), before.offset() + 144);
    let position = wal.position();
    let nothing = wal.reserve(None).unwrap();
    assert_eq!(nothing.append(Timestamp::from_raw(2)).unwrap(), position, "nothing to log");
    assert_eq!(wal.position(), position);
}

#[test]
fn record_says_how_many_operations_it_holds() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let mut draft = Draft::new(PayloadSeed::of(DATABASE));
    draft.bytes().push(1);
    let mut payload = draft.finish(65_536 + 5).unwrap();
    wal.reserve(Some(&mut payload)).unwrap().append(Timestamp::from_raw(1)).unwrap();
    let mut ops = Vec::new();
    wal.read::<WalError>(Lsn::ZERO, wal.position(), &mut |record| {
        ops.push((record.kind, record.ops));
        Ok(())
    })
    .unwrap();
    assert_eq!(ops, [(Kind::Link, 0), (Kind::Commit, 5)]);
}

#[test]
fn large_record_gets_a_segment_of_its_own() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    while wal.prepare_spare().unwrap() {}
    commit_all(&wal, 1..=2, 100);
    commit_all(&wal, 3..=3, 300_000);
    assert_eq!(wal.position().segment().get(), 4, "the two spares were overtaken");
    commit_all(&wal, 4..=9, 700);
    assert_eq!(wal.position().segment().get(), 5, "one of them got another number");
    assert_eq!(wal.stats().segments, 3);
    let expected = [contents(1..=2, 100), contents(3..=3, 300_000), contents(4..=9, 700)].concat();
    assert!(look(&disk.crash(3), &all()).unwrap().1 == expected, "all comes back");
}

#[test]
fn payload_over_the_limit_is_refused_with_both_sizes() {
    let refused = Draft::check(crate::wal::record::PAYLOAD_MAX + 1).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("1073741825") && text.contains("1073741824"), "{text}");
    assert!(Draft::check(crate::wal::record::PAYLOAD_MAX).is_ok());
}

#[test]
fn spares_are_made_ahead_and_no_commit_makes_a_segment() {
    for is_full in [false, true] {
        let disk = FaultDisk::new(1);
        let (wal, ..) = open_with(&disk, &all(), WalOptions { is_full, ..small() }).unwrap();
        assert!(wal.prepare_spare().unwrap());
        assert!(wal.prepare_spare().unwrap());
        assert!(!wal.prepare_spare().unwrap(), "two are enough");
        let made = disk.calls();
        for timestamp in 1..=14 {
            commit(&wal, timestamp, &content(timestamp, 700)).unwrap();
        }
        assert_eq!(wal.stats().segments, 3);
        let calls = disk.trace().into_iter().filter(|call| call.number > made);
        let expected = if is_full { Op::Write } else { Op::Store };
        assert!(calls.map(|call| call.op).all(|op| op == expected));
    }
}

#[test]
fn frames_of_four_kilobytes_are_written_even_where_there_is_a_map() {
    let disk = FaultDisk::new(1);
    let options = WalOptions { is_full: false, segment_bytes: 1 << 16, ..small() };
    let (wal, ..) = open_with(&disk, &all(), options).unwrap();
    for (size, op) in [(4096 - 48, Op::Store), (4096 - 40, Op::Write)] {
        let timestamp = size as u64;
        commit(&wal, timestamp, &content(timestamp, size)).unwrap();
        assert_eq!(disk.trace().last().unwrap().op, op, "{size} bytes");
    }
}

/// Recycled files get other numbers and other salts, and hold nothing of their old life.
pub(super) fn each_life_has_its_own_salt(sabotages: Sabotages) -> Result<(), String> {
    let disk = FaultDisk::new(1);
    let (wal, ..) = open_with(&disk, &all(), options(sabotages)).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    let mut last = Lsn::ZERO;
    for timestamp in 1..=60 {
        last = commit(&wal, timestamp, &content(timestamp, 1500)).unwrap();
        wal.sync_to(last).unwrap();
        wal.release(last).unwrap();
        wal.prepare_spare().unwrap();
        seen.extend(salts(&disk));
    }
    assert!(names(&disk).len() <= 4, "{:?}", names(&disk));
    assert!(seen.len() > 10, "segments were made again and again");
    let (recovered, found) = look(&disk, &from(last)).unwrap();
    assert_eq!((recovered.end, found.len()), (last, 0));
    let different: std::collections::BTreeSet<u32> = seen.values().copied().collect();
    if different.len() < seen.len() {
        return Err(format!("{} segments, {} salts", seen.len(), different.len()));
    }
    Ok(())
}

#[test]
fn released_segments_are_used_again() {
    each_life_has_its_own_salt(Sabotages::default()).unwrap();
}

#[test]
fn release_keeps_what_is_needed() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let ends = commit_all(&wal, 1..=20, 700);
    let needed = ends[9];
    wal.release(needed).unwrap();
    assert_eq!(look(&disk.crash(1), &from(needed)).unwrap().1, contents(11..=20, 700));
    let mut found = Vec::new();
    wal.read(needed, wal.position(), &mut keep(&mut found)).unwrap();
    assert_eq!(found, contents(11..=20, 700));
    let gone = wal.read(ends[0], wal.position(), &mut keep(&mut found)).unwrap_err();
    assert!(matches!(gone, WalError::MissingSegment { .. }), "{gone}");
    while wal.prepare_spare().unwrap() {}
    let gone = look(&disk, &from(ends[0])).unwrap_err();
    assert!(matches!(gone, WalError::MissingSegment { .. }), "{gone}");
}

#[test]
fn a_segment_is_not_used_again_while_it_is_read() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let ends = commit_all(&wal, 1..=20, 700);
    let mut found = Vec::new();
    wal.read::<WalError>(Lsn::ZERO, ends[4], &mut |record| {
        wal.release(ends[19])?;
        wal.prepare_spare()?;
        keep(&mut found)(record)
    })
    .unwrap();
    assert_eq!(found, contents(1..=5, 700));
}

#[test]
fn bytes_since_counts_the_log_and_not_the_files() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let start = wal.position();
    let ends = commit_all(&wal, 1..=20, 700);
    assert_eq!(wal.bytes_since(wal.position()), 0);
    assert_eq!(wal.bytes_since(ends[18]), 744);
    // Three switches, each with a seal and a link.
    assert_eq!(wal.stats().segments, 4);
    assert_eq!(wal.bytes_since(start), 20 * 744 + 3 * (48 + 48));
    assert_eq!(wal.bytes_since(Lsn::ZERO), 20 * 744 + 3 * (48 + 48) + 48);
}

#[test]
fn opening_and_closing_alone_does_not_make_the_log_longer() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=3, 100);
    drop(wal);
    let mut clean_end = None;
    for life in 0..10 {
        let scope = Scope { clean_end, ..all() };
        let options = WalOptions { seed: life, ..small() };
        let (wal, _, found) = open_with(&disk, &scope, options).unwrap();
        assert_eq!(found, contents(1..=3, 100));
        assert_eq!(wal.stats().segments, 2);
        clean_end = Some(wal.close().unwrap());
    }
    assert!(names(&disk).len() <= 3, "{:?}", names(&disk));
}

#[test]
fn close_leaves_a_mark_and_everything_durable() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    let end = commit(&wal, 1, &[1; 50]).unwrap();
    let closed = wal.close().unwrap();
    assert_eq!(closed.offset(), end.offset() + 40);
    assert_eq!(wal.durable(), closed);
    let scope = Scope { clean_end: Some(closed), ..all() };
    let (recovered, found) = look(&disk.crash(1), &scope).unwrap();
    assert_eq!((recovered.end, recovered.durable, found.len()), (closed, closed, 1));
    assert_eq!(wal.close().unwrap(), closed, "once more changes nothing");
}

#[test]
fn recovery_says_what_it_found() {
    let disk = FaultDisk::new(1);
    disk.set_write_back(0);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=3, 100);
    let torn = wal.position();
    for timestamp in 4..=6 {
        commit(&wal, timestamp, &content(timestamp, 100)).unwrap();
    }
    drop(wal);
    let kept = disk.kill(1);
    kept.edit(Path::new("wal-00000001.log"), |bytes| bytes[torn.offset() as usize + 60] ^= 1);
    let (recovered, found) = look(&kept, &all()).unwrap();
    assert_eq!(found, contents(1..=3, 100));
    assert_eq!(recovered.end, torn);
    assert_eq!(recovered.last.get(), 3);
    assert_eq!(recovered.flaw, Flaw::PayloadChecksum);
    assert_eq!((recovered.discarded_records, recovered.discarded_bytes), (3, 3 * 144));
    assert_eq!((recovered.commits, recovered.bytes), (3, 48 + 3 * 144));
    assert!(recovered.damage.is_empty());
}

#[test]
fn reading_writes_nothing() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=20, 700);
    commit(&wal, 21, &[1; 9]).unwrap();
    drop(wal);
    let disk = disk.crash(1);
    disk.put(Path::new("wal-00000009.tmp"), b"left behind");
    let image = || names(&disk).into_iter().map(|path| disk.content(Path::new(&path)));
    let before: Vec<_> = image().collect();
    look(&disk, &all()).unwrap();
    assert_eq!(image().collect::<Vec<_>>(), before);
}

#[test]
fn leftovers_go_and_strangers_stay() {
    let disk = FaultDisk::new(1);
    drop(open(&disk));
    let strangers = ["wal-1.tmp", "wal-0000000g.log", "walrus.txt", "wal-00000009.tmp.bak"];
    for name in strangers {
        disk.put(Path::new(name), b"mine");
    }
    disk.put(Path::new("wal-00000009.tmp"), b"left behind");
    drop(open(&disk));
    let names = names(&disk);
    assert!(strangers.iter().all(|name| names.iter().any(|have| have == name)), "{names:?}");
    assert!(!names.iter().any(|name| name == "wal-00000009.tmp"), "{names:?}");
}

#[test]
fn files_of_others_are_named_and_left_alone() {
    let disk = FaultDisk::new(1);
    let (wal, _) = open(&disk);
    commit_all(&wal, 1..=2, 10);
    drop(wal);
    let scope = Scope { database: DatabaseId::from_raw(1), ..all() };
    let foreign = look(&disk, &scope).unwrap_err();
    assert!(matches!(foreign, WalError::Foreign { .. }), "{foreign}");
    let path = Path::new("wal-00000001.log");
    disk.edit(path, |bytes| {
        bytes[8] = 2;
        let crc = crate::crc::crc32(0, &bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&crc);
    });
    let version = look(&disk, &all()).unwrap_err();
    assert!(matches!(version, WalError::Version { found: 2, known: 1, .. }), "{version}");
    assert_eq!(names(&disk), ["wal-00000001.log"]);
}

#[test]
fn tick_syncs_at_the_interval_and_marks_what_rests() {
    let disk = FaultDisk::new(1);
    let interval = Duration::from_millis(50);
    let flush = FlushPolicy { interval: Some(interval), commits: Some(10), bytes: None };
    let (wal, ..) = open_with(&disk, &all(), WalOptions { flush, ..small() }).unwrap();
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    wal.tick(at(0)).unwrap();
    let end = commit(&wal, 1, &[1; 10]).unwrap();
    assert_eq!(wal.tick(at(49)).unwrap(), interval);
    assert!(wal.durable() < end, "not yet");
    wal.tick(at(50)).unwrap();
    assert_eq!(wal.durable(), end);
    for timestamp in 2..=11 {
        assert!(!wal.is_flush_due());
        commit(&wal, timestamp, &[1; 10]).unwrap();
    }
    assert!(wal.is_flush_due());
    wal.tick(at(51)).unwrap();
    let end = wal.position();
    assert_eq!(wal.durable(), end, "ten commits are enough");
    wal.tick(at(150)).unwrap();
    assert_eq!(wal.position(), end, "no mark yet");
    wal.tick(at(151)).unwrap();
    assert_eq!(wal.position().offset(), end.offset() + 40, "a mark");
    wal.tick(at(400)).unwrap();
    wal.tick(at(800)).unwrap();
    assert_eq!(wal.position().offset(), end.offset() + 40, "one is enough");
    assert_eq!(wal.durable(), wal.position());
}

#[test]
fn too_many_unsynced_bytes_make_a_commit_sync() {
    let disk = FaultDisk::new(1);
    let options = WalOptions { is_full: false, unsynced_bytes_max: 1000, ..small() };
    let (wal, ..) = open_with(&disk, &all(), options).unwrap();
    for timestamp in 1..=50 {
        commit(&wal, timestamp, &content(timestamp, 100)).unwrap();
        let unsynced = wal.bytes_since(wal.durable());
        assert!(unsynced <= 1000 + 144 + 88, "{unsynced}");
    }
    assert!((4..=9).contains(&wal.stats().syncs), "{}", wal.stats().syncs);
}

#[test]
fn maps_are_kept_until_their_segment_is_durable() {
    let disk = FaultDisk::new(1);
    let (wal, ..) = open_with(&disk, &all(), WalOptions { is_full: false, ..small() }).unwrap();
    for timestamp in 1..=20 {
        commit(&wal, timestamp, &content(timestamp, 700)).unwrap();
    }
    let mapped = || wal.tail.lock().sealed.iter().filter(|part| part.map.is_some()).count();
    assert_eq!(mapped(), 3);
    wal.sync_to(wal.position()).unwrap();
    assert_eq!(mapped(), 0);
}

#[test]
fn real_files_hold_a_log() {
    for is_full in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        let options = WalOptions { is_full, segment_bytes: 1 << 16, ..small() };
        let mut model = Vec::new();
        for life in 0..4_u64 {
            let mut found = Vec::new();
            let options = WalOptions { seed: life, ..options };
            let storage = Arc::clone(&storage);
            let (wal, _) =
                Wal::open(storage, folder.path(), &all(), options, &mut keep(&mut found)).unwrap();
            assert_eq!(found, model);
            for size in [10, 100, 3000, 4200, 20_000, 90_000, 10] {
                let timestamp = model.len() as u64 + 1;
                model.push((timestamp, content(timestamp, size)));
                let end = commit(&wal, timestamp, &content(timestamp, size)).unwrap();
                if life % 2 == 0 {
                    wal.sync_to(end).unwrap();
                }
                wal.prepare_spare().unwrap();
            }
            let mut read = Vec::new();
            wal.read(Lsn::ZERO, wal.position(), &mut keep(&mut read)).unwrap();
            assert_eq!(read, model, "while the log is open");
        }
    }
}

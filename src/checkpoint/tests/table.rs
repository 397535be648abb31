//! What was pushed into a table comes back from it, by block, by key and by position.

use super::*;
use crate::checkpoint::block::LENGTH_MAX;
use crate::storage::{Fault, Op};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(any::<u8>(), 0..12),
        3 => (any::<u8>(), 0_usize..40_000).prop_map(|(byte, length)| vec![byte; length]),
        1 => (any::<u8>(), 0_usize..1_200_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn operation() -> impl Strategy<Value = (Operation, Vec<u8>, Vec<u8>)> {
    prop_oneof![
        3 => (bytes(), bytes()).prop_map(|(key, value)| (Operation::Put, key, value)),
        2 => bytes().prop_map(|key| (Operation::Delete, key, Vec::new())),
        1 => Just((Operation::Clear, Vec::new(), Vec::new())),
    ]
}

fn check_positions(table: &Table, content: &Content, positions: &[ValuePosition]) {
    let mut buffer = Vec::new();
    for ((_, _, value), &position) in content.iter().zip(positions).rev() {
        assert_eq!(table.read_value(position, &mut buffer).unwrap(), value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn range_comes_back(entries in prop::collection::btree_map(bytes(), bytes(), 0..40)) {
        let disk = quiet_disk();
        let content: Content =
            entries.iter().map(|(k, v)| (Operation::Put, k.clone(), v.clone())).collect();
        let record = write(&disk, origin(3), TableKind::Range, &content);
        let table = open(&disk, origin(3), &record).unwrap();
        let (read, positions) = read(&table).unwrap();
        prop_assert!(read == content);
        prop_assert!(table.is_sorted());
        prop_assert_eq!(table.len(), content.len() as u64);
        check_positions(&table, &content, &positions);
        verify(&table).unwrap();
        let ends = entries.first_key_value().zip(entries.last_key_value());
        prop_assert!(table.bounds() == ends.map(|(first, last)| (&first.0[..], &last.0[..])));
    }

    #[test]
    fn keys_are_found(
        entries in prop::collection::btree_map(bytes(), bytes(), 0..40),
        others in prop::collection::vec(bytes(), 0..10),
    ) {
        let disk = quiet_disk();
        let content: Content =
            entries.iter().map(|(k, v)| (Operation::Put, k.clone(), v.clone())).collect();
        let record = write(&disk, origin(3), TableKind::Range, &content);
        let table = open(&disk, origin(3), &record).unwrap();
        let mut buffer = Vec::new();
        for key in entries.keys().chain(&others) {
            let found = table.find(key, &mut buffer).unwrap().map(|entry| entry.value.to_vec());
            prop_assert!(found.as_ref() == entries.get(key));
        }
    }

    #[test]
    fn delta_comes_back(content in prop::collection::vec(operation(), 0..40)) {
        let disk = quiet_disk();
        let record = write(&disk, origin(3), TableKind::Delta, &content);
        let table = open(&disk, origin(3), &record).unwrap();
        let (read, positions) = read(&table).unwrap();
        prop_assert!(read == content);
        let is_sorted = content.is_sorted_by(|one, next| one.1 < next.1);
        prop_assert_eq!(table.is_sorted(), is_sorted);
        check_positions(&table, &content, &positions);
    }
}

/// Entries of all sizes around the lengths of block and buffer.
#[test]
fn sizes_around_the_bounds_come_back() {
    let disk = quiet_disk();
    let mut entries = BTreeMap::new();
    for (at, bound) in [64 << 10, 1 << 20, 3 << 20].into_iter().enumerate() {
        for (next, length) in (bound - 30..bound + 6).enumerate() {
            let (at, next) = (u8::try_from(at).unwrap(), u8::try_from(next).unwrap());
            entries.insert(vec![at, next], vec![next; length]);
        }
    }
    entries.insert(vec![9; 2 << 20], vec![1; 2 << 20]);
    let content: Content = entries.into_iter().map(|(k, v)| (Operation::Put, k, v)).collect();
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let table = open(&disk, origin(3), &record).unwrap();
    let (read, positions) = read(&table).unwrap();
    assert!(read == content);
    check_positions(&table, &content, &positions);
    assert_eq!(disk.content(&table_path(3)).unwrap().len() as u64, record.length);
}

/// An entry that is larger than a block shares it with nobody; small ones fill theirs.
#[test]
fn blocks_are_full_and_large_entries_alone() {
    let disk = quiet_disk();
    let mut content = Content::new();
    for key in 0..2000_u16 {
        content.push((Operation::Put, key.to_be_bytes().to_vec(), vec![0; 100]));
    }
    content.push((Operation::Put, vec![0xff], vec![0; 100_000]));
    content.push((Operation::Put, vec![0xff, 0], Vec::new()));
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let table = open(&disk, origin(3), &record).unwrap();
    let mut buffer = Vec::new();
    let mut count = |at| table.read_block(at, &mut buffer).unwrap().entries().count();
    let lens = (0..table.blocks()).map(&mut count);
    assert_eq!(lens.collect::<Vec<_>>(), [574, 574, 574, 278, 1, 1], "114 bytes an entry");
}

#[test]
fn keys_out_of_order_are_seen() {
    for keys in [["b", "a", "c"], ["a", "c", "b"], ["a", "a", "b"]] {
        let disk = quiet_disk();
        let content = puts(&keys.map(|key| (key.as_bytes(), &b"value"[..])));
        let record = write(&disk, origin(3), TableKind::Range, &content);
        let table = open(&disk, origin(3), &record).unwrap();
        assert!(!table.is_sorted(), "{keys:?}");
        assert_eq!(read(&table).unwrap().0, content);
    }
}

#[test]
fn table_has_to_lie_within_its_range() {
    let disk = quiet_disk();
    let content = puts(&[(b"b", b"1"), (b"c", b"2"), (b"d", b"3")]);
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let table = open(&disk, origin(3), &record).unwrap();
    let within = |lower: &[u8], upper: Option<&[u8]>| table.check_range(lower, upper).is_ok();
    assert!(within(b"", None) && within(b"b", Some(b"d\0")) && within(b"a", Some(b"e")));
    assert!(!within(b"b\0", None) && !within(b"", Some(b"d")) && !within(b"x", Some(b"a")));
    let record = write(&disk, origin(4), TableKind::Range, &Content::new());
    open(&disk, origin(4), &record).unwrap().check_range(b"x", Some(b"y")).unwrap();
    // Keys whose bytes are in no order have no range of bytes.
    let record = write(&disk, origin(5), TableKind::Range, &puts(&[(b"b", b""), (b"a", b"")]));
    open(&disk, origin(5), &record).unwrap().check_range(b"x", None).unwrap();
}

#[test]
fn threads_share_a_table() {
    let disk = quiet_disk();
    let content: Content = (0..5000_u32)
        .map(|key| (Operation::Put, key.to_be_bytes().to_vec(), vec![1; 60]))
        .collect();
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let table = open(&disk, origin(3), &record).unwrap();
    let share = |first: usize| {
        let (mut buffer, mut keys) = (Vec::new(), Vec::new());
        for at in (first..table.blocks()).step_by(2) {
            let block = table.read_block(at, &mut buffer).unwrap();
            keys.extend(block.entries().map(|entry| entry.key.to_vec()));
        }
        keys
    };
    let mut keys = std::thread::scope(|scope| {
        let other = scope.spawn(|| share(1));
        let mut keys = share(0);
        assert!(keys.len() > 1000);
        keys.extend(other.join().unwrap());
        keys
    });
    keys.sort_unstable();
    assert!(keys.iter().eq(content.iter().map(|(_, key, _)| key)));
}

#[test]
fn position_of_no_value_is_refused() {
    let disk = quiet_disk();
    let content = puts(&[(b"a", b"first"), (b"b", b"second")]);
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let table = open(&disk, origin(3), &record).unwrap();
    let right = read(&table).unwrap().1;
    let mut buffer = Vec::new();
    for offset in 0..record.length + 20 {
        for length in [0, 5, 6, 7, u32::MAX] {
            let position = ValuePosition { offset, length };
            let read = table.read_value(position, &mut buffer);
            assert_eq!(read.is_ok(), right.contains(&position), "{position:?}");
        }
    }
    let position = ValuePosition { offset: u64::MAX, length: 5 };
    assert!(table.read_value(position, &mut buffer).is_err());
}

#[test]
fn too_large_is_an_error_and_not_in_the_table() {
    let disk = quiet_disk();
    let mut writer = writer(&disk, origin(3), TableKind::Range);
    writer.push(b"a", b"1").unwrap();
    let large = vec![0; LENGTH_MAX + 1];
    for (key, value) in [(&large[..], &b""[..]), (b"b", &large)] {
        let refused = writer.push(key, value).unwrap_err();
        assert!(matches!(refused, CheckpointError::TooLarge { length, .. } if length > LENGTH_MAX));
    }
    writer.push(b"c", b"3").unwrap();
    let record = writer.finish(Timestamp::from_raw(5), Lsn::from_raw(9)).unwrap();
    let table = open(&disk, origin(3), &record).unwrap();
    assert_eq!(read(&table).unwrap().0, puts(&[(b"a", b"1"), (b"c", b"3")]));
}

#[test]
fn pace_hears_of_every_byte_and_write_back_is_asked_for() {
    let disk = quiet_disk();
    let (paced, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let pace = |bytes| {
        assert!((1..=3 << 20).contains(&bytes), "{bytes} at once");
        paced.fetch_add(bytes, Ordering::Relaxed);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let (kind, at_least) = (TableKind::Range, 20 << 20);
    let mut writer =
        TableWriter::create(&disk, directory(), origin(3), kind, at_least, pace).unwrap();
    for key in 0..250_u8 {
        writer.push(&[key], &vec![key; 99_000]).unwrap();
    }
    writer.push(&[250], &vec![1; 9 << 20]).unwrap();
    let expected = writer.len();
    let record = writer.finish(Timestamp::from_raw(5), Lsn::from_raw(9)).unwrap();
    assert!(record.length > expected && record.length < expected + 10_000);
    assert_eq!(paced.into_inner(), record.length);
    assert!(calls.into_inner() > 20);
    let asked = disk.trace().into_iter().filter(|call| call.op == Op::WriteBack);
    let asked: Vec<_> = asked.map(|call| (call.offset, call.length)).collect();
    let mut end = 0;
    for &(offset, length) in &asked {
        assert!(offset == end && (8 << 20..10 << 20).contains(&length), "{asked:?}");
        end += length;
    }
    assert!(asked.len() >= 3, "{asked:?}");
    read(&open(&disk, origin(3), &record).unwrap()).unwrap();
}

#[test]
fn dropped_writer_leaves_nothing() {
    let disk = quiet_disk();
    let mut writer = writer(&disk, origin(3), TableKind::Range);
    writer.push(b"a", &vec![0; 2 << 20]).unwrap();
    assert_eq!(disk.paths(), ["tab-0000000000000003.tmp"]);
    drop(writer);
    assert!(disk.paths().is_empty());
}

/// Each call fails once, in each way. Either the table is there and whole, or the caller is told,
/// and nothing stays that a later table would trip over.
#[test]
fn failing_calls_are_told_or_survived() {
    let attempt = |disk: &FaultDisk| -> Result<TableRecord, CheckpointError> {
        let (kind, pace) = (TableKind::Range, |_| {});
        let mut writer = TableWriter::create(disk, directory(), origin(3), kind, 4096, pace)?;
        writer.push(b"a", &vec![1; 2 << 20])?;
        writer.push(b"b", &vec![2; 9 << 20])?;
        writer.finish(Timestamp::from_raw(5), Lsn::from_raw(9))
    };
    let disk = quiet_disk();
    attempt(&disk).unwrap();
    let calls = disk.calls();
    assert!(calls > 15, "{calls} calls are a workload");
    let mut told = 0;
    for fault in [Fault::Io, Fault::NoSpace, Fault::Interrupted, Fault::Short] {
        for call in 1..=calls {
            let disk = quiet_disk();
            disk.fail_at(call, fault);
            match attempt(&disk) {
                Ok(record) => verify(&open(&disk, origin(3), &record).unwrap()).unwrap(),
                Err(CheckpointError::Io { .. }) => {
                    told += 1;
                    // A rename that failed may have happened.
                    let paths = disk.paths();
                    assert!(!paths.iter().any(|path| path.contains(".tmp")), "{paths:?}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(told > 2 * calls / 2, "{told} of {calls}");
}

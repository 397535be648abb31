//! A table that is not what was written is refused: no panic, and never other data.

use super::*;
use crate::crc::crc32;
use proptest::prelude::*;

fn small() -> (FaultDisk, TableRecord, Vec<u8>) {
    let disk = quiet_disk();
    let content = puts(&[(b"ash", b"1"), (b"birch", b""), (b"cedar", b"three")]);
    let record = write(&disk, origin(3), TableKind::Range, &content);
    let bytes = disk.content(&table_path(3)).unwrap();
    (disk, record, bytes)
}

/// Several blocks, one of them large.
fn large() -> (FaultDisk, TableRecord, Content) {
    let disk = quiet_disk();
    let mut content = Content::new();
    for key in 0..3000_u16 {
        content.push((Operation::Put, key.to_be_bytes().to_vec(), vec![key.to_le_bytes()[0]; 70]));
    }
    content.push((Operation::Put, vec![0xff], vec![7; 1_100_000]));
    let record = write(&disk, origin(3), TableKind::Range, &content);
    (disk, record, content)
}

/// Opens and reads all of a table that is damaged.
#[track_caller]
fn assert_refused(disk: &FaultDisk, record: &TableRecord, what: impl std::fmt::Display) {
    let read = |table: Result<Table, CheckpointError>| table.and_then(|table| verify(&table));
    let listed = read(open(disk, origin(3), record));
    let unlisted = read(Table::open_unlisted(disk, directory(), record.table));
    for result in [listed, unlisted] {
        match result {
            Err(CheckpointError::Corruption { path, .. }) => assert_eq!(path, table_path(3)),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let (disk, record, bytes) = small();
    let Parts { index, .. } = parts(&bytes).unwrap();
    for bit in 0..bytes.len() as u64 * 8 {
        assert!(disk.flip_bit(&table_path(3), bit));
        assert_refused(&disk, &record, format_args!("bit {bit}"));
        // Blocks are looked at when they are read, all else at once.
        let is_block = (64 * 8..index as u64 * 8).contains(&bit);
        let opened = Table::open_unlisted(&disk, directory(), record.table);
        assert_eq!(opened.is_ok(), is_block, "bit {bit}");
        assert!(disk.flip_bit(&table_path(3), bit));
    }
    verify(&open(&disk, origin(3), &record).unwrap()).unwrap();
}

#[test]
fn every_other_length_is_found() {
    let (disk, record, bytes) = small();
    for length in 0..bytes.len() {
        disk.truncate(&table_path(3), length);
        assert_refused(&disk, &record, format_args!("cut to {length}"));
        disk.put(&table_path(3), &bytes);
    }
    disk.edit(&table_path(3), |bytes| bytes.push(0));
    assert_refused(&disk, &record, "a byte more");
    let twice = [&bytes[..], &bytes].concat();
    disk.put(&table_path(3), &twice);
    assert_refused(&disk, &record, "twice");
}

#[test]
fn missing_table_is_damage() {
    let (disk, record, _) = small();
    disk.delete(&table_path(3));
    let missing = open(&disk, origin(3), &record);
    let Err(CheckpointError::Corruption { path, .. }) = missing else { panic!("{missing:?}") };
    assert_eq!(path, table_path(3));
}

#[test]
fn sectors_in_wrong_places_are_found() {
    let (disk, record, content) = large();
    let path = table_path(3);
    let whole = disk.content(&path).unwrap();
    let sectors = whole.len() / 512;
    for sector in (0..sectors).step_by(29) {
        let other = (sector * 7 + 11) % sectors;
        let damages: [&dyn Fn() -> bool; 3] = [
            &|| disk.zero_sector(&path, sector),
            &|| disk.copy_sector(&path, other, sector),
            &|| disk.swap_sectors(&path, other, sector),
        ];
        for damage in damages {
            assert!(damage());
            if disk.content(&path).unwrap() != whole {
                assert_refused(&disk, &record, format_args!("sectors {sector} and {other}"));
            }
            disk.put(&path, &whole);
        }
    }
    assert!(read(&open(&disk, origin(3), &record).unwrap()).unwrap().0 == content);
}

/// The same content under the same numbers but one, each sound in itself.
#[test]
fn tables_of_elsewhere_are_refused() {
    let (disk, record, bytes) = small();
    let content = read(&open(&disk, origin(3), &record).unwrap()).unwrap().0;
    let elsewhere = [
        Origin { database: DatabaseId::from_raw(1), ..origin(3) },
        Origin { bucket: StoredId::from_raw(8), ..origin(3) },
        origin(4),
    ];
    for foreign in elsewhere {
        let other = quiet_disk();
        let foreign_record = write(&other, foreign, TableKind::Range, &content);
        let foreign_bytes = other.content(&foreign.table.path(directory())).unwrap();
        disk.put(&table_path(3), &foreign_bytes);
        let claims = [&record, &TableRecord { table: record.table, ..foreign_record }];
        for record in claims {
            let opened = open(&disk, origin(3), record);
            assert!(matches!(opened, Err(CheckpointError::Corruption { .. })), "{foreign:?}");
        }
        // One block of a foreign table, in the place of ours.
        let mut mixed = bytes.clone();
        mixed[64..160].copy_from_slice(&foreign_bytes[64..160]);
        assert_ne!(mixed, bytes);
        disk.put(&table_path(3), &mixed);
        assert_refused(&disk, &record, format_args!("a block of {foreign:?}"));
    }
}

#[test]
fn manifest_has_to_agree_with_the_table() {
    let (disk, record, _) = small();
    let refused = |change: fn(&mut TableRecord)| {
        let mut other = record.clone();
        change(&mut other);
        let opened = open(&disk, origin(3), &other);
        assert!(matches!(opened, Err(CheckpointError::Corruption { .. })), "{other:?}");
    };
    refused(|it| it.length += 1);
    refused(|it| it.footer_crc ^= 1);
    refused(|it| it.entries += 1);
    refused(|it| it.kind = TableKind::Delta);
    refused(|it| it.timestamp = Timestamp::from_raw(4));
    refused(|it| it.lsn = Lsn::from_raw(8));
    // A later snapshot of a range that has not changed.
    let later = TableRecord { lsn: Lsn::from_raw(99), timestamp: Timestamp::from_raw(6), ..record };
    open(&disk, origin(3), &later).unwrap();
}

/// Where the parts of the small table stand.
struct Parts {
    index: usize,
    footer: usize,
}

fn parts(bytes: &[u8]) -> Option<Parts> {
    let end = bytes.len();
    let length = u32::from_le_bytes(bytes.get(end.checked_sub(8)?..end - 4)?.try_into().ok()?);
    let footer = end.checked_sub(length as usize)?;
    let index = bytes.get(footer + 68..footer + 76)?;
    let index = usize::try_from(u64::from_le_bytes(index.try_into().ok()?)).ok()?;
    (64 + 16..footer).contains(&index).then_some(Parts { index, footer })
}

/// Puts the checksums right after damage, from the inside out: what they cover is looked at then.
fn reseal(bytes: &mut [u8]) {
    let Some(Parts { index, footer }) = parts(bytes) else { return };
    let put = |bytes: &mut [u8], at: usize, crc: u32| {
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    };
    let header_crc = crc32(0, &bytes[..60]);
    put(bytes, 60, header_crc);
    let seed = crc32(0, &bytes[16..44]);
    let block_crc = crc32(seed, &bytes[68..index]);
    put(bytes, 64, block_crc);
    put(bytes, index + 12, block_crc);
    let index_crc = crc32(seed, &bytes[index..footer]);
    put(bytes, footer + 84, index_crc);
    let end = bytes.len() - 4;
    let footer_crc = crc32(0, &bytes[footer..end]);
    put(bytes, end, footer_crc);
}

#[test]
fn resealing_changes_nothing_in_a_sound_table() {
    let (_, _, bytes) = small();
    let mut resealed = bytes.clone();
    reseal(&mut resealed);
    assert_eq!(resealed, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_under_right_checksums_is_no_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..3),
    ) {
        let (disk, record, bytes) = small();
        disk.edit(&table_path(3), |bytes| {
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            reseal(bytes);
        });
        let Ok(table) = Table::open_unlisted(&disk, directory(), record.table) else {
            return Ok(());
        };
        if let Ok((content, positions)) = read(&table) {
            prop_assert_eq!(content.len() as u64, table.len());
            let mut buffer = Vec::new();
            for position in positions {
                // The value's own checksum was not put right.
                let _ = table.read_value(position, &mut buffer);
            }
            let sorted = content.is_sorted_by(|one, next| one.1 < next.1);
            prop_assert!(sorted || !table.is_sorted());
        }
        prop_assert!(disk.content(&table_path(3)).unwrap().len() == bytes.len());
    }

    #[test]
    fn random_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let disk = quiet_disk();
        disk.put(&table_path(3), &bytes);
        let opened = Table::open_unlisted(&disk, directory(), TableId::from_raw(3));
        let is_damage = matches!(opened, Err(CheckpointError::Corruption { .. }));
        prop_assert!(is_damage);
    }
}

/// Every field of a table, changed under right checksums, is missed by nobody but those that mean
/// something else then: keys, values, times.
#[test]
fn contradictions_are_refused() {
    let (disk, record, bytes) = small();
    let Parts { index, footer } = parts(&bytes).unwrap();
    let opening = [
        ("flags of the header", 10),
        ("reserved", 12),
        ("table", 32),
        ("spare", 50),
        ("offset of the block", index),
        ("length of the block in the index", index + 8),
        ("entries of the block in the index", index + 16),
        ("length of the first key in the index", index + 20),
        ("flags of the footer", footer + 10),
        ("origin in the footer", footer + 12),
        ("entries", footer + 56),
        ("number of blocks", footer + 64),
        ("offset of the index", footer + 68),
        ("length of the index", footer + 76),
        ("length of the file", footer + 88),
        ("length of the last key", footer + 103),
    ];
    let reading = [
        ("length of the block", 68),
        ("entries of the block", 72),
        ("flags of the block", 76),
        ("length of the first key", 80),
        ("length of the first value", 84),
        ("first key in the index", index + 24),
        ("first key in the footer", footer + 100),
        ("last key in the footer", footer + 107),
    ];
    for (name, at) in opening.into_iter().chain(reading) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 8;
        reseal(&mut damaged);
        assert_ne!(damaged, bytes);
        disk.put(&table_path(3), &damaged);
        assert_refused(&disk, &record, name);
        let opened = Table::open_unlisted(&disk, directory(), record.table);
        assert_eq!(opened.is_ok(), reading.contains(&(name, at)), "{name}");
    }
}

#[test]
fn bytes_between_the_fields_of_the_footer_are_refused() {
    let (disk, record, mut bytes) = small();
    let last_key_length = parts(&bytes).unwrap().footer + 103;
    assert_eq!(bytes[last_key_length], 5);
    bytes[last_key_length] = 4;
    reseal(&mut bytes);
    disk.put(&table_path(3), &bytes);
    let opened = Table::open_unlisted(&disk, directory(), record.table);
    assert!(matches!(opened, Err(CheckpointError::Corruption { .. })));
}

/// Fields that are wrong in such a way that others confirm them.
#[test]
fn contradictions_in_agreement_are_refused() {
    let (disk, record, bytes) = small();
    let Parts { index, footer } = parts(&bytes).unwrap();
    let find = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
    let birch = find(b"birch");
    let fewer = [(72, 2), (index + 16, 2), (footer + 56, 2)];
    let last_is_birch = (footer + 107..).zip(*b"birch");
    let cases: [(&str, Vec<(usize, u8)>); 6] = [
        ("entries, but not in the block", vec![(index + 16, 2), (footer + 56, 2)]),
        ("entries, but not in the index", vec![(72, 2), (footer + 56, 2), (footer + 64, 1)]),
        ("first key, but not of the entry", vec![(index + 24, b'A'), (footer + 100, b'A')]),
        ("fewer entries than there are", fewer.to_vec()),
        (
            // The last entry claims a longer value than there is.
            "bytes that are no entry",
            last_is_birch.chain(fewer).chain([(find(b"cedar") - 4, 6)]).collect(),
        ),
        ("keys out of order", vec![(birch, b'a'), (birch + 1, b'a')]),
    ];
    for (name, changes) in cases {
        let mut damaged = bytes.clone();
        for (at, byte) in changes {
            damaged[at] = byte;
        }
        reseal(&mut damaged);
        assert_ne!(damaged, bytes);
        disk.put(&table_path(3), &damaged);
        assert_refused(&disk, &record, name);
    }
}

/// What only tables of operations can get wrong.
#[test]
fn impossible_operations_are_refused() {
    let disk = quiet_disk();
    let content = vec![
        (Operation::Put, b"ash".to_vec(), b"1".to_vec()),
        (Operation::Delete, b"ash".to_vec(), Vec::new()),
        (Operation::Clear, Vec::new(), Vec::new()),
    ];
    let record = write(&disk, origin(3), TableKind::Delta, &content);
    let bytes = disk.content(&table_path(3)).unwrap();
    verify(&open(&disk, origin(3), &record).unwrap()).unwrap();
    // The operations of the first entry, which has a value, and of the second, which has a key.
    let second = 80 + 1 + 8 + 3 + 4 + 1;
    for (at, operation) in [(80, 0), (80, 2), (80, 3), (80, 4), (second, 3), (second, 0x81)] {
        let mut damaged = bytes.clone();
        assert!((1..=2).contains(&damaged[at]));
        damaged[at] = operation;
        reseal(&mut damaged);
        disk.put(&table_path(3), &damaged);
        assert_refused(&disk, &record, format_args!("operation {operation} at {at}"));
    }
}

#[test]
fn later_version_is_told_from_damage() {
    let (disk, record, bytes) = small();
    let footer = parts(&bytes).unwrap().footer;
    for at in [8, footer + 8] {
        let mut later = bytes.clone();
        later[at] = 2;
        reseal(&mut later);
        disk.put(&table_path(3), &later);
        let opened = open(&disk, origin(3), &record);
        assert!(matches!(opened, Err(CheckpointError::Version { found: 2, supported: 1, .. })));
    }
}

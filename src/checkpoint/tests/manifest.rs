//! The manifest comes back as it was stored, says what is garbage, and does not contradict itself.

use super::*;
use crate::crc::crc32;
use crate::storage::{Access, Fault, Sabotages};
use proptest::prelude::*;

fn load(disk: &FaultDisk) -> Result<Option<Manifest>, CheckpointError> {
    Manifest::load(disk, directory())
}

fn store(disk: &FaultDisk, manifest: &Manifest) {
    manifest.store(disk, directory(), Sabotages::default()).unwrap();
}

fn record(table: u64) -> TableRecord {
    TableRecord {
        table: TableId::from_raw(table),
        kind: TableKind::Range,
        length: 1,
        footer_crc: 2,
        entries: 3,
        timestamp: Timestamp::from_raw(4),
        lsn: Lsn::from_raw(5),
        lower: Vec::new(),
    }
}

fn any_record() -> impl Strategy<Value = TableRecord> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    let lower = prop::collection::vec(any::<u8>(), 0..5);
    (numbers, any::<bool>(), lower).prop_map(|(numbers, is_delta, lower)| {
        let (length, footer_crc, entries, timestamp, lsn) = numbers;
        TableRecord {
            table: TableId::FIRST,
            kind: if is_delta { TableKind::Delta } else { TableKind::Range },
            length,
            footer_crc,
            entries,
            timestamp: Timestamp::from_raw(timestamp),
            lsn: Lsn::from_raw(lsn),
            lower: if is_delta { Vec::new() } else { lower },
        }
    })
}

fn any_bucket() -> impl Strategy<Value = BucketRecord> {
    let tables = prop::collection::vec(any_record(), 0..4);
    (".{0,6}", ".{0,6}", ".{0,6}", any::<bool>(), tables).prop_map(
        |(name, key_type, value_type, is_ordered, mut tables)| {
            tables.sort_by_key(|table| table.kind == TableKind::Delta);
            if let Some(first) = tables.first_mut() {
                first.lower.clear();
            }
            let id = StoredId::from_raw(0);
            BucketRecord { id, name, key_type, value_type, is_ordered, tables }
        },
    )
}

prop_compose! {
    fn any_manifest()(
        database: u128,
        generation: u64,
        needed: u64,
        end in prop::option::of(1_u64..),
        last: u64,
        mut buckets in prop::collection::vec(any_bucket(), 0..4),
    ) -> Manifest {
        let (mut next_bucket, mut next_table) = (3, 9);
        for bucket in &mut buckets {
            bucket.id = StoredId::from_raw(next_bucket);
            bucket.name += &next_bucket.to_string();
            next_bucket += 2;
            for table in &mut bucket.tables {
                table.table = TableId::from_raw(next_table);
                next_table += 1;
            }
        }
        Manifest {
            database: DatabaseId::from_raw(database),
            generation,
            next_bucket: StoredId::from_raw(next_bucket),
            next_table: TableId::from_raw(next_table),
            first_needed: Lsn::from_raw(needed),
            clean_end: end.map(Lsn::from_raw),
            durable: Lsn::from_raw(end.unwrap_or(7)),
            last_timestamp: Timestamp::from_raw(last),
            buckets,
        }
    }
}

proptest! {
    #[test]
    fn comes_back(manifest in any_manifest(), next in any_manifest()) {
        let disk = quiet_disk();
        store(&disk, &manifest);
        prop_assert_eq!(load(&disk).unwrap(), Some(manifest));
        store(&disk, &next);
        prop_assert_eq!(load(&disk).unwrap(), Some(next));
        prop_assert_eq!(disk.paths(), ["MANIFEST"]);
    }

    #[test]
    fn random_fields_are_no_panic(
        mut bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..300),
        cut in any::<bool>(),
    ) {
        let mut whole = b"\x93PSMAN\r\n\x01\x00\x00\x00".to_vec();
        whole.extend(if cut { 0 } else { bytes.len() as u64 + 24 }.to_le_bytes());
        whole.append(&mut bytes);
        whole.extend(crc32(0, &whole).to_le_bytes());
        let read = Manifest::decode(Path::new("MANIFEST"), &whole);
        let is_damage = matches!(read, Err(CheckpointError::Corruption { .. }));
        prop_assert!(is_damage || read.is_ok());
    }

    /// With the checksum put right after the damage, so that the fields themselves are looked at.
    #[test]
    fn damaged_fields_are_no_panic(
        manifest in any_manifest(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let disk = quiet_disk();
        store(&disk, &manifest);
        disk.edit(Path::new("MANIFEST"), |bytes| {
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            reseal(bytes);
        });
        if let Ok(Some(read)) = load(&disk) {
            store(&disk, &read);
            prop_assert_eq!(load(&disk).unwrap(), Some(read));
        }
    }
}

fn reseal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32(0, &bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn damage_is_refused() {
    let disk = quiet_disk();
    store(&disk, &manifest(vec![record(3), record(4)]));
    let path = Path::new("MANIFEST");
    let whole = disk.content(path).unwrap();
    let refused = |disk: &FaultDisk, what: &str| match load(disk) {
        Err(CheckpointError::Corruption { path, .. }) => assert_eq!(path, Path::new("MANIFEST")),
        other => panic!("{what}: {other:?}"),
    };
    for bit in 0..whole.len() as u64 * 8 {
        assert!(disk.flip_bit(path, bit));
        refused(&disk, &format!("bit {bit}"));
        assert!(disk.flip_bit(path, bit));
    }
    for length in 0..whole.len() {
        disk.truncate(path, length);
        refused(&disk, &format!("cut to {length}"));
        disk.put(path, &whole);
    }
    disk.edit(path, |bytes| bytes.push(0));
    refused(&disk, "a byte more");
    disk.edit(path, |bytes| {
        bytes.pop();
        bytes.insert(40, 0);
        reseal(bytes);
    });
    refused(&disk, "a byte more inside, under a right checksum");
    let sealed = |what: &str, change: fn(&mut Vec<u8>)| {
        disk.put(path, &whole);
        disk.edit(path, |bytes| {
            change(bytes);
            reseal(bytes);
        });
        refused(&disk, what);
    };
    sealed("another length", |bytes| bytes[12] ^= 1);
    sealed("flags", |bytes| bytes[10] = 1);
    sealed("a byte more before the checksum", |bytes| {
        bytes[12] += 1;
        bytes.push(0);
    });
}

#[test]
fn later_version_is_told_from_damage() {
    let disk = quiet_disk();
    store(&disk, &manifest(Vec::new()));
    disk.edit(Path::new("MANIFEST"), |bytes| {
        bytes[8] = 2;
        reseal(bytes);
    });
    let error = load(&disk).unwrap_err();
    assert_eq!(error.to_string(), "MANIFEST has version 2 of its format; this release reads 1");
}

#[test]
fn contradictions_are_refused() {
    let good = || manifest(vec![record(3), record(4)]);
    let refused = |change: fn(&mut Manifest)| {
        let mut bad = good();
        change(&mut bad);
        let disk = quiet_disk();
        let stored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store(&disk, &bad)));
        assert!(stored.is_err(), "such a manifest is not written: {bad:?}");
        assert!(load(&disk).unwrap().is_none());
    };
    store(&quiet_disk(), &good());
    refused(|it| it.buckets[0].tables[1].table = TableId::from_raw(3));
    refused(|it| it.next_table = TableId::from_raw(4));
    refused(|it| it.next_bucket = StoredId::from_raw(7));
    refused(|it| it.buckets[0].tables[0].lower = vec![1]);
    refused(|it| it.buckets[0].tables[0].kind = TableKind::Delta);
    refused(|it| {
        let second = it.buckets[0].clone();
        it.buckets.push(BucketRecord { tables: Vec::new(), name: "other".into(), ..second });
    });
    refused(|it| {
        it.next_bucket = StoredId::from_raw(9);
        let second = it.buckets[0].clone();
        let id = StoredId::from_raw(8);
        it.buckets.push(BucketRecord { id, tables: Vec::new(), ..second });
    });
    refused(|it| it.clean_end = Some(Lsn::ZERO));
}

#[test]
fn absence_is_a_new_database_or_a_loss() {
    let disk = quiet_disk();
    assert!(load(&disk).unwrap().is_none());
    for harmless in ["MANIFEST.tmp", "tab-0000000000000001.tmp", "wal-00000001.tmp", "LOCK", "a"] {
        disk.open(Path::new(harmless), Access::Create).unwrap();
    }
    assert!(load(&disk).unwrap().is_none());
    for orphan in ["tab-0000000000000001.tab", "wal-00000001.log"] {
        let disk = quiet_disk();
        disk.open(Path::new(orphan), Access::Create).unwrap();
        let error = load(&disk).unwrap_err();
        let expected = format!(
            "MANIFEST is damaged at byte 0: the manifest is missing, and {orphan} is there"
        );
        assert_eq!(error.to_string(), expected);
    }
    assert!(Manifest::load(&disk, Path::new("nowhere")).unwrap().is_none());
}

#[test]
fn garbage_is_what_the_manifest_does_not_name() {
    let disk = quiet_disk();
    let stay = ["LOCK", "a.tmp", "tab-0000000000000003.tab", "tab-3.tab", "wal-00000001.log"];
    let go = ["MANIFEST.tmp", "tab-0000000000000003.tmp", "tab-0000000000000004.tab"];
    for name in stay.into_iter().chain(go).chain(["wal-00000002.tmp"]) {
        disk.open(Path::new(name), Access::Create).unwrap();
    }
    let manifest = manifest(vec![record(3)]);
    let removed = manifest.clean(&disk, directory(), Sabotages::default()).unwrap();
    assert_eq!(removed.len(), 4);
    assert_eq!(disk.paths(), stay);
}

/// Each call of a store fails once. The caller is told, and what it is told is true: unless the
/// error is fatal the old manifest is in place, for good.
#[test]
fn failing_calls_are_told() {
    let (mut fatal, mut harmless) = (0, 0);
    for fault in [Fault::Io, Fault::NoSpace, Fault::Interrupted] {
        for call in 1.. {
            let disk = quiet_disk();
            let old = manifest(Vec::new());
            store(&disk, &old);
            let mut new = old.clone();
            new.generation += 1;
            let calls = disk.calls();
            disk.fail_at(calls + call, fault);
            let stored = new.store(&disk, directory(), Sabotages::default());
            if disk.calls() < calls + call {
                assert!(stored.is_ok());
                break;
            }
            let found = [load(&disk), load(&disk.crash(1)), load(&disk.crash(2))];
            let found = found.map(|it| it.unwrap().unwrap().generation);
            match stored {
                Ok(()) => assert_eq!(found, [1; 3]),
                Err(error) if error.is_fatal => fatal += 1,
                Err(_) => {
                    harmless += 1;
                    assert_eq!(found, [0; 3]);
                    store(&disk, &new);
                }
            }
        }
    }
    // An interrupted write is written again.
    assert_eq!(fatal, 9, "two syncs of the directory and a rename, in three ways");
    assert_eq!(harmless, 11, "a removal, a creation, a write and a sync");
}

//! Arbitrary bytes as a segment of the log: by themselves, as the records of the right one, and as
//! one record whose checksums are right, appended to the log.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use palisade::testing::FaultDisk;
use shared::{content, files, judge, overlay, past, survive};
use std::path::PathBuf;

/// Where the records of a segment begin.
const RECORDS: usize = 4096;
/// Bytes of a record before its payload.
const HEADER: usize = 40;

/// The segment that was written to last.
fn newest(disk: &FaultDisk) -> PathBuf {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let written = files(disk).into_iter().filter(is_log).rfind(|path| {
        let bytes = content(disk, path);
        bytes.get(RECORDS).is_some_and(|&byte| byte != 0)
    });
    written.expect("something was committed")
}

/// A record of one commit with this payload, as it would stand at `offset`.
fn record(segment: &[u8], offset: usize, payload: &[u8], ops: u16) -> Vec<u8> {
    let crc = |seed, bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(bytes);
        hasher.finalize()
    };
    let (database, number, salt) = (&segment[16..32], &segment[32..36], &segment[36..40]);
    let payload_seed = crc(0, database);
    let seed = crc(crc(payload_seed, number), salt);
    let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
    let mut header = ((HEADER + payload.len()) as u32).to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend((u64::from(number) << 32 | offset as u64).to_le_bytes());
    header.extend([0; 8]);
    header.extend((1_u64 << 40).to_le_bytes());
    header.extend(crc(payload_seed, payload).to_le_bytes());
    header.extend([1, 0]);
    header.extend(ops.to_le_bytes());
    let checksum = crc(crc(seed, &header[..4]), &header[8..]);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
    header.extend(payload);
    header
}

fuzz_target!(|input: &[u8]| {
    let Some((&way, bytes)) = input.split_first() else { return };
    let disk = past().disk.kill(1);
    let path = newest(&disk);
    let old = content(&disk, &path);
    match way % 3 {
        0 => disk.put(&path, bytes),
        1 => {
            let offset = bytes.iter().take(2).fold(0, |sum, &byte| sum * 256 + usize::from(byte));
            let offset = offset % old.len();
            disk.put(&path, &overlay(&old, offset, bytes.get(2..).unwrap_or_default()));
        }
        _ => {
            let end = old.iter().rposition(|&byte| byte != 0).unwrap_or(RECORDS) + 1;
            let end = end.next_multiple_of(8);
            let payload = &bytes[..bytes.len().min(old.len().saturating_sub(end + HEADER))];
            let record = record(&old, end, payload, u16::from(way / 3));
            disk.put(&path, &overlay(&old, end, &record)[..old.len()]);
            return survive(&disk);
        }
    }
    judge(&disk);
});

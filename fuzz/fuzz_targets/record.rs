//! Arbitrary bytes as a record that is appended to the log: as its payload under checksums that are
//! right, as its header, and as what stands behind one that is whole.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use palisade::testing::FaultDisk;
use shared::{content, judge, newest_segment, options, overlay, past, survive};
use std::path::PathBuf;
use std::sync::Once;

/// Where the records of a segment begin.
const RECORDS: usize = 4096;
/// Bytes of a record before its payload.
const HEADER: usize = 40;
/// Later than every commit of the past.
const LATER: u64 = 1 << 40;

fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// The header of a record with this payload, as it would stand at `offset`, of any kind.
fn header(segment: &[u8], offset: usize, payload: &[u8], (kind, ops): (u8, u16)) -> Vec<u8> {
    let (database, number) = (&segment[16..32], &segment[32..36]);
    let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
    let mut header = ((HEADER + payload.len()) as u32).to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend((u64::from(number) << 32 | offset as u64).to_le_bytes());
    header.extend([0; 8]);
    header.extend(LATER.to_le_bytes());
    header.extend(crc(crc(0, database), payload).to_le_bytes());
    header.extend([kind, 0]);
    header.extend(ops.to_le_bytes());
    seal(segment, &mut header);
    header
}

/// Makes the checksum of a header right.
fn seal(segment: &[u8], header: &mut [u8]) {
    let (database, number, salt) = (&segment[16..32], &segment[32..36], &segment[36..40]);
    let seed = crc(crc(crc(0, database), number), salt);
    let checksum = crc(crc(seed, &header[..4]), &header[8..HEADER]);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The segment that was written to last, its bytes, and where the log ends. Behind that there may
/// be records of an earlier life of the file, which name another position.
fn end(disk: &FaultDisk) -> (PathBuf, Vec<u8>, usize) {
    let path = newest_segment(disk);
    let bytes = content(disk, &path);
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4).unwrap_or(&[0; 4]);
        u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize
    };
    let mut end = RECORDS;
    while number(end) > 0 && number(end + 8) == end && number(end + 12) == number(32) {
        end += number(end).next_multiple_of(8);
    }
    (path, bytes, end)
}

/// A commit of nothing, made in this way, is one commit more: else every input would be refused for
/// its checksums, and nothing would be tried.
fn check_the_maker() {
    let count = |disk: &FaultDisk| options(disk).examine(shared::HOME).expect("whole").commits;
    let disk = past().disk.kill(1);
    let before = count(&disk);
    let (path, old, end) = end(&disk);
    let made = header(&old, end, &[], (1, 0));
    disk.put(&path, &overlay(&old, end, &made));
    assert_eq!(count(&disk), before + 1, "the record that is made here is not one");
}

fuzz_target!(|input: &[u8]| {
    static CHECKED: Once = Once::new();
    CHECKED.call_once(check_the_maker);
    let Some((&way, bytes)) = input.split_first() else { return };
    let disk = past().disk.kill(1);
    let (path, old, end) = end(&disk);
    let room = old.len().saturating_sub(end + HEADER);
    let bytes = &bytes[..bytes.len().min(room)];
    let mut record = match way % 3 {
        0 => header(&old, end, bytes, (1, u16::from(way / 3))),
        1 => {
            // Whatever the fields say, the checksum is right.
            let mut header = header(&old, end, &[], (1, 0));
            let fields = bytes.iter().take(HEADER).enumerate();
            fields.for_each(|(at, byte)| header[at] ^= byte);
            seal(&old, &mut header);
            header
        }
        _ => {
            // A whole record is followed by bytes that are none.
            let mut mark = header(&old, end, &[], (3, 0));
            mark.extend(bytes);
            disk.put(&path, &overlay(&old, end, &mark)[..old.len()]);
            return judge(&disk);
        }
    };
    record.extend(bytes);
    disk.put(&path, &overlay(&old, end, &record)[..old.len()]);
    survive(&disk);
});

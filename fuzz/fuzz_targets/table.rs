//! Arbitrary bytes as a table: by themselves, as a part of a right one, and with block checksums
//! that are right.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, judge, last_with, overlay, past, survive};
use std::sync::Once;

/// Where the first block of a table begins.
const BLOCKS: usize = 64;
/// Bytes of a block before its entries.
const HEADER: usize = 16;

/// A block of these entries, as it would stand in this table.
fn block(table: &[u8], entries: &[u8], count: u32) -> Vec<u8> {
    // Database, table and bucket, as the header has them in this order.
    let seed = crc32fast::hash(&table[16..44]);
    let mut fields = (entries.len() as u32).to_le_bytes().to_vec();
    fields.extend(count.to_le_bytes());
    fields.extend([0; 4]);
    fields.extend(entries);
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&fields);
    [&hasher.finalize().to_le_bytes(), &fields[..]].concat()
}

/// The first block, made again in this way, is the one that is there: else every input would be
/// refused for its checksum, and nothing would be tried.
fn check_the_maker() {
    let table = content(&past().disk, &last_with(&past().disk, ".tab"));
    let field = |at: usize| {
        let bytes = &table[BLOCKS + at..BLOCKS + at + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    };
    let length = HEADER + field(4) as usize;
    let there = &table[BLOCKS..BLOCKS + length];
    assert_eq!(block(&table, &there[HEADER..], field(8)), there, "no block of this table");
}

fuzz_target!(|input: &[u8]| {
    static CHECKED: Once = Once::new();
    CHECKED.call_once(check_the_maker);
    let Some((&way, bytes)) = input.split_first() else { return };
    let disk = past().disk.kill(1);
    let path = last_with(&disk, ".tab");
    let old = content(&disk, &path);
    let offset = bytes.iter().take(2).fold(0, |sum, &byte| sum * 256 + usize::from(byte));
    let offset = offset % old.len();
    let body = bytes.get(2..).unwrap_or_default();
    match way % 3 {
        0 => disk.put(&path, bytes),
        1 => disk.put(&path, &overlay(&old, offset, body)),
        _ => {
            // The entries of the first block, under a checksum that is right; the index and the
            // footer are not, so only salvage reads them.
            let mut new = old[..BLOCKS].to_vec();
            new.extend(block(&old, body, u32::from(way / 3)));
            disk.put(&path, &new);
            return survive(&disk);
        }
    }
    judge(&disk);
});

//! Arbitrary bytes as a table: by themselves, as a part of a right one, and with block checksums
//! that are right.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, judge, last_with, overlay, past, survive};

/// Where the first block of a table begins.
const BLOCKS: usize = 64;

fuzz_target!(|input: &[u8]| {
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
            let seed = {
                // Database, table and bucket, as the header has them in this order.
                crc32fast::hash(&old[16..44])
            };
            let mut block = (body.len() as u32).to_le_bytes().to_vec();
            block.extend(u32::from(way / 3).to_le_bytes());
            block.extend([0; 4]);
            block.extend(body);
            let mut hasher = crc32fast::Hasher::new_with_initial(seed);
            hasher.update(&block);
            let mut new = old[..BLOCKS].to_vec();
            new.extend(hasher.finalize().to_le_bytes());
            new.extend(block);
            disk.put(&path, &new);
            return survive(&disk);
        }
    }
    judge(&disk);
});

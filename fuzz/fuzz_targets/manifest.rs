//! Arbitrary bytes as a manifest: by themselves, as a part of the right one, and with a checksum
//! that is right.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, judge, options, overlay, past, survive};
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    let Some((&way, bytes)) = input.split_first() else { return };
    let disk = past().disk.kill(1);
    let path = Path::new(shared::HOME).join("MANIFEST");
    let old = content(&disk, &path);
    let offset = usize::from(bytes.first().copied().unwrap_or(0)) % old.len();
    let new = match way % 3 {
        0 => bytes.to_vec(),
        1 => overlay(&old, offset, bytes.get(1..).unwrap_or_default()),
        _ => {
            // Behind magic, version and flags: the length, the fields, and the checksum of all.
            let mut new = overlay(&old[..old.len() - 4], 12 + offset, &bytes[bytes.len().min(1)..]);
            let length = new.len() as u64 + 4;
            new[12..20].copy_from_slice(&length.to_le_bytes());
            let checksum = crc32fast::hash(&new);
            new.extend(checksum.to_le_bytes());
            disk.put(&path, &new);
            return survive(&disk);
        }
    };
    disk.put(&path, &new);
    assert!(options(&disk).verify(shared::HOME).is_ok(), "what is wrong is told, not an error");
    judge(&disk);
});

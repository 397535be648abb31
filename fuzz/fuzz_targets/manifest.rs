//! Arbitrary bytes as a manifest: by themselves, as a part of the right one, and with a checksum
//! that is right.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, judge, options, overlay, past, survive};
use std::path::Path;
use std::sync::Once;

/// A manifest up to its checksum, with the length and the checksum that are right.
fn sealed(mut manifest: Vec<u8>) -> Vec<u8> {
    let length = manifest.len() as u64 + 4;
    manifest[12..20].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&manifest);
    manifest.extend(checksum.to_le_bytes());
    manifest
}

/// The manifest, sealed again in this way, is the one that is there: else every input would be
/// refused for its checksum, and nothing would be tried.
fn check_the_maker() {
    let there = content(&past().disk, &Path::new(shared::HOME).join("MANIFEST"));
    assert_eq!(sealed(there[..there.len() - 4].to_vec()), there, "no manifest of this version");
}

fuzz_target!(|input: &[u8]| {
    static CHECKED: Once = Once::new();
    CHECKED.call_once(check_the_maker);
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
            let body = bytes.get(1..).unwrap_or_default();
            disk.put(&path, &sealed(overlay(&old[..old.len() - 4], 12 + offset, body)));
            return survive(&disk);
        }
    };
    disk.put(&path, &new);
    assert!(options(&disk).verify(shared::HOME).is_ok(), "what is wrong is told, not an error");
    judge(&disk);
});

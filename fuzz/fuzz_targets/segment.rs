//! Arbitrary bytes as a segment of the log: by themselves, and as a part of the right one.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, judge, newest_segment, overlay, past};

fuzz_target!(|input: &[u8]| {
    let Some((&way, bytes)) = input.split_first() else { return };
    let disk = past().disk.kill(1);
    let path = newest_segment(&disk);
    if way % 2 == 0 {
        disk.put(&path, bytes);
    } else {
        let old = content(&disk, &path);
        let offset = bytes.iter().take(2).fold(0, |sum, &byte| sum * 256 + usize::from(byte));
        let offset = offset % old.len();
        disk.put(&path, &overlay(&old, offset, bytes.get(2..).unwrap_or_default()));
    }
    judge(&disk);
});

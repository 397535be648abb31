//! Any number of mishaps to the files of a whole database, and then it is opened.
#![no_main]

mod shared;

use libfuzzer_sys::fuzz_target;
use shared::{content, files, judge, overlay, past};
use std::path::Path;

fuzz_target!(|input: &[u8]| {
    let disk = past().disk.kill(1);
    for mishap in input.chunks_exact(6).take(16) {
        let &[what, one, other, high, low, byte] = mishap else { return };
        let paths = files(&disk);
        let (Some(path), Some(second)) = (
            paths.get(usize::from(one) % paths.len().max(1)),
            paths.get(usize::from(other) % paths.len().max(1)),
        ) else {
            return;
        };
        let bytes = content(&disk, path);
        let place = (usize::from(high) * 256 + usize::from(low)) % bytes.len().max(1);
        match what % 10 {
            0 | 1 => drop(disk.flip_bit(path, place as u64 * 8 + u64::from(byte % 8))),
            2 => disk.put(path, &overlay(&bytes, place, &[byte])),
            3 => disk.truncate(path, place),
            4 => disk.put(path, &overlay(&bytes, place, &vec![0; usize::from(byte) * 8])),
            5 => disk.delete(path),
            6 => disk.swap_files(path, second),
            7 => disk.put(second, &bytes),
            8 => {
                // Another name of ours.
                let name = match byte % 3 {
                    0 => format!("wal-{byte:08x}.log"),
                    1 => format!("tab-{byte:016x}.tab"),
                    _ => "MANIFEST.tmp".to_owned(),
                };
                disk.put(&Path::new(shared::HOME).join(name), &bytes);
            }
            _ => {
                let from = content(&disk, second);
                let part = from.get(place..(place + usize::from(byte) * 8).min(from.len()));
                disk.put(path, &overlay(&bytes, place, part.unwrap_or_default()));
            }
        }
    }
    judge(&disk);
});

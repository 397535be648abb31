//! How fast a table is written and read, on the real disk. Run by hand:
//!
//! ```text
//! cargo test --release --lib checkpoint::tests::figure -- --ignored --nocapture
//! ```

use super::*;
use crate::storage::Disk;
use std::time::{Duration, Instant};

const ENTRIES: u64 = 1_000_000;

fn rate(took: Duration, bytes: u64) -> String {
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let (entries, bytes) = (ENTRIES as f64 / seconds / 1e6, bytes as f64 / seconds / 1e9);
    format!("{:.0} ms, {entries:.1} M entries/s, {bytes:.2} GB/s", seconds * 1e3)
}

/// Entries of 16 and 100 bytes.
fn write_many(directory: &Path) -> TableRecord {
    let (kind, pace) = (TableKind::Range, |_| {});
    let mut writer = TableWriter::create(&Disk, directory, origin(3), kind, 0, pace).unwrap();
    let mut value = [7; 100];
    for key in 0..ENTRIES {
        value[..8].copy_from_slice(&key.to_le_bytes());
        writer.push(&(u128::from(key) << 20).to_be_bytes(), &value).unwrap();
    }
    writer.finish(Timestamp::from_raw(5), Lsn::from_raw(9)).unwrap()
}

/// A share of the blocks: how many entries, and something that depends on all of them.
fn read_share(table: &Table, first: usize, step: usize) -> (u64, u64) {
    let (mut buffer, mut entries, mut sum) = (Vec::new(), 0, 0_u64);
    for at in (first..table.blocks()).step_by(step) {
        for entry in table.read_block(at, &mut buffer).unwrap().entries() {
            entries += 1;
            sum = sum.wrapping_add(u64::from(entry.key[13]) + u64::from(entry.value[0]));
        }
    }
    (entries, sum)
}

#[test]
#[ignore = "a figure, not a check"]
fn million_entries() {
    let directory = std::env::temp_dir().join(format!("palisade-figure-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let start = Instant::now();
    let record = write_many(&directory);
    println!("write and sync: {}", rate(start.elapsed(), record.length));
    let bucket = origin(3).bucket;
    for _ in 0..5 {
        let start = Instant::now();
        let table = Table::open(&Disk, &directory, DATABASE, bucket, &record).unwrap();
        let opened = start.elapsed();
        let one = read_share(&table, 0, 1);
        println!("open {opened:?}; 1 thread: {}", rate(start.elapsed(), record.length));
        let start = Instant::now();
        let two = std::thread::scope(|scope| {
            let other = scope.spawn(|| read_share(&table, 1, 2));
            let ours = read_share(&table, 0, 2);
            let theirs = other.join().unwrap();
            (ours.0 + theirs.0, ours.1.wrapping_add(theirs.1))
        });
        println!("             2 threads: {}", rate(start.elapsed(), record.length));
        assert_eq!((one, one.0), (two, ENTRIES));
    }
    let (table, mut buffer) = (table_path(3), vec![0; 1 << 20]);
    let file = Disk.open(&directory.join(table), crate::storage::Access::Read).unwrap();
    let start = Instant::now();
    for at in 0..record.length >> 20 {
        file.read_exact_at(&mut buffer, at << 20).unwrap();
    }
    println!("reading alone: {}", rate(start.elapsed(), record.length));
    std::fs::remove_dir_all(&directory).unwrap();
}

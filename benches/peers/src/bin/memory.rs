//! Bytes an entry, a hot key that stays flat, and a dropped database that leaves nothing behind.
//!
//! A counting allocator adds what the system allocator adds: eight bytes of header, rounded up to
//! sixteen, at least 32. The resident size as the system reports it stands beside.

use std::collections::BTreeMap;
use std::process::Command;

use crossbeam_skiplist::SkipMap;
use palisade::{Bucket, Database};
use peers::lab::{mix, sized};
use peers::pace::{Counting, allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the system says this process holds; 0 where it does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Builds something of `entries` entries and prints what it costs.
fn weigh<T>(name: &str, entries: u64, build: impl FnOnce() -> T) {
    let (live_before, resident_before) = (allocated(), resident());
    let weighed = build();
    let each = |bytes: usize| bytes as f64 / entries as f64;
    let (counted, paged) = (allocated() - live_before, resident().saturating_sub(resident_before));
    drop(weighed);
    let left = allocated().saturating_sub(live_before);
    println!("{name:<20} {:>8.1} {:>9.1} {left:>12}", each(counted), each(paged));
}

fn fill(entries: u64) -> palisade::Result<(Database, Bucket<u64, u64>)> {
    let db = Database::in_memory();
    let bucket: Bucket<u64, u64> = db.bucket("numbers")?;
    for start in (0..entries).step_by(1_000) {
        db.write(|tx| {
            for key in start..entries.min(start + 1_000) {
                tx.insert(&bucket, mix(key), key)?;
            }
            Ok(())
        })?;
    }
    db.vacuum(usize::MAX);
    Ok((db, bucket))
}

fn hot_key(updates: u64) -> palisade::Result<()> {
    let db = Database::in_memory();
    let bucket: Bucket<u64, u64> = db.bucket("hot")?;
    let empty = allocated();
    println!("\none key updated {updates} times, bytes over the empty bucket");
    let (mut least, mut most) = (usize::MAX, 0);
    for update in 0..updates {
        bucket.insert(1, update)?;
        if update % (updates / 10) == updates / 10 - 1 {
            let held = allocated().saturating_sub(empty);
            (least, most) = (least.min(held), most.max(held));
            println!("{:>12} {held:>10}", update + 1);
        }
    }
    assert!(most < 1 << 20, "a hot key holds {most} bytes");
    println!("between {least} and {most}");
    Ok(())
}

fn contender(name: &str, entries: u64) {
    match name {
        "palisade" => weigh(name, entries, || fill(entries).expect("nothing conflicts")),
        "BTreeMap" => weigh(name, entries, || {
            let mut map = BTreeMap::new();
            map.extend((0..entries).map(|number| (mix(number), number)));
            map
        }),
        "crossbeam SkipMap" => weigh(name, entries, || {
            let map = SkipMap::new();
            (0..entries).for_each(|number| drop(map.insert(mix(number), number)));
            map
        }),
        _ => panic!("nothing is called {name}"),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let entries = sized(1_000_000, 100_000);
    let mut arguments = std::env::args().skip_while(|argument| argument != "--contender").skip(1);
    if let Some(name) = arguments.next() {
        contender(&name, entries);
        return Ok(());
    }
    let before = allocated();
    let db = Database::in_memory();
    println!("empty database: {} bytes\n", allocated() - before);
    drop(db);
    println!("{entries} entries u64 -> u64, bytes an entry, each in a process of its own");
    println!("{:<20} {:>8} {:>9} {:>12}", "", "counted", "resident", "left behind");
    for name in ["palisade", "BTreeMap", "crossbeam SkipMap"] {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(std::env::args().skip(1)).args(["--contender", name]);
        assert!(child.status()?.success(), "{name} failed");
    }
    hot_key(sized(10_000_000, 200_000))?;
    Ok(())
}

//! Bytes an entry, a hot key that stays flat, and a dropped database that leaves nothing behind.
//!
//! A counting allocator adds what the system allocator adds: eight bytes of header, rounded up to
//! sixteen, at least 32. The resident size as the system reports it stands beside.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_skiplist::SkipMap;
use palisade::{Bucket, Database};
use peers::lab::{mix, sized};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

const fn chunk(size: usize) -> usize {
    let rounded = (size + 8 + 15) & !15;
    if rounded < 32 { 32 } else { rounded }
}

// SAFETY: every call goes to the system allocator unchanged; the counter is beside the point.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed: a sum that is read when nothing else runs.
        LIVE.fetch_add(chunk(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Relaxed: as in `alloc`.
        LIVE.fetch_sub(chunk(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    // Relaxed: read when nothing else runs.
    LIVE.load(Ordering::Relaxed)
}

/// What the system says this process holds; 0 where it does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Builds something of `entries` entries and prints what it costs.
fn weigh<T>(name: &str, entries: u64, build: impl FnOnce() -> T) {
    let (live_before, resident_before) = (live(), resident());
    let weighed = build();
    let each = |bytes: usize| bytes as f64 / entries as f64;
    let (counted, paged) = (live() - live_before, resident().saturating_sub(resident_before));
    drop(weighed);
    let left = live().saturating_sub(live_before);
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
    let empty = live();
    println!("\none key updated {updates} times, bytes over the empty bucket");
    let (mut least, mut most) = (usize::MAX, 0);
    for update in 0..updates {
        bucket.insert(1, update)?;
        if update % (updates / 10) == updates / 10 - 1 {
            let held = live().saturating_sub(empty);
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
    let before = live();
    let db = Database::in_memory();
    println!("empty database: {} bytes\n", live() - before);
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

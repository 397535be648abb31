//! Power cuts between and during checkpoints.
//!
//! A database of one bucket with three ranges lives several lives. In each generation one range is
//! written again, the manifest is swapped, and the table it had is removed. At every call the
//! power is cut, in several ways at once; each disk that is left must have a manifest not older
//! than the last that was stored, with all its tables whole, and the database goes on from there.

use super::*;
use crate::storage::{Call, Moment, Sabotages};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const RANGES: usize = 3;
const GENERATIONS: u64 = 4;

/// What the range holds, as written for this generation.
fn content_of(table: TableId, generation: u64) -> Content {
    let value = format!("{table} of {generation}").into_bytes();
    let entry = |key: u8| (Operation::Put, vec![key], value.repeat(usize::from(key) * 20));
    (1..4).map(entry).collect()
}

/// What a crash has left, or why it is wrong: the generation.
fn judge(disk: &FaultDisk) -> Result<Option<Manifest>, String> {
    let Some(manifest) = Manifest::load(disk, directory()).map_err(|error| error.to_string())?
    else {
        return Ok(None);
    };
    for (bucket, record) in manifest.tables() {
        let table = Table::open(disk, directory(), manifest.database, bucket.id, record);
        let (content, _) =
            table.and_then(|table| read(&table)).map_err(|error| error.to_string())?;
        if content != content_of(record.table, record.timestamp.get()) {
            return Err(format!("table {} has other content", record.table));
        }
    }
    Ok(Some(manifest))
}

/// One life: cleans up, and makes some generations. Stops quietly when the power goes.
fn live(disk: &FaultDisk, sabotages: Sabotages, stored: &AtomicU64) -> Result<(), CheckpointError> {
    let mut current = if let Some(found) = Manifest::load(disk, directory())? {
        found.clean(disk, directory(), sabotages)?;
        found
    } else {
        // Before any other file, or the directory would look like one that lost its manifest.
        let first = manifest(Vec::new());
        first.store(disk, directory(), sabotages).map_err(|error| error.source)?;
        first
    };
    for _ in 0..GENERATIONS {
        let mut next = current.clone();
        next.generation += 1;
        let range = usize::try_from(next.generation).unwrap() % RANGES;
        let table = next.next_table;
        next.next_table = table.next().unwrap();
        let place = Origin { table, ..origin(0) };
        let kind = TableKind::Range;
        let writer = TableWriter::create(disk, directory(), place, kind, 0, |_| {})?;
        let mut writer = writer.sabotage(sabotages);
        for (operation, key, value) in content_of(table, next.generation) {
            writer.push_operation(operation, &key, &value)?;
        }
        let mut record = writer.finish(Timestamp::from_raw(next.generation), Lsn::ZERO)?;
        let tables = &mut next.buckets[0].tables;
        record.lower = if tables.is_empty() || range == 0 { Vec::new() } else { vec![1] };
        let mut old = None;
        if range < tables.len() {
            old = Some(std::mem::replace(&mut tables[range], record).table);
        } else {
            tables.push(record);
        }
        next.store(disk, directory(), sabotages).map_err(|error| error.source)?;
        stored.store(next.generation, Ordering::Relaxed);
        if let Some(old) = old {
            let path = old.path(directory());
            disk.remove(&path).map_err(CheckpointError::io("remove", &path))?;
        }
        current = next;
    }
    Ok(())
}

/// Lives and crashes; answers the number of crash states, or the first that is wrong.
fn torture(seed: u64, lives: u32, sabotages: Sabotages) -> Result<u64, String> {
    let mut disk = FaultDisk::new(seed);
    let states = Arc::new(AtomicU64::new(0));
    let stored = Arc::new(AtomicU64::new(0));
    for life in 0..lives {
        let wrong = Arc::new(Mutex::new(None));
        let observer = {
            let (states, stored, wrong) = (states.clone(), stored.clone(), wrong.clone());
            move |disk: &FaultDisk, call: &Call, _: Moment| {
                for way in 0..3 {
                    let left = disk.crash(seed ^ call.number << 8 ^ way);
                    states.fetch_add(1, Ordering::Relaxed);
                    let least = stored.load(Ordering::Relaxed);
                    let complaint = match judge(&left) {
                        Ok(found) => {
                            let found = found.map_or(0, |manifest| manifest.generation);
                            let why = format!("generation {found} after {least} was stored");
                            (found < least || found > least + 1).then_some(why)
                        }
                        Err(complaint) => Some(complaint),
                    };
                    if let Some(why) = complaint {
                        let why = format!("seed {seed} life {life} at {call:?}: {why}");
                        wrong.lock().unwrap().get_or_insert(why);
                    }
                }
            }
        };
        disk.observe(observer);
        live(&disk, sabotages, &stored).map_err(|error| error.to_string())?;
        if let Some(why) = wrong.lock().unwrap().take() {
            return Err(why);
        }
        disk = next_life(&disk, seed ^ u64::from(life), &stored)?;
    }
    Ok(states.load(Ordering::Relaxed))
}

/// A disk on which the next life begins: cut off in the middle of one more generation, by a power
/// cut or a killed process.
fn next_life(disk: &FaultDisk, seed: u64, stored: &AtomicU64) -> Result<FaultDisk, String> {
    disk.observe(|_, _, _| {});
    let before = stored.load(Ordering::Relaxed);
    let disk = disk.crash(seed);
    disk.fail_at(1 + seed.wrapping_mul(7) % 60, crate::storage::Fault::PowerOff);
    // The power goes somewhere in here, or not at all.
    let _ = live(&disk, Sabotages::default(), stored);
    let next = if seed.is_multiple_of(2) { disk.crash(seed) } else { disk.kill(seed) };
    let found = judge(&next)?.map_or(0, |manifest| manifest.generation);
    if found < before {
        return Err(format!("seed {seed}: generation {found} after {before} was stored"));
    }
    stored.store(found, Ordering::Relaxed);
    Ok(next)
}

#[test]
fn no_crash_loses_a_stored_manifest_or_its_tables() {
    let seeds = if cfg!(miri) { 1 } else { 20 };
    let mut states = 0;
    for seed in 0..seeds {
        states += torture(seed, 3, Sabotages::default()).unwrap();
    }
    assert!(states > seeds * 300, "only {states} crash states");
}

/// The rules that this floor keeps, broken one by one: the crashes above find each.
#[cfg(feature = "testing")]
#[test]
fn broken_rules_are_noticed() {
    use crate::storage::Sabotage;
    for rule in [Sabotage::SkipDirectorySync, Sabotage::ManifestBeforeTable] {
        let caught = (0..20).find_map(|seed| torture(seed, 3, Sabotages::of(rule)).err());
        assert!(caught.is_some(), "nobody notices {rule:?}");
    }
}

//! The files of a checkpoint, on the simulated disk: what is written comes back, damage is told
//! from data, and no crash leaves a manifest without its tables.

mod crash;
mod damage;
mod figure;
mod manifest;
mod table;

use super::block::{Operation, ValuePosition};
use super::directory::TableId;
use super::error::CheckpointError;
use super::format::{Origin, TableKind};
use super::manifest::{BucketRecord, Manifest, TableRecord};
use super::table::Table;
use super::writer::TableWriter;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::storage::{FaultDisk, Storage};
use std::path::{Path, PathBuf};

pub(super) type Content = Vec<(Operation, Vec<u8>, Vec<u8>)>;

const DATABASE: DatabaseId = DatabaseId::from_raw(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

fn directory() -> &'static Path {
    Path::new("")
}

/// A disk that has nothing but what a test asks for.
fn quiet_disk() -> FaultDisk {
    let disk = FaultDisk::new(1);
    disk.set_write_back(0);
    disk
}

fn origin(table: u64) -> Origin {
    let (bucket, table) = (StoredId::from_raw(7), TableId::from_raw(table));
    Origin { database: DATABASE, bucket, table }
}

fn table_path(table: u64) -> PathBuf {
    TableId::from_raw(table).path(directory())
}

fn puts(entries: &[(&[u8], &[u8])]) -> Content {
    let put = |&(key, value): &(&[u8], &[u8])| (Operation::Put, key.to_vec(), value.to_vec());
    entries.iter().map(put).collect()
}

fn writer(storage: &dyn Storage, origin: Origin, kind: TableKind) -> TableWriter<'_> {
    TableWriter::create(storage, directory(), origin, kind, 0, |_| {}).unwrap()
}

fn write(storage: &dyn Storage, origin: Origin, kind: TableKind, content: &Content) -> TableRecord {
    let mut writer = writer(storage, origin, kind);
    for (operation, key, value) in content {
        writer.push_operation(*operation, key, value).unwrap();
    }
    writer.finish(Timestamp::from_raw(5), Lsn::from_raw(9)).unwrap()
}

fn open(
    storage: &dyn Storage,
    origin: Origin,
    record: &TableRecord,
) -> Result<Table, CheckpointError> {
    Table::open(storage, directory(), origin.database, origin.bucket, record)
}

fn read(table: &Table) -> Result<(Content, Vec<ValuePosition>), CheckpointError> {
    let (mut content, mut positions, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..table.blocks() {
        let block = table.read_block(at, &mut buffer)?;
        for entry in block.entries() {
            content.push((entry.operation, entry.key.to_vec(), entry.value.to_vec()));
            positions.push(entry.position);
        }
    }
    Ok((content, positions))
}

/// Reads all of a table; the first thing that is wrong is the error.
fn verify(table: &Table) -> Result<(), CheckpointError> {
    let (mut entries, mut problems) = (0, Vec::new());
    table.verify(&mut |_| entries += 1, &mut |problem| problems.push(problem));
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None if entries == table.len() => Ok(()),
        None => panic!("{entries} entries of {}", table.len()),
    }
}

fn manifest(tables: Vec<TableRecord>) -> Manifest {
    let mut manifest = Manifest::new(DATABASE);
    manifest.next_bucket = StoredId::from_raw(8);
    manifest.next_table = TableId::from_raw(100);
    manifest.buckets.push(BucketRecord {
        id: StoredId::from_raw(7),
        name: "words".into(),
        key_type: "string".into(),
        value_type: "u64".into(),
        is_ordered: true,
        tables,
    });
    manifest
}

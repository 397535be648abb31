//! The manifest: what the database consists of.
//!
//! ```text
//!   magic │ version, flags │ length of the file │ fields │ checksum of all that
//! ```
//!
//! The fields are database u128, generation u64; the next bucket u32 and table u64; the first LSN
//! that is needed u64, the LSN of a clean end u64 (zero: none), the LSN up to which the log was
//! durable u64, the last timestamp u64; the number of buckets u32. A bucket is its id u32, flags u8
//! (1: ordered), name, key type and value type, each with a length u32; the number of tables u32. A
//! table is its id u64, kind u8 (0: range, 1: delta), length u64, footer's checksum u32, entries
//! u64, timestamp u64, LSN u64, and the lower bound of its range with a length u32.
//!
//! 1. The manifest is replaced as a whole: written under another name, synced, renamed, and the
//!    directory synced. Whatever happens, the old one or the new one is there.
//! 2. The tables it names have durable names before it gets its own.
//! 3. The ranges of a bucket tile its keys, for a range ends where the next one begins: the first
//!    has an empty lower bound. Deltas come after the ranges.
//! 4. In every version of the format the magic comes first, the version after it, and the
//!    checksum of all that comes before it last.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{TableId, read_exact, write_all};
use super::error::{CheckpointError, Result};
use super::fields::{Fields, length_u32, put_sized};
use super::format::TableKind;
use crate::crc::crc32;
use crate::id::{DatabaseId, Lsn, StoredId, Timestamp};
use crate::storage::{Access, Sabotage, Sabotages, Storage};

const NAME: &str = "MANIFEST";
const TEMPORARY_NAME: &str = "MANIFEST.tmp";
const MAGIC: [u8; 8] = *b"\x93PSMAN\r\n";
const VERSION: u16 = 1;
/// Magic, version, flags, length of the file, and the checksum at the end.
const FRAME_LENGTH: usize = 8 + 2 + 2 + 8 + 4;
/// A manifest beyond this is none: it would name a hundred million tables.
const LENGTH_MAX: u64 = 8 << 30;

/// What a database on disk consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) database: DatabaseId,
    /// One more than that of the manifest before.
    pub(crate) generation: u64,
    /// The id for the bucket that is created next.
    pub(crate) next_bucket: StoredId,
    /// The id for the table that is written next.
    pub(crate) next_table: TableId,
    /// Where the log that is still needed begins.
    pub(crate) first_needed: Lsn,
    /// Where the log ends, if the database was closed; none while it is open.
    pub(crate) clean_end: Option<Lsn>,
    /// The log was durable up to here when this was stored: it ends no earlier.
    pub(crate) durable: Lsn,
    /// No commit at or before this time is to be made again.
    pub(crate) last_timestamp: Timestamp,
    /// The durable buckets, by rising id.
    pub(crate) buckets: Vec<BucketRecord>,
}

/// A durable bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketRecord {
    pub(crate) id: StoredId,
    pub(crate) name: String,
    /// What `Encode::type_identity` of the keys says.
    pub(crate) key_type: String,
    /// What `Encode::type_identity` of the values says.
    pub(crate) value_type: String,
    /// Whether the keys' encodings sort as the keys do.
    pub(crate) is_ordered: bool,
    /// The ranges by their lower bounds, and then the deltas in the order of the log.
    pub(crate) tables: Vec<TableRecord>,
}

/// A table of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableRecord {
    pub(crate) table: TableId,
    pub(crate) kind: TableKind,
    /// The length of the file in bytes.
    pub(crate) length: u64,
    pub(crate) footer_crc: u32,
    pub(crate) entries: u64,
    /// The table holds what a snapshot at this time sees of its range.
    pub(crate) timestamp: Timestamp,
    /// Where the log ended at that snapshot.
    pub(crate) lsn: Lsn,
    /// The range begins with this key; empty for the bucket's first range, and for a delta.
    pub(crate) lower: Vec<u8>,
}

/// A manifest was not stored.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the manifest was not stored")]
pub(crate) struct StoreError {
    /// What went wrong.
    pub(crate) source: CheckpointError,
    /// Whether a crash may bring back either manifest, or lose the name of a table: nothing may
    /// be stored or removed any more. Otherwise the old manifest is in place, and all goes on.
    pub(crate) is_fatal: bool,
}

impl Manifest {
    /// The manifest of a database that is being created. It is stored before any other file is
    /// made: a directory that has tables or a log, and no manifest, has lost it.
    pub(crate) fn new(database: DatabaseId) -> Self {
        Self {
            database,
            generation: 0,
            next_bucket: StoredId::from_raw(0),
            next_table: TableId::FIRST,
            first_needed: Lsn::ZERO,
            clean_end: None,
            durable: Lsn::ZERO,
            last_timestamp: Timestamp::ZERO,
            buckets: Vec::new(),
        }
    }

    /// Reads the manifest of a directory. `None` if no database was created there.
    pub(crate) fn load(storage: &dyn Storage, directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(NAME);
        let file = match storage.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::explain_absence(storage, directory, &path).map(|()| None);
            }
            Err(error) => return Err(CheckpointError::io("open", &path)(error)),
        };
        let length = file.len().map_err(CheckpointError::io("measure", &path))?;
        let size = usize::try_from(length).ok().filter(|_| length <= LENGTH_MAX);
        let Some(size) = size else {
            return Err(CheckpointError::corruption(&path, 0, "no manifest is this long"));
        };
        let mut bytes = vec![0; size];
        read_exact(&*file, &path, &mut bytes, 0)?;
        Self::decode(&path, &bytes).map(Some)
    }

    /// Without a manifest there must be nothing that one would name.
    fn explain_absence(storage: &dyn Storage, directory: &Path, path: &Path) -> Result<()> {
        let names = match storage.list(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(CheckpointError::io("list", directory)(error)),
        };
        let is_log =
            |name: &String| name.starts_with("wal-") && name.strip_suffix(".log").is_some();
        match names.iter().find(|name| TableId::of_name(name).is_some() || is_log(name)) {
            Some(name) => {
                let what = format!("the manifest is missing, and {name} is there");
                Err(CheckpointError::corruption(path, 0, what))
            }
            None => Ok(()),
        }
    }

    /// Puts this manifest in the place of the one before.
    pub(crate) fn store(
        &self,
        storage: &dyn Storage,
        directory: &Path,
        sabotages: Sabotages,
    ) -> std::result::Result<(), StoreError> {
        let bytes = self.encode();
        let checked = Self::decode(Path::new(NAME), &bytes);
        assert!(checked.is_ok_and(|read| read == *self), "a manifest that will not be refused");
        let fatal = |source| StoreError { source, is_fatal: true };
        let temporary = directory.join(TEMPORARY_NAME);
        write_new(storage, &temporary, &bytes).map_err(|source| {
            // It would be in the way of nobody: the next one removes it too.
            let _ = storage.remove(&temporary);
            StoreError { source, is_fatal: false }
        })?;
        // Keeps 2, for the tables renamed since the last manifest.
        sync_names(storage, directory, sabotages).map_err(fatal)?;
        let renamed = storage.rename(&temporary, &directory.join(NAME));
        renamed.map_err(CheckpointError::io("rename", &temporary)).map_err(fatal)?;
        sync_names(storage, directory, sabotages).map_err(fatal)
    }

    /// Removes what no manifest will ever name: unfinished files, and tables that this manifest,
    /// which was just loaded, does not name. Answers their paths. Nobody may be writing files.
    pub(crate) fn clean(
        &self,
        storage: &dyn Storage,
        directory: &Path,
        sabotages: Sabotages,
    ) -> Result<Vec<PathBuf>> {
        let listed: BTreeSet<TableId> = self.tables().map(|(_, table)| table.table).collect();
        let names = storage.list(directory).map_err(CheckpointError::io("list", directory))?;
        let is_garbage = |name: &String| match TableId::of_name(name) {
            Some(table) => !listed.contains(&table),
            None => is_unfinished(name),
        };
        let garbage = names.iter().filter(|name| is_garbage(name)).map(|name| directory.join(name));
        let garbage: Vec<PathBuf> = garbage.collect();
        // The manifest may have been loaded under a name that a crash takes back, to the one
        // before, which needs other tables.
        sync_names(storage, directory, sabotages)?;
        for path in &garbage {
            storage.remove(path).map_err(CheckpointError::io("remove", path))?;
        }
        Ok(garbage)
    }

    /// All tables, with their buckets.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&BucketRecord, &TableRecord)> {
        self.buckets.iter().flat_map(|it| it.tables.iter().map(move |table| (it, table)))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(0_u16.to_le_bytes());
        let mut fields = Vec::new();
        self.put(&mut fields);
        bytes.extend(((FRAME_LENGTH + fields.len()) as u64).to_le_bytes());
        bytes.extend(fields);
        let crc = crc32(0, &bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.database.get().to_le_bytes());
        to.extend(self.generation.to_le_bytes());
        to.extend(self.next_bucket.get().to_le_bytes());
        to.extend(self.next_table.get().to_le_bytes());
        to.extend(self.first_needed.get().to_le_bytes());
        to.extend(self.clean_end.unwrap_or(Lsn::ZERO).get().to_le_bytes());
        to.extend(self.durable.get().to_le_bytes());
        to.extend(self.last_timestamp.get().to_le_bytes());
        to.extend(length_u32(self.buckets.len()).to_le_bytes());
        for bucket in &self.buckets {
            to.extend(bucket.id.get().to_le_bytes());
            to.push(u8::from(bucket.is_ordered));
            put_sized(to, bucket.name.as_bytes());
            put_sized(to, bucket.key_type.as_bytes());
            put_sized(to, bucket.value_type.as_bytes());
            to.extend(length_u32(bucket.tables.len()).to_le_bytes());
            bucket.tables.iter().for_each(|table| table.put(to));
        }
    }

    /// Reads the manifest that `bytes` are the whole file of.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let wrong = |offset, what| Err(CheckpointError::corruption(path, offset, what));
        let Some((checked, &crc)) = bytes.split_last_chunk() else {
            return wrong(0, "the manifest is cut short");
        };
        if checked.get(..MAGIC.len()) != Some(&MAGIC) {
            return wrong(0, "this is no manifest");
        }
        // Damage first: a version that is none of ours is another release's only if it is sound.
        if crc32(0, checked) != u32::from_le_bytes(crc) {
            return wrong(0, "the checksum of the manifest does not match");
        }
        let mut fields = Fields::new(path, checked, 0);
        fields.bytes(MAGIC.len())?;
        fields.version(VERSION)?;
        let flags = fields.u16()?;
        let length = fields.u64()?;
        if flags != 0 || length != bytes.len() as u64 {
            return Err(fields.wrong("the manifest contradicts itself"));
        }
        let manifest = Self::read(&mut fields)?;
        if !fields.is_at_end() {
            return Err(fields.wrong("the manifest goes on after its end"));
        }
        match manifest.check() {
            Ok(()) => Ok(manifest),
            Err(what) => wrong(0, what),
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        let mut manifest = Self {
            database: DatabaseId::from_raw(fields.u128()?),
            generation: fields.u64()?,
            next_bucket: StoredId::from_raw(fields.u32()?),
            next_table: TableId::from_raw(fields.u64()?),
            first_needed: Lsn::from_raw(fields.u64()?),
            clean_end: Some(Lsn::from_raw(fields.u64()?)).filter(|&lsn| lsn != Lsn::ZERO),
            durable: Lsn::from_raw(fields.u64()?),
            last_timestamp: Timestamp::from_raw(fields.u64()?),
            buckets: Vec::new(),
        };
        for _ in 0..fields.u32()? {
            manifest.buckets.push(BucketRecord::read(fields)?);
        }
        Ok(manifest)
    }

    /// What has to hold between the fields.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let mut names = BTreeSet::new();
        let mut tables = BTreeSet::new();
        let mut previous = None;
        for bucket in &self.buckets {
            if previous >= Some(bucket.id) || bucket.id >= self.next_bucket {
                return Err("the ids of the buckets do not rise");
            }
            previous = Some(bucket.id);
            if !names.insert(&bucket.name) {
                return Err("two buckets have one name");
            }
            bucket.check()?;
        }
        for (_, table) in self.tables() {
            if !tables.insert(table.table) || table.table >= self.next_table {
                return Err("the id of a table is used twice, or was never given");
            }
        }
        Ok(())
    }
}

impl BucketRecord {
    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        let id = StoredId::from_raw(fields.u32()?);
        let is_ordered = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return Err(fields.wrong("a bucket has flags that this version does not know")),
        };
        let mut text = || {
            let text = std::str::from_utf8(fields.sized()?);
            text.map(str::to_owned).map_err(|_| fields.wrong("this is no text"))
        };
        let (name, key_type, value_type) = (text()?, text()?, text()?);
        let mut tables = Vec::new();
        for _ in 0..fields.u32()? {
            tables.push(TableRecord::read(fields)?);
        }
        Ok(Self { id, name, key_type, value_type, is_ordered, tables })
    }

    /// Keeps 3.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let mut tables = self.tables.iter().enumerate();
        let is_bounded = |(at, table): (usize, &TableRecord)| match table.kind {
            TableKind::Range => at > 0 || table.lower.is_empty(),
            TableKind::Delta => table.lower.is_empty(),
        };
        if !tables.all(is_bounded) {
            return Err("the first range of a bucket does not begin with the first key");
        }
        if !self.tables.is_sorted_by_key(|table| table.kind == TableKind::Delta) {
            return Err("a range follows a delta");
        }
        Ok(())
    }
}

impl TableRecord {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.table.get().to_le_bytes());
        to.push(match self.kind {
            TableKind::Range => 0,
            TableKind::Delta => 1,
        });
        to.extend(self.length.to_le_bytes());
        to.extend(self.footer_crc.to_le_bytes());
        to.extend(self.entries.to_le_bytes());
        to.extend(self.timestamp.get().to_le_bytes());
        to.extend(self.lsn.get().to_le_bytes());
        put_sized(to, &self.lower);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        Ok(Self {
            table: TableId::from_raw(fields.u64()?),
            kind: match fields.u8()? {
                0 => TableKind::Range,
                1 => TableKind::Delta,
                _ => return Err(fields.wrong("a table has a kind that this version does not know")),
            },
            length: fields.u64()?,
            footer_crc: fields.u32()?,
            entries: fields.u64()?,
            timestamp: Timestamp::from_raw(fields.u64()?),
            lsn: Lsn::from_raw(fields.u64()?),
            lower: fields.sized()?.to_vec(),
        })
    }
}

/// Whether a file was never finished, by its name.
fn is_unfinished(name: &str) -> bool {
    let is_ours = name == TEMPORARY_NAME || name.starts_with("tab-") || name.starts_with("wal-");
    is_ours && name.strip_suffix(".tmp").is_some()
}

/// Removes a table that the manifest on disk no longer names.
pub(crate) fn remove_table(storage: &dyn Storage, directory: &Path, table: TableId) -> Result<()> {
    let path = table.path(directory);
    match storage.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

fn sync_names(storage: &dyn Storage, directory: &Path, sabotages: Sabotages) -> Result<()> {
    if sabotages.breaks(Sabotage::SkipDirectorySync) {
        return Ok(());
    }
    storage.sync_dir(directory).map_err(CheckpointError::io("sync", directory))
}

/// Writes a new file, durably, in the place of one that was left behind.
fn write_new(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CheckpointError::io("remove", path)(error));
        }
        _ => {}
    }
    let file = storage.open(path, Access::Create).map_err(CheckpointError::io("create", path))?;
    write_all(&*file, path, bytes, 0)?;
    file.sync_all().map_err(CheckpointError::io("sync", path))
}

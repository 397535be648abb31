//! Finding the segments of a directory.
//!
//! A file with a segment's name and a bad header is damage, because a file gets that name only
//! with a good one and loses it first. Before what is needed it is junk. The same goes for the
//! link of a segment that got its name with one: without it, what follows would pass for a spare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::id::{DatabaseId, Lsn, SegmentId};
use crate::storage::{Access, File};
use crate::wal::disk::{Disk, read_full};
use crate::wal::error::{Flaw, WalError};
use crate::wal::options::Scope;
use crate::wal::reader::read_link;
use crate::wal::segment::{Header, HeaderError, RECORDS, Segment, is_temporary, parse_name};

/// A segment with a good header, and where its link points if it has one.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segment: Segment,
    pub(super) link: Option<Lsn>,
}

/// What a directory has of the log.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) found: BTreeMap<SegmentId, Found>,
    /// Files with a segment's name and a bad header.
    pub(super) junk: Vec<PathBuf>,
    /// Files that were being made.
    pub(super) temporary: Vec<PathBuf>,
    /// The highest number in a name or a header.
    pub(super) highest: Option<SegmentId>,
    /// What is wrong with files that may be needed.
    pub(super) damage: Vec<WalError>,
}

/// Opens every segment and reads its header and its link. Where damage is tolerated, a file that
/// cannot be opened or is of somebody else is damage.
pub(super) fn find(disk: &Disk, scope: &Scope, access: Access) -> Result<Files, WalError> {
    let mut files = Files::default();
    for name in disk.list()? {
        let path = disk.path(&name);
        if is_temporary(&name) {
            files.temporary.push(path);
            continue;
        }
        let Some(id) = parse_name(&name) else { continue };
        files.highest = files.highest.max(Some(id));
        let (flaw, offset) = match look(disk, &path, (id, scope.database), access) {
            Ok(Ok(found)) => {
                // Where reading begins behind the link, nobody asks for it.
                if found.has_its_link() || id == scope.needed.segment() {
                    files.found.insert(id, found);
                    continue;
                }
                (Flaw::Link, u64::from(RECORDS))
            }
            Ok(Err(flaw)) => (flaw, 0),
            Err(error) if scope.tolerates_damage => {
                files.damage.push(error);
                files.junk.push(path);
                continue;
            }
            Err(error) => return Err(error),
        };
        if id >= scope.needed.segment() {
            let (path, durable) = (path.clone(), scope.needed);
            files.damage.push(WalError::Corruption { path, offset, flaw, durable });
        }
        files.junk.push(path);
    }
    Ok(files)
}

/// Opens one segment, or says what is wrong with its header.
fn look(
    disk: &Disk,
    path: &Path,
    (segment, database): (SegmentId, DatabaseId),
    access: Access,
) -> Result<Result<Found, Flaw>, WalError> {
    let file = disk.open(path, access)?;
    let header = match inspect(&*file, path, segment, database)? {
        Ok(header) => header,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let segment = Segment::new(header, path.to_owned(), file);
    let link = read_link(&segment)?;
    Ok(Ok(Found { segment, link }))
}

impl Found {
    /// A segment that got its link before its name has one, or is damaged.
    fn has_its_link(&self) -> bool {
        self.link.is_some() || !self.segment.is_linked()
    }
}

/// A segment as it describes itself, for whoever does not know to which database it belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) database: DatabaseId,
    /// Where its records begin.
    pub(crate) records: Lsn,
    /// The end of the log before it; none if no record was written to it yet.
    pub(crate) link: Option<Lsn>,
}

/// The segments of a directory that can be read, oldest first.
pub(super) fn sight(disk: &Disk) -> Result<Vec<Sighting>, WalError> {
    let mut seen = Vec::new();
    for name in disk.list()? {
        let path = disk.path(&name);
        let Some(id) = parse_name(&name) else { continue };
        let Some(database) = database_of(disk, &path)? else { continue };
        if let Ok(Found { segment, link }) = look(disk, &path, (id, database), Access::Read)? {
            seen.push(Sighting { database, records: segment.at(RECORDS), link });
        }
    }
    Ok(seen)
}

/// To which database a segment belongs, if it has a good header.
fn database_of(disk: &Disk, path: &Path) -> Result<Option<DatabaseId>, WalError> {
    let Ok(file) = disk.open(path, Access::Read) else { return Ok(None) };
    let mut bytes = [0; 64];
    let read = read_full(&*file, path, &mut bytes, 0)?;
    let header = Header::decode(bytes.get(..read).unwrap_or_default());
    Ok(header.ok().map(|header| header.database))
}

/// The header of a file with the name of `segment`, or what is wrong with it.
fn inspect(
    file: &dyn File,
    path: &Path,
    segment: SegmentId,
    database: DatabaseId,
) -> Result<Result<Header, Flaw>, WalError> {
    let mut bytes = [0; 64];
    let read = read_full(file, path, &mut bytes, 0)?;
    let header = match Header::decode(bytes.get(..read).unwrap_or_default()) {
        Ok(header) => header,
        Err(HeaderError::Flaw(flaw)) => return Ok(Err(flaw)),
        Err(HeaderError::Version(found)) => {
            return Err(WalError::Version { path: path.to_owned(), found, known: Header::VERSION });
        }
    };
    if header.database != database {
        return Err(WalError::Foreign { path: path.to_owned() });
    }
    let length = file.len().map_err(|source| WalError::io("measure", path, source))?;
    Ok(if header.segment != segment {
        Err(Flaw::Name)
    } else if length < u64::from(header.size) {
        Err(Flaw::Short)
    } else {
        Ok(header)
    })
}

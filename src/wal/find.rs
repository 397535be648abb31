//! Finding the segments of a directory.
//!
//! A file with a segment's name and a bad header is damage, because a file gets that name only
//! with a good one and loses it first. Before what is needed it is junk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::id::{DatabaseId, Lsn, SegmentId};
use crate::storage::{Access, File};
use crate::wal::disk::{Disk, read_full};
use crate::wal::error::{Flaw, WalError};
use crate::wal::reader::read_link;
use crate::wal::segment::{Header, HeaderError, Segment, is_temporary, parse_name};

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
    /// The first bad header of a segment that is needed.
    pub(super) damage: Option<WalError>,
}

/// Opens every segment and reads its header and its link.
pub(super) fn find(
    disk: &Disk,
    database: DatabaseId,
    needed: Lsn,
    access: Access,
) -> Result<Files, WalError> {
    let mut files = Files::default();
    for name in disk.list()? {
        let path = disk.path(&name);
        if is_temporary(&name) {
            files.temporary.push(path);
            continue;
        }
        let Some(id) = parse_name(&name) else { continue };
        files.highest = files.highest.max(Some(id));
        let file = disk.open(&path, access)?;
        match inspect(&*file, &path, id, database)? {
            Ok(header) => {
                let segment = Segment::new(header, path, file);
                let link = read_link(&segment)?;
                files.found.insert(id, Found { segment, link });
            }
            Err(flaw) => {
                if id >= needed.segment() && files.damage.is_none() {
                    let path = path.clone();
                    files.damage =
                        Some(WalError::Corruption { path, offset: 0, flaw, durable: needed });
                }
                files.junk.push(path);
            }
        }
    }
    Ok(files)
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

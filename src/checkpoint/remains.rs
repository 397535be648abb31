//! Reads a table of which parts may be damaged, for whoever has nothing better.
//!
//! ```text
//!   header │ block │ ▒▒▒▒▒ │ block │ ... │ index │ footer
//!            entries  gap    entries          with an index, every block that is whole
//!            entries  gap?   ─ ─ ►            without, one after the other by their own word
//! ```
//!
//! 1. Only entries of blocks whose checksums match are passed on. The checksums begin from the
//!    table's origin, so nothing of another table is taken for this one's.
//! 2. Entries come in the order in which they were written.

use std::path::Path;

use super::block::{Block, Entry, length_of};
use super::directory::{TableId, read_exact};
use super::error::{CheckpointError, Result};
use super::format::{Footer, HEADER_LENGTH, Origin, TAIL_LENGTH, TableKind, decode_header};
use super::table::{Place, Table};
use crate::storage::{Access, File, Storage};

/// Blocks are read so far ahead.
const READ: u64 = 1 << 20;

/// A part of a table that is lost.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) place: Place,
    pub(crate) why: CheckpointError,
}

/// Passes on the entries of a table that can be opened, and answers what is missing.
pub(crate) fn read_blocks(
    table: &Table,
    each: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<Vec<Gap>> {
    let (mut gaps, mut buffer) = (Vec::new(), Vec::new());
    for at in 0..table.blocks() {
        match table.read_block(at, &mut buffer) {
            Ok(block) => block.entries().try_for_each(&mut *each)?,
            Err(why) => gaps.push(Gap { place: table.place(at), why }),
        }
    }
    Ok(gaps)
}

/// What a table says it is, by its header or, if that is damaged, by its footer.
pub(crate) fn identify(
    storage: &dyn Storage,
    directory: &Path,
    table: TableId,
) -> Option<(Origin, TableKind)> {
    let path = table.path(directory);
    let file = storage.open(&path, Access::Read).ok()?;
    let length = file.len().ok()?;
    let said = by_header(&*file, &path).or_else(|| by_footer(&*file, &path, length))?;
    Some(said).filter(|(origin, _)| origin.table == table)
}

fn by_header(file: &dyn File, path: &Path) -> Option<(Origin, TableKind)> {
    let mut header = [0; HEADER_LENGTH];
    read_exact(file, path, &mut header, 0).ok()?;
    decode_header(path, &header).ok()
}

fn by_footer(file: &dyn File, path: &Path, length: u64) -> Option<(Origin, TableKind)> {
    let mut tail = [0; TAIL_LENGTH];
    read_exact(file, path, &mut tail, length.checked_sub(TAIL_LENGTH as u64)?).ok()?;
    let mut bytes = vec![0; Footer::length(path, tail, length).ok()?];
    let start = length - bytes.len() as u64;
    read_exact(file, path, &mut bytes, start).ok()?;
    let (footer, _) = Footer::decode(path, &bytes, length).ok()?;
    Some((footer.origin, footer.kind))
}

/// Passes on the entries of a table that cannot be opened, block by block from its beginning;
/// steps over a block that is damaged if another one follows it. Answers what is missing: of the
/// last gap nobody knows whether it held entries. Of a file that cannot even be opened nothing is
/// answered; who tried before knows why. An error is one of `each`.
pub(crate) fn walk_blocks(
    storage: &dyn Storage,
    directory: &Path,
    (origin, kind): (Origin, TableKind),
    each: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<Vec<Gap>> {
    let path = origin.table.path(directory);
    let file = storage.open(&path, Access::Read);
    let Ok((file, end)) = file.and_then(|file| file.len().map(|end| (file, end))) else {
        return Ok(Vec::new());
    };
    let walk = Walk { file, path: &path, end, kind, seed: origin.seed() };
    let (mut gaps, mut buffer) = (Vec::new(), Vec::new());
    let mut offset = HEADER_LENGTH as u64;
    while offset < end {
        let (why, length) = match walk.block(offset, &mut buffer) {
            Ok((block, length)) => {
                block.entries().try_for_each(&mut *each)?;
                offset = offset.saturating_add(length as u64);
                continue;
            }
            Err((why, length)) => (why, length),
        };
        let next = length.and_then(|length| offset.checked_add(length as u64));
        let next = next.filter(|&next| walk.block(next, &mut buffer).is_ok()).unwrap_or(end);
        let place = Place { offset, length: next - offset, entries: 0 };
        gaps.push(Gap { place, why });
        offset = next;
    }
    Ok(gaps)
}

struct Walk<'a> {
    file: Box<dyn File>,
    path: &'a Path,
    end: u64,
    kind: TableKind,
    seed: u32,
}

impl Walk<'_> {
    /// The block at a place and its length; or what is wrong with it, and the length it claims.
    fn block<'b>(
        &self,
        offset: u64,
        buffer: &'b mut Vec<u8>,
    ) -> std::result::Result<(Block<'b>, usize), (CheckpointError, Option<usize>)> {
        let rest = self.end.saturating_sub(offset);
        self.read(offset, rest.min(READ), buffer).map_err(|error| (error, None))?;
        let length = length_of(buffer);
        let claimed = length.filter(|&length| length as u64 <= rest);
        if let Some(longer) = claimed.filter(|&length| length > buffer.len()) {
            self.read(offset, longer as u64, buffer).map_err(|error| (error, claimed))?;
        }
        let block = Block::read_alone(self.path, buffer, offset, self.kind, self.seed);
        block.map_err(|error| (error, claimed))
    }

    fn read(&self, offset: u64, length: u64, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.clear();
        buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        read_exact(&*self.file, self.path, buffer, offset)
    }
}

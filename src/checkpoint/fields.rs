//! The fields of a file, one after the other: out of bytes, with the place of what is wrong, and
//! into bytes.

use std::path::Path;

use super::error::{CheckpointError, Result};

/// Reads fields from a part of a file.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a Path,
    /// Where in the file the rest begins.
    offset: u64,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `bytes` stand in the file at `offset`.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8], offset: u64) -> Self {
        Self { path, offset, rest: bytes }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The error to answer with if what stands before here is wrong.
    pub(super) fn wrong(&self, what: &'static str) -> CheckpointError {
        self.corruption_at(self.offset, what)
    }

    /// The error to answer with if what begins at `offset` is wrong.
    pub(super) fn corruption_at(&self, offset: u64, what: &'static str) -> CheckpointError {
        CheckpointError::corruption(self.path, offset, what)
    }

    /// Reads the version of a format, which has to be the one that is supported.
    pub(super) fn version(&mut self, supported: u16) -> Result<()> {
        let found = self.u16()?;
        if found == supported {
            return Ok(());
        }
        Err(CheckpointError::Version { path: self.path.to_owned(), found, supported })
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let cut = self.rest.split_at_checked(length);
        let (bytes, rest) = cut.ok_or_else(|| self.wrong("the fields end here"))?;
        self.rest = rest;
        self.offset += length as u64;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let cut = self.rest.split_first_chunk();
        let (&array, rest) = cut.ok_or_else(|| self.wrong("the fields end here"))?;
        self.rest = rest;
        self.offset += N as u64;
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A length of 32 bits, and so many bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        self.bytes(length)
    }
}

/// A length as the files have it. Whoever writes has seen to it that it fits.
pub(super) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("lengths are bounded before they are written")
}

/// Appends what [`Fields::sized`] reads.
pub(super) fn put_sized(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(length_u32(bytes.len()).to_le_bytes());
    to.extend_from_slice(bytes);
}

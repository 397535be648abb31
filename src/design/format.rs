//! The files of a database, byte by byte where that is described, and what may ever change.
//!
//! # A directory
//!
//! ```text
//! LOCK                    locked while a process has the database; says which one; never removed
//! MANIFEST                what the database consists of; replaced as a whole
//! wal-0000001f.log        segments of the log, by rising number (hexadecimal)
//! tab-00000000000003a9.tab   tables of checkpoints, by rising number (hexadecimal)
//! *.tmp                   files in the making; garbage after a crash, removed at the next opening
//! ```
//!
//! All integers in these files are little-endian, and all checksums are CRC-32 (IEEE). Integers in
//! encoded keys and values are another matter: big-endian, so that bytes sort as numbers do.
//!
//! | file | begins with | described in |
//! |---|---|---|
//! | manifest | `93 50 53 4d 41 4e 0d 0a`, version u16 | `src/checkpoint/manifest.rs` |
//! | table | `93 50 53 54 41 42 0d 0a`, version u16 | `src/checkpoint/format.rs`, `block.rs` |
//! | segment | `89 50 41 4c 57 0d 0a 1a`, version u16 | `src/wal/segment.rs` |
//! | record of a segment | has its segment's version | `src/wal/record.rs` |
//! | payload of a commit | has its segment's version | `src/mvcc/ops.rs` |
//! | key, value | has none; its type has a name | `src/codec/` |
//!
//! Each magic has a byte above `7f` and a line end of two bytes, so a copy that was made as text is
//! told at once. Each header ends in a checksum, and names the database (a random number of 128
//! bits) and the file's own number: a file of another database, or under another name, is told
//! apart although it is sound.
//!
//! # Positions
//!
//! A position in the log (an LSN) is a segment's number in the upper 32 bits and an offset in its
//! file in the lower. Positions only rise, and no number is used twice, so a record that an earlier
//! life of a recycled file left behind never stands where it says.
//!
//! # What may change
//!
//! 1. **In every version** magic, version and the checksum of a header stay where they are. So a
//!    release tells another version from damage, and says so:
//!    [`WalError::Version`](crate::WalError::Version),
//!    [`CheckpointError::Version`](crate::CheckpointError::Version). The file is left as it is.
//! 2. **The version of a file kind rises** with every change that an older release would misread:
//!    another field, another meaning, another checksum, another kind of record. There are no
//!    compatible additions; flags and reserved bytes that this release does not know are refused.
//! 3. **A release reads every version from 1 on**, and writes the newest. Old tables and segments
//!    are read as they are and replaced in the course of checkpoints; the manifest is the first to
//!    be replaced. From then on older releases refuse the database.
//! 4. **Nothing is converted in place.** A file is written once, in one version.
//! 5. **The encoding of a type never changes.** What a bucket holds is written down by the names
//!    of its types ([`Encode::type_identity`](crate::Encode::type_identity)); another encoding is
//!    another name.
//!
//! The number of all of them is 1 today. For each version there are stores in `tests/fixtures`,
//! closed and not closed, which `tests/format.rs` opens; from the release of the version on they
//! are never written again. The test tells how to add the next ones.

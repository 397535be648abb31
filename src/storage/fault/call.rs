//! What is asked of the simulated disk, call by call, and what is to go wrong.

use crate::sync::Arc;
use std::io;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`Storage::open`](crate::storage::Storage::open).
    Open,
    /// [`Storage::rename`](crate::storage::Storage::rename).
    Rename,
    /// [`Storage::remove`](crate::storage::Storage::remove).
    Remove,
    /// [`Storage::list`](crate::storage::Storage::list).
    List,
    /// [`Storage::create_dir`](crate::storage::Storage::create_dir).
    CreateDir,
    /// [`Storage::sync_dir`](crate::storage::Storage::sync_dir).
    SyncDir,
    /// [`Storage::lock`](crate::storage::Storage::lock).
    Lock,
    /// [`Storage::lock_shared`](crate::storage::Storage::lock_shared).
    LockShared,
    /// [`File::len`](crate::storage::File::len).
    Len,
    /// [`File::read_at`](crate::storage::File::read_at).
    Read,
    /// [`File::write_at`](crate::storage::File::write_at).
    Write,
    /// [`File::allocate`](crate::storage::File::allocate).
    Allocate,
    /// [`File::sync_data`](crate::storage::File::sync_data).
    SyncData,
    /// [`File::sync_all`](crate::storage::File::sync_all).
    SyncAll,
    /// [`File::write_back`](crate::storage::File::write_back).
    WriteBack,
    /// [`File::map`](crate::storage::File::map).
    Map,
    /// [`Map::store`](crate::storage::Map::store).
    Store,
}

impl Op {
    /// Whether a power cut after the call may leave something else than one before it.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::List | Self::LockShared | Self::Len | Self::Read | Self::Map)
    }

    /// Whether it asks for durability.
    #[must_use]
    pub fn is_sync(self) -> bool {
        matches!(self, Self::SyncDir | Self::SyncData | Self::SyncAll)
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Calls are numbered from 1.
    pub number: u64,
    /// What was asked.
    pub op: Op,
    /// Of which file or directory. A file keeps the name it was opened by.
    pub path: Arc<str>,
    /// Where, if the call names a place.
    pub offset: u64,
    /// How many bytes, if the call says.
    pub length: u64,
}

/// When an observer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of the call has happened.
    Before,
    /// The call is a sync of a file: what it sends is on its way, and other calls go on.
    During,
}

/// What goes wrong at one call. A fault that does not fit the call does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. A write may have happened up to some byte, a rename or removal may
    /// have happened all the same, and of what a sync should have made durable a part is durable,
    /// a part is lost although a later sync will say that all is well, and a part is still
    /// pending. Names are not lost: a file system that cannot write its own structures stops
    /// altogether, and does not go on showing a name that it has given up.
    Io,
    /// The device is full: nothing happened, but an allocation may be done in part. A sync fails
    /// as with [`Io`](Self::Io).
    NoSpace,
    /// A signal came first: nothing happened.
    Interrupted,
    /// A read or write of fewer bytes than asked, but one at least.
    Short,
    /// A sync that says it is done and did nothing.
    Lie,
    /// Before the call the system tries to write back what is dirty and fails. Every file that is
    /// open is told once, at its next sync.
    WriteBack,
    /// The power goes before the call: it and all later ones fail, and nothing changes any more.
    PowerOff,
}

impl Fault {
    /// The error that a call answers.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "simulated full device"),
            Self::Interrupted => io::ErrorKind::Interrupted.into(),
            Self::PowerOff => io::Error::other("simulated power cut"),
            Self::Io | Self::Short | Self::Lie | Self::WriteBack => {
                io::Error::other("simulated input/output error")
            }
        }
    }

    /// The error if the whole call fails by this.
    pub(super) fn refusal(fault: Option<Self>) -> io::Result<()> {
        match fault {
            Some(fault @ (Self::Io | Self::NoSpace | Self::Interrupted)) => Err(fault.error()),
            _ => Ok(()),
        }
    }
}

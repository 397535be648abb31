//! What only the system can do, one function each, per system.

pub(super) use imp::{
    allocate, read_at, sync_dir, try_lock, try_lock_shared, write_at, write_back,
};

#[cfg(unix)]
mod imp {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    pub(in crate::storage) fn read_at(
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    pub(in crate::storage) fn write_at(
        file: &File,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    pub(in crate::storage) fn sync_dir(directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// False if the lock is held elsewhere.
    pub(in crate::storage) fn try_lock(file: &File) -> io::Result<bool> {
        try_flock(file, FlockOperation::NonBlockingLockExclusive)
    }

    /// False if the lock is held for one alone.
    pub(in crate::storage) fn try_lock_shared(file: &File) -> io::Result<bool> {
        try_flock(file, FlockOperation::NonBlockingLockShared)
    }

    fn try_flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
        match flock(file, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reserves blocks up to `length`, where the file system can. The length of the file stays, so
    /// that it tells how far the zeros have come.
    #[cfg(target_os = "linux")]
    pub(in crate::storage) fn allocate(file: &File, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
            // The zeros that the caller writes get their blocks one by one then.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as where it can fail")]
    pub(in crate::storage) fn allocate(_file: &File, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Says that the range is not needed in memory: the system begins to write it, and waits for
    /// nothing.
    #[cfg(target_os = "linux")]
    pub(in crate::storage) fn write_back(file: &File, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{Advice, fadvise};
        // No length would mean up to the end of the file.
        let Some(length) = std::num::NonZeroU64::new(length) else { return Ok(()) };
        Ok(fadvise(file, offset, Some(length), Advice::DontNeed)?)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as where it can fail")]
    pub(in crate::storage) fn write_back(_file: &File, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(unix))]
mod imp {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    fn unsupported<T>() -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in crate::storage) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        unsupported()
    }

    pub(in crate::storage) fn write_at(_: &File, _: &[u8], _: u64) -> io::Result<usize> {
        unsupported()
    }

    pub(in crate::storage) fn sync_dir(_: &Path) -> io::Result<()> {
        unsupported()
    }

    pub(in crate::storage) fn try_lock(_: &File) -> io::Result<bool> {
        unsupported()
    }

    pub(in crate::storage) fn try_lock_shared(_: &File) -> io::Result<bool> {
        unsupported()
    }

    pub(in crate::storage) fn allocate(_: &File, _: u64) -> io::Result<()> {
        unsupported()
    }

    pub(in crate::storage) fn write_back(_: &File, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }
}

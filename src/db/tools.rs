//! What can be done with the files of a database besides using it.

use std::path::Path;

use crate::db::store::{self, BackedUp, Salvaged, Verified};
use crate::db::{Database, Home, Options};
use crate::error::{Error, Result};

impl Database {
    /// Reads everything that the database has in its files, and checks it: every checksum, the
    /// order of the keys and their ranges, the catalog, the log. Tells of all that is wrong. A
    /// checkpoint that is due meanwhile waits; readers and writers go on.
    ///
    /// Where keys do not sort as their bytes do, their order is checked in buckets that are open.
    /// A database that lives in memory has no files, so nothing is wrong with them.
    ///
    /// ```
    /// use palisade::Database;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let db = Database::open(path)?;
    /// let visits = db.bucket::<String, u64>("visits")?;
    /// visits.insert("ada".into(), 1)?;
    /// db.checkpoint()?;
    /// visits.insert("bob".into(), 1)?;
    ///
    /// let verified = db.verify()?;
    /// assert!(verified.is_sound(), "{:?}", verified.problems);
    /// assert_eq!((verified.entries, verified.commits), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Log`] and [`Error::Checkpoint`] if the system refuses to read. What
    /// is damaged is no error but a [`Problem`](crate::Problem).
    pub fn verify(&self) -> Result<Verified> {
        match &self.shared.home {
            Home::Files(keeper) => keeper.store.verify(self.engine()),
            Home::ReadOnly(reading) => reading.verify(self.engine()),
            Home::Nowhere => Ok(Verified::default()),
        }
    }

    /// Copies the durable buckets into a directory, which has to be empty or not to exist: a
    /// database that can be opened like any other. It holds every commit that returned before the
    /// call, and of the others a part that follows on them in the order of commits.
    ///
    /// Readers and writers go on meanwhile; a checkpoint that is due waits, and a backup writes
    /// no faster than a checkpoint would
    /// ([`Options::checkpoint_bytes_per_second`]). Everything is checked as it is read, so damage
    /// is not copied. The copy is a database of its own from then on: files of one never fit the
    /// other. If it is interrupted it is no database, and opening it says that its manifest is
    /// missing.
    ///
    /// ```
    /// use palisade::Database;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, copy) = (folder.path().join("db"), folder.path().join("copy"));
    /// let db = Database::open(path)?;
    /// let visits = db.bucket::<String, u64>("visits")?;
    /// visits.insert("ada".into(), 1)?;
    /// db.backup(&copy)?;
    /// visits.insert("bob".into(), 1)?;
    ///
    /// let visits = Database::open(&copy)?.bucket::<String, u64>("visits")?;
    /// assert_eq!(visits.get("ada")?, Some(1));
    /// assert_eq!(visits.get("bob")?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if the directory has files in it, [`Error::InMemory`] if the database
    /// has none. [`Error::Log`] and [`Error::Checkpoint`] if the log has failed or something is
    /// damaged; and if something cannot be read or written.
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<BackedUp> {
        match &self.shared.home {
            Home::Files(keeper) => keeper.store.backup(directory.as_ref()),
            Home::ReadOnly(reading) => reading.backup(directory.as_ref()),
            Home::Nowhere => Err(Error::InMemory),
        }
    }
}

/// Databases that nobody has open.
impl Options {
    /// Reads everything that the database in a directory consists of, and checks it, as
    /// [`Database::verify`] does. Writes nothing.
    ///
    /// ```
    /// use palisade::{Database, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let db = Database::open(path)?;
    /// db.bucket::<String, u64>("visits")?.insert("ada".into(), 1)?;
    /// db.close()?;
    /// assert!(Options::new().verify(path)?.is_sound());
    ///
    /// std::fs::write(path.join("MANIFEST"), "scribble")?;
    /// let verified = Options::new().verify(path)?;
    /// assert!(verified.problems[0].path.ends_with("MANIFEST"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no database, [`Error::AlreadyOpen`] if someone has it open
    /// to write; and if the system refuses to read.
    pub fn verify(&self, directory: impl AsRef<Path>) -> Result<Verified> {
        store::verify(directory.as_ref(), &self.files)
    }

    /// Saves what can be read of the damaged database in `from` into a new one in `to`, which has
    /// to be empty or not to exist. `from` is only read. Says what was left out, file by file.
    ///
    /// Use it when opening is refused because of damage and there is no backup. The result opens
    /// like any other database, but nobody promises that what it holds was ever true at one
    /// moment: where a part of a table is lost, its entries are missing, and where the log is
    /// damaged, all commits behind that are. Parts that the device cannot read are damage too.
    /// Without the manifest the tables speak for themselves: what was deleted shortly before may
    /// come back, and the buckets whose names are lost get new ones.
    ///
    /// ```
    /// use palisade::{Database, Error, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, saved) = (folder.path().join("db"), folder.path().join("saved"));
    /// let db = Database::open(&path)?;
    /// db.bucket::<String, u64>("visits")?.insert("ada".into(), 1)?;
    /// db.close()?;
    /// std::fs::write(path.join("MANIFEST"), "scribble")?;
    /// assert!(matches!(Database::open(&path), Err(Error::Checkpoint(_))));
    ///
    /// let salvaged = Options::new().salvage(&path, &saved)?;
    /// assert!(salvaged.dropped[0].path.ends_with("MANIFEST"));
    /// let visits = Database::open(&saved)?.bucket::<String, u64>("visits")?;
    /// assert_eq!(visits.get("ada")?, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nothing in `from` is of a database, [`Error::AlreadyOpen`] if someone
    /// has it open to write, [`Error::NotEmpty`] if `to` has files in it. [`Error::Checkpoint`] and
    /// [`Error::Log`] if the files are sound and of another version of the format; and if
    /// something cannot be written.
    pub fn salvage(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvaged> {
        store::salvage(from.as_ref(), to.as_ref(), &self.files)
    }
}

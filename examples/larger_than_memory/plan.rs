//! What is to be done, what values look like, and what was acknowledged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use palisade::{Bucket, Database, Durability, Options};

use crate::Outcome;

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) store: PathBuf,
    pub(crate) entries: u64,
    pub(crate) value_bytes: usize,
    pub(crate) limit: Option<u64>,
    pub(crate) threads: u64,
    pub(crate) seconds: u64,
    /// Which part of the run this process is; none for the whole.
    pub(crate) part: Option<String>,
}

impl Plan {
    pub(crate) fn of_arguments() -> Outcome<Self> {
        let mut plan = Self {
            store: std::env::temp_dir().join(format!("palisade-{}", std::process::id())),
            entries: 1_000_000,
            value_bytes: 4096,
            limit: Some(512 << 20),
            threads: 4,
            seconds: 20,
            part: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} takes a value"));
            match name.as_str() {
                "--store" => plan.store = value()?.into(),
                "--entries" => plan.entries = value()?.parse()?,
                "--value-bytes" => plan.value_bytes = value()?.parse()?,
                "--limit-mib" => plan.limit = Some(value()?.parse::<u64>()? << 20),
                "--threads" => plan.threads = value()?.parse()?,
                "--seconds" => plan.seconds = value()?.parse()?,
                "--part" => plan.part = Some(value()?),
                _ => return Err(format!("{name} is no option of this example").into()),
            }
        }
        Ok(plan)
    }

    /// Where the files of this run are.
    fn folder(&self) -> PathBuf {
        self.store.join(if self.limit.is_some() { "limited" } else { "unlimited" })
    }

    pub(crate) fn open(&self) -> palisade::Result<(Database, Bucket<u64, Vec<u8>>)> {
        let mut options = Options::new().durability(Durability::Relaxed);
        if let Some(limit) = self.limit {
            options = options.memory_limit(limit);
        }
        let db = options.open(self.folder())?;
        let bucket = db.bucket("values")?;
        Ok((db, bucket))
    }

    /// Each thread's share of the keys.
    pub(crate) fn keys_of(&self, thread: u64) -> impl Iterator<Item = u64> {
        (0..self.entries).filter(move |key| key % self.threads == thread)
    }

    /// The value of a key after so many writes.
    pub(crate) fn value(&self, key: u64, version: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.value_bytes);
        bytes.extend(key.to_le_bytes());
        bytes.extend(version.to_le_bytes());
        let mut random = Random::new(key ^ u64::from(version) << 40);
        while bytes.len() < self.value_bytes {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes.truncate(self.value_bytes);
        bytes
    }

    /// The version that a value is of; an error if it is not what was written.
    pub(crate) fn check(&self, key: u64, bytes: &[u8]) -> Result<u32, String> {
        let version = bytes.get(8..12).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes);
        match version {
            Some(version) if bytes == self.value(key, version) => Ok(version),
            _ => Err(format!("the value of {key} is not what was written")),
        }
    }
}

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// What was acknowledged, by key: outlives the process.
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(plan: &Plan) -> std::io::Result<Self> {
        let path = plan.folder().with_extension("acknowledged");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(plan.entries * 4)?;
        Ok(Self(file))
    }

    pub(crate) fn acknowledge(&self, key: u64, version: u32) -> std::io::Result<()> {
        self.0.write_all_at(&version.to_le_bytes(), key * 4)
    }

    pub(crate) fn get(&self, key: u64) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, key * 4)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

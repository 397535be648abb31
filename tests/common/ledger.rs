//! Commits that number themselves, so that whatever is found tells whether it is the first n.
//!
//! ```text
//! commit n    count = n,  entry n = its bytes       one transaction, two buckets
//! ```

use palisade::{Bucket, Database, Result};

pub(crate) struct Ledger {
    db: Database,
    count: Bucket<u8, u64>,
    entries: Bucket<u64, Vec<u8>>,
}

impl Ledger {
    pub(crate) fn open(db: &Database) -> Result<Self> {
        Ok(Self { db: db.clone(), count: db.bucket("count")?, entries: db.bucket("entries")? })
    }

    /// One more commit, with so many bytes; its number.
    pub(crate) fn add(&self, bytes: usize) -> Result<u64> {
        self.db.write(|tx| {
            let number = tx.get(&self.count, &0)?.copied().unwrap_or(0) + 1;
            tx.insert(&self.count, 0, number)?;
            tx.insert(&self.entries, number, entry(number, bytes))?;
            Ok(number)
        })
    }

    /// Checks that what is there are the first n commits, each whole; answers n.
    pub(crate) fn check(&self) -> u64 {
        let snapshot = self.db.snapshot();
        let count = snapshot.get(&self.count, &0).expect("open").copied().unwrap_or(0);
        let mut expected = 1..=count;
        for (&number, bytes) in snapshot.iter(&self.entries).expect("open") {
            assert_eq!(Some(number), expected.next(), "a hole, or more than {count}");
            assert_eq!(*bytes, entry(number, bytes.len()), "entry {number} has other bytes");
        }
        assert_eq!(expected.next(), None, "not all up to {count}");
        count
    }
}

fn entry(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

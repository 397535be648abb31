//! Sequences of operations with several transactions open at once, against a model.
//!
//! The model of a transaction is a copy of the map as it was when the transaction began, changed by
//! its own writes: every read must agree with it. After each commit the database must equal the
//! model of what is committed, every snapshot must still show what it showed, and no two
//! transactions that overlapped may have written the same key. Under serializable isolation the
//! committed transactions must also have an order that explains what each of them read and that
//! agrees with real time.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use palisade::{Bucket, Database, Error, Isolation, Options, Snapshot, Transaction};

const SLOTS: usize = 4;
const HISTORY_MAX: usize = 64;

type Map = BTreeMap<u16, u32>;

/// One step; those of a transaction go to the slot that is chosen with them.
#[derive(Debug)]
enum Operation {
    Get(u16),
    Insert(u16, u32),
    Remove(u16),
    InsertIfAbsent(u16, u32),
    Range {
        from: u16,
        to: u16,
        backwards: bool,
    },
    RemoveRange(u16, u16),
    Savepoint,
    RollBackTo,
    Commit,
    RollBack,
    /// A bucket operation of its own, beside the open transactions.
    Direct(u16, u32),
    /// Many keys in one transaction, so that the index grows and shrinks.
    Fill(u16),
    Clear,
    TakeSnapshot,
    Vacuum(usize),
}

impl Operation {
    /// Four bytes are a step: what and where, two keys or a key and a value, and what else. Points
    /// are few, so that transactions meet; ranges reach further.
    fn decode([what, one, other, more]: [u8; 4]) -> (usize, Self) {
        let (key, value) = (u16::from(one % 16), u32::from(other));
        let from = u16::from(one % 32);
        let to = from + u16::from(other % 8) * u16::from(more % 32);
        let operation = match what % 16 {
            0 | 1 => Self::Get(key),
            2 | 3 => Self::Insert(key, value),
            4 => Self::Remove(key),
            5 => Self::InsertIfAbsent(key, value),
            6 | 7 => Self::Range { from, to, backwards: what % 2 == 0 },
            8 => Self::RemoveRange(from, to),
            9 => Self::Savepoint,
            10 => Self::RollBackTo,
            11 | 12 => Self::Commit,
            13 => Self::RollBack,
            14 => Self::Direct(key, value),
            _ => match more % 4 {
                0 => Self::Fill(u16::from(one)),
                1 => Self::Clear,
                2 => Self::TakeSnapshot,
                _ => Self::Vacuum(usize::from(other)),
            },
        };
        (usize::from(what >> 4) % SLOTS, operation)
    }
}

/// Keys that were read, both ends included.
type Reads = BTreeSet<(u16, u16)>;

/// What a transaction did, as far as the order of transactions is concerned.
struct Footprint {
    began: usize,
    ended: usize,
    reads: Reads,
    writes: BTreeSet<u16>,
}

impl Footprint {
    fn read_what(&self, writer: &Self) -> bool {
        self.reads.iter().any(|&(from, to)| writer.writes.range(from..=to).next().is_some())
    }

    /// Whether `self` must stand before `other` in every order. `self` and `other` read the state
    /// of their beginning, and their writes appear at their end.
    fn precedes(&self, other: &Self) -> bool {
        self.ended <= other.began || (other.ended > self.began && self.read_what(other))
    }
}

struct Open<'db> {
    tx: Transaction<'db>,
    base: Map,
    view: Map,
    written: BTreeSet<u16>,
    reads: Reads,
    savepoints: Vec<(Map, BTreeSet<u16>)>,
    began: usize,
}

impl Open<'_> {
    fn note_read(&mut self, from: u16, to: u16) {
        if from != to || !self.written.contains(&from) {
            self.reads.insert((from, to));
        }
    }

    fn set(&mut self, key: u16, value: Option<u32>) -> Option<u32> {
        self.note_read(key, key);
        self.written.insert(key);
        match value {
            Some(value) => self.view.insert(key, value),
            None => self.view.remove(&key),
        }
    }

    /// Carries out one step on the transaction and on its model. An error is a conflict.
    fn step(&mut self, bucket: &Bucket<u16, u32>, operation: &Operation) -> Result<(), Error> {
        match *operation {
            Operation::Get(key) => {
                self.note_read(key, key);
                assert_eq!(self.tx.get(bucket, &key)?, self.view.get(&key));
            }
            Operation::Insert(key, value) => {
                let previous = self.tx.insert(bucket, key, value)?.copied();
                assert_eq!(previous, self.set(key, Some(value)));
            }
            Operation::Remove(key) => {
                let previous = self.tx.remove(bucket, &key)?.copied();
                let present = self.view.contains_key(&key);
                let expected = if present { self.set(key, None) } else { None };
                self.note_read(key, key);
                assert_eq!(previous, expected);
            }
            Operation::InsertIfAbsent(key, value) => {
                let inserted = self.tx.insert_if_absent(bucket, key, value)?;
                self.note_read(key, key);
                assert_eq!(inserted, !self.view.contains_key(&key));
                if inserted {
                    self.set(key, Some(value));
                }
            }
            Operation::Range { from, to, backwards } => self.range(bucket, from, to, backwards)?,
            Operation::RemoveRange(from, to) => {
                let removed = self.tx.remove_range(bucket, from..=to)?;
                self.note_read(from, to);
                let keys: Vec<u16> = self.view.range(from..=to).map(|(&key, _)| key).collect();
                assert_eq!(removed, keys.len());
                for key in keys {
                    self.set(key, None);
                }
            }
            Operation::Savepoint => {
                self.tx.savepoint("here");
                self.savepoints.push((self.view.clone(), self.written.clone()));
            }
            Operation::RollBackTo => {
                let known = self.tx.rollback_to("here");
                assert_eq!(known.is_ok(), !self.savepoints.is_empty());
                if let Some((view, written)) = self.savepoints.last().cloned() {
                    (self.view, self.written) = (view, written);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn range(
        &mut self,
        bucket: &Bucket<u16, u32>,
        from: u16,
        to: u16,
        backwards: bool,
    ) -> Result<(), Error> {
        self.note_read(from, to);
        let found = self.tx.range(bucket, from..=to)?;
        let expected = self.view.range(from..=to);
        if backwards {
            assert!(found.rev().eq(expected.rev()));
        } else {
            assert!(found.eq(expected));
        }
        Ok(())
    }
}

/// The database beside the model of it.
struct World<'db> {
    db: &'db Database,
    bucket: Bucket<u16, u32>,
    serializable: bool,
    committed: Map,
    /// Counts commits; a transaction began and ended at one of its values.
    time: usize,
    /// When each key was last written.
    written_at: BTreeMap<u16, usize>,
    history: Vec<Footprint>,
    snapshots: Vec<(Snapshot, Map)>,
}

impl<'db> World<'db> {
    fn begin(&self) -> Open<'db> {
        Open {
            tx: self.db.begin(),
            base: self.committed.clone(),
            view: self.committed.clone(),
            written: BTreeSet::new(),
            reads: Reads::new(),
            savepoints: Vec::new(),
            began: self.time,
        }
    }

    fn commit(&mut self, open: Open<'db>) {
        let Open { tx, base, view, mut written, reads, began, .. } = open;
        // A key that was made and removed again leaves nothing to write.
        written.retain(|key| base.contains_key(key) || view.contains_key(key));
        match tx.commit() {
            Ok(_) => {
                for key in &written {
                    let last = self.written_at.get(key).copied().unwrap_or(0);
                    assert!(last <= began, "{key} was overwritten unseen");
                }
                self.time += 1;
                for &key in &written {
                    self.written_at.insert(key, self.time);
                    match view.get(&key) {
                        Some(&value) => self.committed.insert(key, value),
                        None => self.committed.remove(&key),
                    };
                }
                self.remember(Footprint { began, ended: self.time, reads, writes: written });
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        self.check();
    }

    /// Carries out something that cannot conflict, as a transaction of its own.
    fn alone(&mut self, change: impl FnOnce(&Bucket<u16, u32>, &mut Map) -> Reads) {
        let before = self.committed.clone();
        let reads = change(&self.bucket, &mut self.committed);
        let keys = before.keys().chain(self.committed.keys());
        let differs = |key: &&u16| reads.iter().any(|&(from, to)| (from..=to).contains(*key));
        let writes: BTreeSet<u16> = keys.filter(differs).copied().collect();
        let began = self.time;
        self.time += 1;
        for &key in &writes {
            self.written_at.insert(key, self.time);
        }
        self.remember(Footprint { began, ended: self.time, reads, writes });
        self.check();
    }

    fn remember(&mut self, footprint: Footprint) {
        if !self.serializable || self.history.len() == HISTORY_MAX {
            return;
        }
        self.history.push(footprint);
        // Takes away transactions that nothing left must precede; what stays is a circle.
        let mut left: Vec<&Footprint> = self.history.iter().collect();
        while let Some(first) = left.iter().position(|candidate| {
            left.iter().all(|other| std::ptr::eq(*candidate, *other) || !other.precedes(candidate))
        }) {
            left.swap_remove(first);
        }
        assert!(left.is_empty(), "{} transactions have no order", left.len());
    }

    fn check(&self) {
        let now = self.db.snapshot();
        assert!(now.iter(&self.bucket).expect("it exists").eq(&self.committed));
        for (snapshot, map) in &self.snapshots {
            assert!(snapshot.iter(&self.bucket).expect("it exists").rev().eq(map.iter().rev()));
        }
    }

    fn outside(&mut self, operation: &Operation) {
        match *operation {
            Operation::Direct(key, value) => self.alone(|bucket, map| {
                let previous = bucket.insert(key, value).expect("nothing runs beside it");
                assert_eq!(previous, map.insert(key, value));
                Reads::from([(key, key)])
            }),
            Operation::Fill(from) => {
                let keys = from..from + 100;
                let db = self.db;
                self.alone(|bucket, map| {
                    let done = db.write(|tx| {
                        keys.clone().try_for_each(|key| tx.insert(bucket, key, 7).map(drop))
                    });
                    done.expect("nothing runs beside it");
                    map.extend(keys.clone().map(|key| (key, 7)));
                    Reads::from([(keys.start, keys.end - 1)])
                });
            }
            Operation::Clear => self.alone(|bucket, map| {
                bucket.clear().expect("nothing runs beside it");
                map.clear();
                Reads::from([(0, u16::MAX)])
            }),
            Operation::TakeSnapshot => {
                if self.snapshots.len() == SLOTS {
                    self.snapshots.remove(0);
                }
                self.snapshots.push((self.db.snapshot(), self.committed.clone()));
            }
            Operation::Vacuum(budget) => {
                self.db.vacuum(budget);
                self.check();
            }
            _ => {}
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, steps)) = input.split_first() else { return };
    let (serializable, rescue) = (flags % 4 != 0, flags % 8 != 1);
    let isolation = if serializable { Isolation::Serializable } else { Isolation::Snapshot };
    let db = Options::new().isolation(isolation).rescue(rescue).in_memory();
    let bucket = db.bucket("numbers").expect("the database is empty");
    let mut world = World {
        db: &db,
        bucket,
        serializable,
        committed: Map::new(),
        time: 0,
        written_at: BTreeMap::new(),
        history: Vec::new(),
        snapshots: Vec::new(),
    };
    let mut slots: [Option<Open<'_>>; SLOTS] = [const { None }; SLOTS];
    for step in steps.as_chunks().0 {
        let (number, operation) = Operation::decode(*step);
        let slot = &mut slots[number];
        match &operation {
            Operation::Direct(..)
            | Operation::Fill(_)
            | Operation::Clear
            | Operation::TakeSnapshot
            | Operation::Vacuum(_) => world.outside(&operation),
            Operation::Commit => {
                if let Some(open) = slot.take() {
                    world.commit(open);
                }
            }
            Operation::RollBack => *slot = None,
            _ => {
                let mut open = slot.take().unwrap_or_else(|| world.begin());
                match open.step(&world.bucket, &operation) {
                    Ok(()) => *slot = Some(open),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        }
    }
    drop(slots);
    world.check();
});

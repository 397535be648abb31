//! Keys and values that lie or panic do no harm beyond the operation they do it in.
//!
//! Method: types whose `Ord`, `Clone` or `Drop` counts down to a panic, whose `Ord` answers at
//! random, and that count how many of them are alive. The countdown is moved through every call
//! that one operation makes. After each panic the database must answer as before the operation
//! or as after it, nothing between, and in the end every value is dropped exactly once.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::SeqCst};
use std::thread;

use palisade::{Bucket, Database, Error, Transaction};

thread_local! {
    /// Calls of user code until one panics; negative is never.
    static FUSE: Cell<i64> = const { Cell::new(-1) };
}

/// What the countdown stands at, from one call of user code to the next.
fn burn() {
    let left = FUSE.get();
    if left >= 0 {
        FUSE.set(left - 1);
    }
    assert!(left != 0 || thread::panicking(), "the fuse has burnt down");
}

/// Runs `work` with the fuse at `calls`; `true` if it burnt down.
fn with_fuse(calls: i64, work: impl FnOnce()) -> bool {
    FUSE.set(calls);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    FUSE.set(-1);
    match outcome {
        Ok(()) => false,
        Err(panic) if panic.downcast_ref::<&str>() == Some(&"the fuse has burnt down") => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// Silences the message of panics that the tests make on purpose.
fn quiet() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"the fuse has burnt down") {
            before(info);
        }
    }));
}

/// How many are alive, and whether one was dropped twice.
#[derive(Debug, Default)]
struct Census {
    alive: AtomicIsize,
    twice: AtomicBool,
}

/// Panics in `Ord` and `Clone` when the fuse has burnt down, in `Drop` too if it is `fragile`.
#[derive(Debug)]
struct Touchy {
    number: u64,
    /// On the heap, so that tools see a second drop.
    dropped: Box<AtomicBool>,
    census: Arc<Census>,
    fragile: bool,
}

impl Touchy {
    fn new(number: u64, census: &Arc<Census>) -> Self {
        Self::made(number, census, false)
    }

    fn made(number: u64, census: &Arc<Census>, fragile: bool) -> Self {
        census.alive.fetch_add(1, SeqCst);
        let dropped = Box::new(AtomicBool::new(false));
        Self { number, dropped, census: Arc::clone(census), fragile }
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        burn();
        Self::made(self.number, &self.census, self.fragile)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        self.census.alive.fetch_sub(1, SeqCst);
        if self.dropped.swap(true, SeqCst) {
            self.census.twice.store(true, SeqCst);
        }
        if self.fragile {
            burn();
        }
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Touchy {}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> Ordering {
        burn();
        self.number.cmp(&other.number)
    }
}

type Table = Bucket<Touchy, Touchy>;

fn contents(db: &Database, table: &Table) -> BTreeMap<u64, u64> {
    db.read(|snap| {
        let entries = snap.iter(table).unwrap();
        entries.map(|(key, value)| (key.number, value.number)).collect()
    })
}

fn filled(census: &Arc<Census>, entries: u64) -> (Database, Table) {
    let db = Database::in_memory();
    let table: Table = db.volatile_bucket("table").unwrap();
    db.write(|tx| {
        for n in 0..entries {
            tx.insert(&table, Touchy::new(n * 2, census), Touchy::new(n, census))?;
        }
        Ok(())
    })
    .unwrap();
    (db, table)
}

/// The model's side of an operation.
type Effect = fn(&mut BTreeMap<u64, u64>);

/// The operation inside a transaction.
type Run = fn(&Transaction<'_>, &Table, &Arc<Census>);

/// Operations, and what each does to a map.
fn operations() -> Vec<(&'static str, Run, Effect)> {
    [writes(), walks()].concat()
}

/// Operations on keys that they name.
fn writes() -> Vec<(&'static str, Run, Effect)> {
    vec![
        (
            "insert of new keys",
            |tx, table, census| {
                for n in [1, 7, 33, 101] {
                    tx.insert(table, Touchy::new(n, census), Touchy::new(n, census)).unwrap();
                }
            },
            |map| map.extend([1, 7, 33, 101].map(|n| (n, n))),
        ),
        (
            "insert over old keys",
            |tx, table, census| {
                for n in [2, 8, 34] {
                    tx.insert(table, Touchy::new(n, census), Touchy::new(500, census)).unwrap();
                }
            },
            |map| map.extend([2, 8, 34].map(|n| (n, 500))),
        ),
        (
            "removals",
            |tx, table, census| {
                for n in [2, 8, 35] {
                    tx.remove(table, &Touchy::new(n, census)).unwrap();
                }
            },
            |map| map.retain(|key, _| ![2, 8].contains(key)),
        ),
        (
            "a range removal",
            |tx, table, census| {
                let (lo, hi) = (Touchy::new(10, census), Touchy::new(20, census));
                tx.remove_range(table, lo..hi).unwrap();
            },
            |map| map.retain(|key, _| !(10..20).contains(key)),
        ),
        (
            "modify",
            |tx, table, census| {
                let key = Touchy::new(4, census);
                tx.modify(table, &key, |value| value.number += 1000).unwrap();
            },
            |map| *map.get_mut(&4).unwrap() += 1000,
        ),
    ]
}

/// Operations on what they find, and on several keys.
fn walks() -> Vec<(&'static str, Run, Effect)> {
    vec![
        (
            "reads",
            |tx, table, census| {
                tx.get(table, &Touchy::new(4, census)).unwrap();
                tx.get(table, &Touchy::new(5, census)).unwrap();
                let from = Touchy::new(3, census);
                assert!(tx.range(table, from..).unwrap().count() > 2);
                tx.range(table, ..Touchy::new(9, census)).unwrap().rev().for_each(drop);
            },
            |_| {},
        ),
        (
            "pops and an insert",
            |tx, table, census| {
                tx.pop_first(table).unwrap();
                tx.pop_last(table).unwrap();
                tx.insert(table, Touchy::new(3, census), Touchy::new(3, census)).unwrap();
            },
            |map| {
                map.pop_first();
                map.pop_last();
                map.insert(3, 3);
            },
        ),
        (
            "savepoints",
            |tx, table, census| {
                tx.insert(table, Touchy::new(5, census), Touchy::new(5, census)).unwrap();
                tx.savepoint("s");
                tx.insert(table, Touchy::new(9, census), Touchy::new(9, census)).unwrap();
                tx.remove(table, &Touchy::new(4, census)).unwrap();
                tx.rollback_to("s").unwrap();
            },
            |map| {
                map.insert(5, 5);
            },
        ),
    ]
}

#[test]
fn a_panic_in_ord_or_clone_leaves_all_or_nothing() {
    quiet();
    for (name, run, effect) in operations() {
        let census = Arc::new(Census::default());
        let mut calls: u32 = 0;
        loop {
            let stamp = u64::from(calls);
            let (db, table) = filled(&census, 60);
            let before = contents(&db, &table);
            let mut after = before.clone();
            effect(&mut after);
            let burnt = with_fuse(calls.into(), || {
                let tx = db.begin();
                run(&tx, &table, &census);
                // Someone to be compared with at the commit.
                let fuse = FUSE.replace(-1);
                table_put(&db, &table, Touchy::new(1001, &census), Touchy::new(1, &census));
                FUSE.set(fuse);
                tx.commit().unwrap();
            });
            let mut found = contents(&db, &table);
            found.remove(&1001);
            if burnt {
                assert!(found == before || found == after, "{name}: torn after {calls} calls");
            } else {
                assert_eq!(found, after, "{name}");
            }
            // The next one is as good as the first, on the same keys.
            table_put(&db, &table, Touchy::new(2, &census), Touchy::new(stamp, &census));
            found.insert(2, stamp);
            for _ in 0..2 {
                let mut again = contents(&db, &table);
                again.remove(&1001);
                assert_eq!(again, found, "{name}: wrong after {calls} calls and a write");
                db.vacuum(usize::MAX);
            }
            drop((db, table));
            assert_eq!(census.alive.load(SeqCst), 0, "{name}: leak after {calls} calls");
            if !burnt {
                break;
            }
            calls += 1 + calls / 24;
        }
        assert!(calls > 0, "{name} ran no user code");
        assert!(!census.twice.load(SeqCst), "{name}: dropped twice");
    }
}

#[test]
fn a_panic_in_drop_loses_nothing_else() {
    quiet();
    let census = Arc::new(Census::default());
    let fragile = |n| Touchy::made(n, &census, true);
    for calls in 0..40 {
        let db = Database::in_memory();
        let table: Table = db.volatile_bucket("table").unwrap();
        let mut burnt = false;
        for n in 0..40 {
            table_put(&db, &table, Touchy::new(n % 10, &census), fragile(n));
            if n % 3 == 0 {
                burnt |= with_fuse(calls, || {
                    db.vacuum(usize::MAX);
                });
            }
            if n % 7 == 0 {
                burnt |= with_fuse(calls, || {
                    let tx = db.begin();
                    tx.remove(&table, &Touchy::new(n % 10, &census)).unwrap();
                    tx.commit().unwrap();
                });
            }
            let found = contents(&db, &table);
            assert!(found.values().all(|value| *value <= n), "{found:?}");
        }
        table_put(&db, &table, Touchy::new(3, &census), fragile(77));
        assert_eq!(contents(&db, &table).get(&3), Some(&77));
        drop(table);
        burnt |= with_fuse(calls, || drop(db));
        assert!(burnt || calls > 0, "no value was dropped at all");
        assert_eq!(census.alive.load(SeqCst), 0, "leak with the fuse at {calls}");
    }
    assert!(!census.twice.load(SeqCst), "dropped twice");
}

fn table_put(db: &Database, table: &Table, key: Touchy, value: Touchy) {
    let mut entry = Some((key, value));
    db.write(|tx| {
        if let Some((key, value)) = entry.take() {
            tx.insert(table, key, value)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_panic_in_a_closure_rolls_back() {
    quiet();
    let census = Arc::new(Census::default());
    let (db, table) = filled(&census, 10);
    let before = contents(&db, &table);
    let explode = || panic!("the fuse has burnt down");
    let key = || Touchy::new(4, &census);
    let panics: [&dyn Fn(); 6] = [
        &|| {
            let _ = db.write(|tx| {
                tx.insert(&table, key(), key())?;
                explode();
                Ok(())
            });
        },
        &|| {
            let _ = db.write(|tx| {
                tx.update(&table, key(), |_| -> Option<Touchy> {
                    explode();
                    None
                })
                .map(drop)
            });
        },
        &|| {
            let _ = db.write(|tx| {
                tx.modify(&table, &key(), |value| {
                    value.number = 9999;
                    explode();
                })
            });
        },
        &|| {
            let _ = db.write(|tx| {
                tx.nested(|tx| -> Result<(), Error> {
                    tx.clear(&table)?;
                    explode();
                    Ok(())
                })
            });
        },
        &|| db.read(|snap| snap.iter(&table).unwrap().for_each(|_| explode())),
        &|| drop(table.get_with(&key(), |_| explode())),
    ];
    for panics in panics {
        assert!(with_fuse(-1, panics), "the panic reaches the caller");
        assert_eq!(contents(&db, &table), before);
    }
    db.write(|tx| tx.clear(&table)).unwrap();
    assert!(contents(&db, &table).is_empty());
    assert!(db.stats().oldest_snapshot.is_none(), "nothing stayed open");
    drop((db, table));
    assert_eq!(census.alive.load(SeqCst), 0);
    assert!(!census.twice.load(SeqCst));
}

/// A panic inside a nested closure that the caller catches undoes the nested part only.
#[test]
fn a_caught_panic_in_a_nested_closure_undoes_the_nested_part() {
    quiet();
    let census = Arc::new(Census::default());
    let (db, table) = filled(&census, 10);
    let tx = db.begin();
    tx.insert(&table, Touchy::new(1, &census), Touchy::new(1, &census)).unwrap();
    let burnt = with_fuse(-1, || {
        let _: Result<(), Error> = tx.nested(|tx| {
            tx.clear(&table)?;
            tx.savepoint("inside");
            panic!("the fuse has burnt down");
        });
    });
    assert!(burnt);
    assert_eq!(tx.len(&table).unwrap(), 11);
    assert!(tx.rollback_to("inside").is_err(), "its savepoints went with it");
    tx.commit().unwrap();
    assert_eq!(contents(&db, &table).len(), 11);
}

/// Answers comparisons at random, so that no structure built on them can be right.
#[derive(Clone, Debug)]
struct Liar(u64);

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Liar {}

impl PartialOrd for Liar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

thread_local! {
    static LIES: Cell<u64> = const { Cell::new(1) };
}

impl Ord for Liar {
    fn cmp(&self, other: &Self) -> Ordering {
        let mut x = LIES.get() ^ (self.0 << 7) ^ other.0;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        LIES.set(x | 1);
        match x % 8 {
            0 => Ordering::Less,
            1 => Ordering::Greater,
            2 => Ordering::Equal,
            _ => self.0.cmp(&other.0),
        }
    }
}

#[test]
fn an_order_that_lies_breaks_nothing_else() {
    let db = Database::in_memory();
    let liars: Bucket<Liar, String> = db.volatile_bucket("liars").unwrap();
    let honest: Bucket<u64, String> = db.bucket("honest").unwrap();
    for n in 0..if cfg!(debug_assertions) { 600_u64 } else { 3_000 } {
        // A refusal or a panic is a fair answer to a lie; a crash or a hang is not.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _ = liars.insert(Liar(n % 97), format!("{n}"));
            let _ = liars.get(&Liar(n % 89)).map(|found| found.map(|text| text.len()));
            if n % 5 == 0 {
                let _ = liars.remove(&Liar(n % 83));
            }
            if n % 16 == 0 {
                let all = liars.range(Liar(3)..Liar(80)).map(|range| range.take(1000).count());
                let _ = all.map(|count| assert!(count <= 1000));
            }
        }));
        honest.insert(n, format!("{n}")).unwrap();
        if n % 64 == 0 {
            let _ = catch_unwind(AssertUnwindSafe(|| db.vacuum(128)));
        }
    }
    for (n, (key, text)) in honest.iter().unwrap().enumerate() {
        assert_eq!((key, text), (n as u64, format!("{n}")));
    }
}

/// Threads insert, replace and remove values that are counted, some transactions conflict, some
/// are given up; snapshots stay open across it. In the end all are dropped, none twice.
#[test]
fn values_of_threads_are_dropped_once() {
    let census = Arc::new(Census::default());
    {
        let db = Database::in_memory();
        let table: Table = db.volatile_bucket("table").unwrap();
        let rounds = if cfg!(debug_assertions) { 300_u64 } else { 1_500 };
        thread::scope(|scope| {
            for worker in 0..4_u64 {
                let (db, table, census) = (&db, &table, &census);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for n in 0..rounds {
                        let tx = db.begin();
                        for key in [n % 7, (n * worker) % 11, 20 + worker] {
                            tx.insert(table, Touchy::new(key, census), Touchy::new(n, census))
                                .unwrap();
                        }
                        tx.remove(table, &Touchy::new((n + worker) % 13, census)).unwrap();
                        match n % 5 {
                            0 => tx.rollback(),
                            1 => drop(tx),
                            _ => drop(tx.commit()),
                        }
                        if n % 50 == 0 {
                            held.push(db.snapshot());
                            db.vacuum(32);
                        }
                        if n % 170 == 0 {
                            held.clear();
                        }
                    }
                });
            }
        });
        let keys: BTreeSet<u64> = contents(&db, &table).into_keys().collect();
        assert!(keys.len() > 4 && census.alive.load(SeqCst) > 0);
    }
    assert_eq!(census.alive.load(SeqCst), 0, "leaked");
    assert!(!census.twice.load(SeqCst), "dropped twice");
}

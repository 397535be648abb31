//! What transactions, buckets and snapshots promise beyond answering like a map.
//!
//! Method: one fact a test: references and cursors that stay valid, prefixes, counters, retries
//! and their bound, reports of conflicts, the catalog of buckets, and sharing across threads.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use palisade::{Bucket, ConflictKind, Database, Error, Isolation, Options, Snapshot};
use palisade::{Transaction, TransactionOptions};

fn open() -> (Database, Bucket<String, u64>) {
    let db = Database::in_memory();
    let numbers = db.bucket("numbers").unwrap();
    (db, numbers)
}

#[test]
fn references_stay_valid_while_the_transaction_goes_on() {
    let (db, numbers) = open();
    for n in 0..100 {
        numbers.insert(format!("{n:03}"), n).unwrap();
    }
    let tx = db.begin();
    let committed: Vec<&u64> =
        (0..100).map(|n| tx.get(&numbers, &*format!("{n:03}")).unwrap().unwrap()).collect();
    tx.insert(&numbers, "own".into(), 1000).unwrap();
    let own = tx.get(&numbers, "own").unwrap().unwrap();
    for n in 0..100 {
        let before = tx.insert(&numbers, format!("{n:03}"), n + 500).unwrap();
        assert_eq!(before, Some(&n));
        numbers.insert(format!("{n:03}"), 9).unwrap();
        db.vacuum(16);
    }
    let replaced = tx.insert(&numbers, "own".into(), 1001).unwrap().unwrap();
    tx.remove(&numbers, "own").unwrap();
    assert_eq!((*own, *replaced), (1000, 1000));
    assert!(committed.iter().zip(0..).all(|(found, n)| **found == n));
}

#[test]
fn many_cursors_stand_in_one_transaction_and_none_sees_later_writes() {
    let (db, numbers) = open();
    for n in 0..10 {
        numbers.insert(format!("{n}"), n).unwrap();
    }
    let tx = db.begin();
    tx.insert(&numbers, "33".into(), 33).unwrap();
    let mut outer = tx.iter(&numbers).unwrap();
    let mut pairs = 0;
    assert_eq!(outer.next(), Some((&"0".to_string(), &0)));
    tx.insert(&numbers, "55".into(), 55).unwrap();
    tx.remove(&numbers, "7").unwrap();
    for (key, _) in outer {
        assert_ne!(key, "55", "written after the cursor was made");
        let inner = tx.range::<_, _, String>(&numbers, key.clone()..).unwrap();
        pairs += inner.rev().filter(|(_, n)| **n != 55).count();
    }
    // Behind `0` come 1, 2, 3, 33, 4, 5, 6, 7, 8 and 9. The inner cursors begin at each of them
    // and have everything but 7 and the 55 left out here: 9, 8, .., with 8 twice around 7.
    assert_eq!(pairs, [9, 8, 7, 6, 5, 4, 3, 2, 2, 1].iter().sum::<usize>());
}

#[test]
fn prefixes_end_where_they_should() {
    let (db, words) = open();
    let all = ["", "a", "a\u{10ffff}", "aa", "ab", "b", "é", "éa", "\u{10ffff}", "\u{10ffff}b"];
    // Half of them committed, half of them the transaction's own.
    for (n, word) in all.into_iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        words.insert(word.into(), n as u64).unwrap();
    }
    let tx = db.begin();
    for (n, word) in all.into_iter().enumerate().filter(|(n, _)| n % 2 == 1) {
        tx.insert(&words, word.into(), n as u64).unwrap();
    }
    for prefix in all.into_iter().chain(["c", "aaa", "\u{10ffff}\u{10ffff}"]) {
        let due: BTreeSet<String> =
            all.iter().filter(|word| word.starts_with(prefix)).map(ToString::to_string).collect();
        let found = || tx.prefix::<_, _, str>(&words, prefix).unwrap().map(|(key, _)| key.clone());
        assert!(found().eq(due.iter().cloned()), "{prefix:?}");
        assert!(found().rev().eq(due.iter().rev().cloned()), "{prefix:?} backwards");
    }
    let bytes: Bucket<Vec<u8>, ()> = db.bucket("bytes").unwrap();
    for key in [&[][..], &[1], &[1, 255], &[1, 255, 255], &[2], &[255], &[255, 255, 0]] {
        bytes.insert(key.to_vec(), ()).unwrap();
    }
    let count = |prefix: &[u8]| bytes.prefix(prefix).unwrap().count();
    assert_eq!((count(&[]), count(&[1]), count(&[1, 255]), count(&[255])), (7, 3, 2, 2));
    assert_eq!((count(&[255, 255]), count(&[255, 255, 255]), count(&[0])), (1, 0, 0));
}

#[test]
fn counters_count_and_refuse_to_overflow() {
    let db = Database::in_memory();
    let small: Bucket<&'static str, i8> = db.volatile_bucket("small").unwrap();
    assert_eq!(small.fetch_add("n", 100).unwrap(), None);
    assert_eq!(small.fetch_add("n", 27).unwrap(), Some(100));
    assert!(matches!(small.fetch_add("n", 1), Err(Error::Overflow)));
    assert_eq!(small.fetch_add("n", -128).unwrap(), Some(127));
    let tx = db.begin();
    assert_eq!(tx.fetch_add(&small, "n", -127).unwrap(), Some(-1));
    assert!(matches!(tx.fetch_add(&small, "n", -1), Err(Error::Overflow)));
    assert_eq!(tx.get(&small, &"n").unwrap(), Some(&-128), "the value is unchanged");
    tx.commit().unwrap();
    assert_eq!(small.get(&"n").unwrap(), Some(-128));
}

fn conflict<T: std::fmt::Debug>(outcome: Result<T, Error>) -> palisade::Conflict {
    match outcome {
        Err(Error::Conflict(conflict)) => conflict,
        other => panic!("a conflict was due: {other:?}"),
    }
}

#[test]
fn a_write_conflict_names_bucket_key_and_rival() {
    let (db, numbers) = open();
    let mine = db.begin();
    let rival = db.begin_with(&TransactionOptions::new().label("the rival"));
    mine.insert(&numbers, "key".into(), 1).unwrap();
    rival.insert(&numbers, "key".into(), 2).unwrap();
    rival.commit().unwrap();
    let found = conflict(mine.commit());
    assert_eq!(found.kind(), ConflictKind::WriteWrite);
    assert_eq!(found.bucket(), Some("numbers"));
    assert_eq!(found.key::<String>().map(String::as_str), Some("key"));
    assert_eq!(found.key::<u64>(), None, "of another type");
    assert_eq!(found.other(), Some("the rival"));
    assert!(found.to_string().contains("numbers"), "{found}");
}

#[test]
fn a_cycle_is_reported_with_its_members() {
    let (db, numbers) = open();
    let (one, two) = (db.begin(), db.begin_with(&TransactionOptions::new().label("two")));
    assert_eq!(one.iter(&numbers).unwrap().count(), 0);
    assert_eq!(two.get(&numbers, "one").unwrap(), None);
    one.insert(&numbers, "one".into(), 1).unwrap();
    two.insert(&numbers, "two".into(), 2).unwrap();
    let at = two.commit().unwrap();
    let found = conflict(one.commit());
    assert_eq!(found.kind(), ConflictKind::Cycle);
    assert_eq!(found.cycle(), [at.timestamp()]);
    assert_eq!(found.other(), Some("two"));
    assert_eq!(found.bucket(), Some("numbers"));
    assert_eq!(found.key::<String>().map(String::as_str), Some("two"), "in the range it scanned");
}

#[test]
fn attempts_are_counted_and_bounded() {
    let (db, numbers) = open();
    numbers.insert("n".into(), 0).unwrap();
    let options = TransactionOptions::new().attempts_max(3);
    let mut attempts = 0;
    let outcome: Result<(), Error> = db.write_with(&options, |tx| {
        attempts += 1;
        let now = *tx.get(&numbers, "n")?.unwrap();
        // A rival that always comes first; from another thread, as rivals do.
        let rival = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let options = TransactionOptions::new().attempts_max(1);
                    db.write_with(&options, |tx| {
                        tx.insert(&numbers, "n".into(), now + 10).map(drop)
                    })
                })
                .join()
        });
        rival.unwrap()?;
        tx.insert(&numbers, "n".into(), now + 1)?;
        Ok(())
    });
    assert!(matches!(&outcome, Err(Error::Conflict(_))), "{outcome:?}");
    assert_eq!(attempts, 3);
}

/// A long writer among short ones that overtake it again and again gets through in a bounded
/// number of attempts.
#[test]
fn a_writer_that_is_often_overtaken_gets_through() {
    let (db, numbers) = open();
    for n in 0..64 {
        numbers.insert(format!("{n}"), 0).unwrap();
    }
    let done = AtomicBool::new(false);
    let mut attempts = Vec::new();
    thread::scope(|scope| {
        for rival in 0..2 {
            let (numbers, done) = (&numbers, &done);
            scope.spawn(move || {
                for n in (rival..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    numbers.fetch_add(format!("{}", n % 64), 1).unwrap();
                }
            });
        }
        for _ in 0..8 {
            let mut tries = 0;
            db.write(|tx| {
                tries += 1;
                let sum: u64 = tx.iter(&numbers)?.map(|(_, n)| n % 1000).sum();
                // Gives the rivals the core, so that they do overtake.
                thread::yield_now();
                for n in 0..64 {
                    tx.insert(&numbers, format!("{n}"), sum)?;
                    thread::yield_now();
                }
                Ok(())
            })
            .unwrap();
            attempts.push(tries);
        }
        done.store(true, Ordering::Relaxed);
    });
    eprintln!("attempts of the long writer: {attempts:?}");
    assert!(attempts.iter().all(|tries| *tries <= 32), "{attempts:?}");
}

#[derive(Debug)]
enum Mine {
    Database(Error),
    Refused(&'static str),
}

impl From<Error> for Mine {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

#[test]
fn an_error_of_the_callers_own_rolls_back() {
    let (db, numbers) = open();
    let outcome: Result<(), Mine> = db.try_write(|tx| {
        tx.insert(&numbers, "n".into(), 1)?;
        Err(Mine::Refused("no funds"))
    });
    assert!(matches!(outcome, Err(Mine::Refused("no funds"))), "{outcome:?}");
    assert_eq!(numbers.len().unwrap(), 0);
    let outcome: Result<(), Mine> = db.try_write(|tx| Ok(tx.rollback_to("nowhere")?));
    match outcome {
        Err(Mine::Database(error)) => assert!(!error.is_retryable(), "{error}"),
        other => panic!("an error of the database was due: {other:?}"),
    }
    let outcome: Result<u64, Mine> = db.try_write(|tx| {
        tx.insert(&numbers, "n".into(), 1)?;
        Ok(*tx.get(&numbers, "n")?.ok_or(Mine::Refused("lost"))?)
    });
    assert!(matches!(outcome, Ok(1)), "{outcome:?}");
}

#[test]
fn buckets_are_made_listed_renamed_and_dropped() {
    let db = Database::in_memory();
    let one: Bucket<u64, String> = db.bucket("one").unwrap();
    one.insert(1, "first".into()).unwrap();
    let again: Bucket<u64, String> = db.bucket("one").unwrap();
    assert_eq!(again.get(&1).unwrap().as_deref(), Some("first"), "opened, not made anew");
    let mismatch = db.bucket::<u64, u64>("one").unwrap_err();
    let text = mismatch.to_string();
    assert!(matches!(mismatch, Error::TypeMismatch { .. }), "{text}");
    assert!(text.contains("String") && text.contains("u64"), "names both: {text}");

    let names = |db: &Database| -> Vec<String> {
        db.buckets().iter().map(|info| info.name.to_string()).collect()
    };
    let _two: Bucket<u64, u64> = db.bucket("two").unwrap();
    assert_eq!(names(&db), ["one", "two"]);
    db.rename_bucket("one", "uno").unwrap();
    assert_eq!(names(&db), ["two", "uno"]);
    assert_eq!(&*one.name(), "uno", "handles follow");
    assert_eq!(one.get(&1).unwrap().as_deref(), Some("first"));
    assert!(matches!(db.rename_bucket("two", "uno"), Err(Error::BucketExists { .. })));
    assert!(matches!(db.rename_bucket("gone", "x"), Err(Error::BucketMissing { .. })));

    assert!(db.drop_bucket("uno").unwrap());
    assert!(!db.drop_bucket("uno").unwrap());
    assert!(matches!(one.get(&1), Err(Error::BucketDropped { .. })));
    assert!(matches!(one.insert(2, String::new()), Err(Error::BucketDropped { .. })));
    let anew: Bucket<u64, String> = db.bucket("uno").unwrap();
    assert_eq!(anew.len().unwrap(), 0);
    assert!(matches!(one.get(&1), Err(Error::BucketDropped { .. })), "an old handle stays dead");
}

#[test]
fn a_bucket_dropped_under_a_transaction_fails_its_commit_and_nothing_else() {
    let (db, numbers) = open();
    let other: Bucket<u64, u64> = db.bucket("other").unwrap();
    numbers.insert("n".into(), 1).unwrap();
    let (tx, snap) = (db.begin(), db.snapshot());
    tx.insert(&numbers, "n".into(), 2).unwrap();
    tx.insert(&other, 1, 1).unwrap();
    assert!(db.drop_bucket("numbers").unwrap());
    let outcome = tx.commit();
    if outcome.is_ok() {
        assert_eq!(other.get(&1).unwrap(), Some(1), "all");
    } else {
        assert_eq!(other.get(&1).unwrap(), None, "or nothing");
    }
    drop(snap);
    other.insert(2, 2).unwrap();
    db.vacuum(usize::MAX);
    assert_eq!(other.get(&2).unwrap(), Some(2));
}

/// Also where there is nothing to lock: the key itself is taken.
#[test]
fn a_locked_read_of_an_absent_key_takes_it() {
    for level in [Isolation::Serializable, Isolation::Snapshot] {
        let db = Options::new().isolation(level).in_memory();
        let numbers: Bucket<String, u64> = db.bucket("numbers").unwrap();
        let (one, two) = (db.begin(), db.begin());
        for tx in [&one, &two] {
            assert_eq!(tx.get_for_update(&numbers, "x").unwrap(), None);
            assert_eq!(tx.get_for_update(&numbers, "y").unwrap(), None);
        }
        one.insert(&numbers, "x".into(), 1).unwrap();
        two.insert(&numbers, "y".into(), 1).unwrap();
        one.commit().unwrap();
        assert!(two.commit().is_err(), "a write skew between locked keys, at {level:?}");
    }
}

#[test]
fn databases_do_not_mix() {
    let ((one, in_one), (two, in_two)) = (open(), open());
    in_one.insert("n".into(), 1).unwrap();
    in_two.insert("n".into(), 2).unwrap();
    let tx = one.begin();
    assert!(matches!(tx.get(&in_two, "n"), Err(Error::ForeignBucket { .. })));
    assert!(matches!(tx.insert(&in_two, "n".into(), 3), Err(Error::ForeignBucket { .. })));
    assert!(matches!(two.snapshot().get(&in_one, "n"), Err(Error::ForeignBucket { .. })));
    assert_eq!(tx.get(&in_one, "n").unwrap(), Some(&1));
    tx.commit().unwrap();
    drop(one);
    assert_eq!(in_two.get("n").unwrap(), Some(2));
}

#[test]
fn a_transaction_over_buckets_is_one() {
    let db = Database::in_memory();
    let words: Bucket<String, u64> = db.bucket("words").unwrap();
    let totals: Bucket<(), u64> = db.bucket("totals").unwrap();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (db, words, totals, start) = (&db, &words, &totals, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..400 {
                    db.write(|tx| {
                        tx.fetch_add(words, format!("{}", (n + worker) % 5), 1)?;
                        tx.fetch_add(totals, (), 1)?;
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
        start.wait();
        for _ in 0..400 {
            let (sum, total) = db.read(|snap| {
                let sum: u64 = snap.iter(&words).unwrap().map(|(_, n)| n).sum();
                (sum, snap.get(&totals, &()).unwrap().copied().unwrap_or(0))
            });
            assert_eq!(sum, total);
        }
    });
    assert_eq!(totals.get(&()).unwrap(), Some(800));
}

#[test]
fn a_snapshot_outlives_everything_and_is_shared_by_threads() {
    fn shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn movable<T: Send>(_: &T) {}
    let (db, numbers) = open();
    for n in 0..100 {
        numbers.insert(format!("{n:02}"), n).unwrap();
    }
    let snap = db.snapshot();
    shareable(&snap);
    shareable(&numbers);
    let tx = db.begin();
    movable(&tx);
    drop(tx);
    numbers.clear().unwrap();
    drop(db);
    let sum = |snap: &Snapshot| snap.iter(&numbers).unwrap().map(|(_, n)| n).sum::<u64>();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (snap, numbers) = (snap.clone(), numbers.clone());
            thread::spawn(move || snap.iter(&numbers).unwrap().map(|(_, n)| n).sum::<u64>())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 4950);
    }
    assert_eq!((sum(&snap), snap.len(&numbers).unwrap()), (4950, 100));
}

#[test]
fn timestamps_are_dense_and_tell_what_a_snapshot_holds() {
    let (db, numbers) = open();
    let before = db.snapshot();
    let mut last = before.timestamp();
    for n in 0..10 {
        let tx = db.begin();
        assert_eq!(tx.snapshot_timestamp(), last);
        tx.insert(&numbers, "n".into(), n).unwrap();
        let at = tx.commit().unwrap().timestamp();
        assert_eq!(at.get(), last.get() + 1);
        last = at;
        assert_eq!(db.snapshot().timestamp(), last);
    }
    assert_eq!(before.len(&numbers).unwrap(), 0);
    drop(before);
    let stats = db.stats();
    assert_eq!((stats.commits, stats.oldest_snapshot.is_none()), (10, true), "{stats:?}");
}

#[test]
fn the_oldest_snapshot_is_shown_with_its_label() {
    let (db, numbers) = open();
    numbers.insert("n".into(), 1).unwrap();
    let options = TransactionOptions::new().label("the slow report");
    let slow = db.begin_with(&options);
    for n in 0..10 {
        numbers.insert("n".into(), n).unwrap();
    }
    let stats = db.stats();
    let oldest = stats.oldest_snapshot.as_ref().expect("one is open");
    assert_eq!(oldest.label.as_deref(), Some("the slow report"), "{stats:?}");
    assert_eq!(oldest.timestamp, slow.snapshot_timestamp());
}

#[test]
fn the_level_is_set_per_database_and_per_transaction() {
    let skew = |db: &Database, one: Transaction<'_>, two: Transaction<'_>| {
        let numbers: Bucket<String, u64> = db.bucket("numbers").unwrap();
        one.get(&numbers, "two").unwrap();
        two.get(&numbers, "one").unwrap();
        one.insert(&numbers, "one".into(), 1).unwrap();
        two.insert(&numbers, "two".into(), 1).unwrap();
        one.commit().unwrap();
        let both = two.commit().is_ok();
        numbers.clear().unwrap();
        both
    };
    let at = |level| TransactionOptions::new().isolation(level);
    let (serializable, snapshot) = (at(Isolation::Serializable), at(Isolation::Snapshot));
    for (level, committed) in [(Isolation::Serializable, false), (Isolation::Snapshot, true)] {
        let db = Options::new().isolation(level).in_memory();
        assert_eq!(db.begin().isolation(), level);
        assert_eq!(skew(&db, db.begin(), db.begin()), committed, "{level:?}");
        let both = skew(&db, db.begin_with(&serializable), db.begin_with(&serializable));
        assert!(!both, "{level:?} overridden");
        assert!(skew(&db, db.begin_with(&snapshot), db.begin_with(&snapshot)), "{level:?}");
    }
}

#[test]
fn savepoints_nest_shadow_and_end() {
    let (db, numbers) = open();
    let tx = db.begin();
    let put = |n: u64| {
        tx.insert(&numbers, "n".into(), n).unwrap();
    };
    let get = || tx.get(&numbers, "n").unwrap().copied();
    tx.savepoint("a");
    put(1);
    tx.savepoint("a");
    put(2);
    tx.savepoint("b");
    put(3);
    tx.rollback_to("a").unwrap();
    assert_eq!(get(), Some(1), "the younger of the two");
    assert!(matches!(tx.rollback_to("b"), Err(Error::SavepointMissing { .. })), "ended with it");
    put(4);
    tx.rollback_to("a").unwrap();
    assert_eq!(get(), Some(1), "it stays");
    let inner: Result<(), Error> = tx.nested(|tx| {
        tx.insert(&numbers, "n".into(), 5)?;
        tx.savepoint("inner");
        tx.insert(&numbers, "n".into(), 6)?;
        tx.rollback_to("inner")?;
        assert_eq!(tx.get(&numbers, "n")?, Some(&5));
        tx.nested(|tx| -> Result<(), Error> {
            tx.clear(&numbers)?;
            Err(Error::Overflow)
        })
        .unwrap_err();
        assert_eq!(tx.get(&numbers, "n")?, Some(&5));
        Ok(())
    });
    inner.unwrap();
    assert_eq!(get(), Some(5));
    assert!(matches!(tx.rollback_to("inner"), Err(Error::SavepointMissing { .. })), "ended too");
    tx.commit().unwrap();
    assert_eq!(numbers.get("n").unwrap(), Some(5));
}

/// A nested body that goes back behind its own beginning, and then fails, leaves what was there
/// at the savepoint it went back to, or is told that it cannot.
#[test]
fn a_nested_body_cannot_reach_behind_its_beginning_and_corrupt_the_outer_one() {
    let (db, numbers) = open();
    for keep in [false, true] {
        let tx = db.begin();
        tx.savepoint("outer");
        tx.insert(&numbers, "before".into(), 1).unwrap();
        let mut reached = false;
        let _: Result<(), Error> = tx.nested(|tx| {
            reached = tx.rollback_to("outer").is_ok();
            tx.insert(&numbers, "inside".into(), 2)?;
            if keep { Ok(()) } else { Err(Error::Overflow) }
        });
        let keys: Vec<String> = tx.iter(&numbers).unwrap().map(|(key, _)| key.clone()).collect();
        let due: &[&str] = match (reached, keep) {
            (false, false) => &["before"],
            (false, true) => &["before", "inside"],
            (true, false) => &[],
            (true, true) => &["inside"],
        };
        assert_eq!(keys, due, "reached: {reached}, kept: {keep}");
        tx.rollback_to("outer").unwrap();
        assert!(tx.is_empty(&numbers).unwrap());
        tx.insert(&numbers, "after".into(), 3).unwrap();
        tx.commit().unwrap();
        assert_eq!(numbers.len().unwrap(), 1);
        numbers.clear().unwrap();
    }
}

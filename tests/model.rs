//! Every operation on buckets, transactions and snapshots answers like a `BTreeMap`.
//!
//! Method: random sequences of operations run on one bucket and on a map. A transaction has a
//! copy of the map, a savepoint a copy of that, a snapshot a copy of its own that is looked at
//! again at the end. Outside a transaction the same operations run as methods of the bucket.
//! Keys are few, so that operations meet, and of many types, so that no type's order or layout
//! is taken for granted. proptest shrinks a failure to the shortest sequence it finds.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![allow(clippy::match_bool, reason = "two cases side by side read better")]
#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test")]

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

use palisade::{Bucket, Database, Error, Snapshot, Transaction};
use proptest::prelude::*;

/// A pair of types to try, with `KEYS` keys that need not be in rank order.
trait Case {
    type Key: Ord + Clone + Debug + Send + Sync + 'static;
    type Value: Clone + PartialEq + Debug + Send + Sync + 'static;
    fn key(rank: u8) -> Self::Key;
    fn value(seed: u16) -> Self::Value;
}

const KEYS: u8 = 24;

#[derive(Clone, Copy, Debug)]
enum Edge {
    Unbounded,
    Included(u8),
    Excluded(u8),
}

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Contains(u8),
    Peek(u8),
    GetForUpdate(u8),
    Insert(u8, u16),
    InsertIfAbsent(u8, u16),
    Remove(u8),
    /// `update` that returns a value, or none.
    Update(u8, Option<u16>),
    Modify(u8, u16),
    /// With the value that is there, or with another.
    CompareAndSwap(u8, bool, u16),
    RemoveRange(Edge, Edge),
    Clear,
    /// From the front where true, from the back where false; then the rest from the front.
    Range(Edge, Edge, Vec<bool>),
    Ends,
    PopFirst,
    PopLast,
    Len,
    Savepoint(u8),
    RollBackTo(u8),
    Nested(Vec<Op>, bool),
    Begin,
    Commit,
    RollBack,
    Snapshot,
    Vacuum(u8),
}

fn edge() -> impl Strategy<Value = Edge> {
    prop_oneof![
        1 => Just(Edge::Unbounded),
        2 => (0..KEYS).prop_map(Edge::Included),
        2 => (0..KEYS).prop_map(Edge::Excluded),
    ]
}

fn flat() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    let value = any::<u16>;
    let picks = || prop::collection::vec(any::<bool>(), 0..12);
    prop_oneof![
        3 => key().prop_map(Op::Get),
        1 => key().prop_map(Op::Contains),
        1 => key().prop_map(Op::Peek),
        1 => key().prop_map(Op::GetForUpdate),
        8 => (key(), value()).prop_map(|(key, value)| Op::Insert(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Op::InsertIfAbsent(key, value)),
        4 => key().prop_map(Op::Remove),
        2 => (key(), prop::option::of(value())).prop_map(|(key, value)| Op::Update(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Op::Modify(key, value)),
        2 => (key(), any::<bool>(), value())
            .prop_map(|(key, hit, value)| Op::CompareAndSwap(key, hit, value)),
        1 => (edge(), edge()).prop_map(|(lo, hi)| Op::RemoveRange(lo, hi)),
        4 => (edge(), edge(), picks()).prop_map(|(lo, hi, picks)| Op::Range(lo, hi, picks)),
        1 => Just(Op::Ends),
        1 => Just(Op::PopFirst),
        1 => Just(Op::PopLast),
        1 => Just(Op::Len),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => flat(),
        2 => (0_u8..3).prop_map(Op::Savepoint),
        2 => (0_u8..3).prop_map(Op::RollBackTo),
        1 => (prop::collection::vec(flat(), 0..8), any::<bool>())
            .prop_map(|(ops, keep)| Op::Nested(ops, keep)),
        3 => Just(Op::Begin),
        2 => Just(Op::Commit),
        1 => Just(Op::RollBack),
        1 => Just(Op::Snapshot),
        1 => (0_u8..40).prop_map(Op::Vacuum),
        1 => Just(Op::Clear),
    ]
}

fn sequence() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..120)
}

type Map<C> = BTreeMap<<C as Case>::Key, <C as Case>::Value>;
type Table<C> = Bucket<<C as Case>::Key, <C as Case>::Value>;

fn bound<C: Case>(edge: Edge) -> Bound<C::Key> {
    match edge {
        Edge::Unbounded => Bound::Unbounded,
        Edge::Included(rank) => Bound::Included(C::key(rank)),
        Edge::Excluded(rank) => Bound::Excluded(C::key(rank)),
    }
}

/// The entries between two bounds; none if they are the wrong way round, where `BTreeMap`
/// panics and the bucket yields nothing.
fn between<C: Case>(map: &Map<C>, lo: Edge, hi: Edge) -> Vec<(C::Key, C::Value)> {
    let (lo, hi) = (bound::<C>(lo), bound::<C>(hi));
    let above = |key: &C::Key| match &lo {
        Bound::Unbounded => true,
        Bound::Included(at) => key >= at,
        Bound::Excluded(at) => key > at,
    };
    let below = |key: &C::Key| match &hi {
        Bound::Unbounded => true,
        Bound::Included(at) => key <= at,
        Bound::Excluded(at) => key < at,
    };
    let inside = map.iter().filter(|(key, _)| above(key) && below(key));
    inside.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Takes entries from both ends of two iterators and compares each.
fn compare<T: PartialEq + Debug>(
    mut found: impl DoubleEndedIterator<Item = T>,
    due: Vec<T>,
    picks: &[bool],
) {
    let mut due = due.into_iter();
    for front in picks {
        match front {
            true => assert_eq!(found.next(), due.next()),
            false => assert_eq!(found.next_back(), due.next_back()),
        }
    }
    for entry in due {
        assert_eq!(found.next(), Some(entry));
    }
    assert_eq!((found.next(), found.next_back(), found.next()), (None, None, None));
}

fn entry<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// One operation inside a transaction, and on the map that shows what it should see.
fn inside<C: Case>(tx: &Transaction<'_>, table: &Table<C>, map: &mut Map<C>, op: &Op) {
    match op {
        Op::Get(rank) => {
            let key = C::key(*rank);
            assert_eq!(tx.get(table, &key).unwrap(), map.get(&key));
        }
        Op::Contains(rank) => {
            let key = C::key(*rank);
            assert_eq!(tx.contains_key(table, &key).unwrap(), map.contains_key(&key));
        }
        Op::Peek(rank) => {
            let key = C::key(*rank);
            assert_eq!(tx.peek(table, &key).unwrap(), map.get(&key));
        }
        Op::GetForUpdate(rank) => {
            let key = C::key(*rank);
            assert_eq!(tx.get_for_update(table, &key).unwrap(), map.get(&key));
        }
        Op::Insert(rank, seed) => {
            let (key, value) = (C::key(*rank), C::value(*seed));
            let before = tx.insert(table, key.clone(), value.clone()).unwrap().cloned();
            assert_eq!(before, map.insert(key, value));
        }
        Op::InsertIfAbsent(rank, seed) => {
            let (key, value) = (C::key(*rank), C::value(*seed));
            let inserted = tx.insert_if_absent(table, key.clone(), value.clone()).unwrap();
            assert_eq!(inserted, !map.contains_key(&key));
            map.entry(key).or_insert(value);
        }
        Op::Remove(rank) => {
            let key = C::key(*rank);
            assert_eq!(tx.remove(table, &key).unwrap().cloned(), map.remove(&key));
        }
        Op::Update(rank, seed) => {
            let (key, new) = (C::key(*rank), seed.map(C::value));
            let mut shown = None;
            tx.update(table, key.clone(), |now| {
                shown = now.cloned();
                new.clone()
            })
            .unwrap();
            let before = match new {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
            assert_eq!(shown, before);
        }
        Op::Modify(rank, seed) => {
            let (key, new) = (C::key(*rank), C::value(*seed));
            let found = tx.modify(table, &key, |value| value.clone_from(&new)).unwrap();
            assert_eq!(found, map.get_mut(&key).map(|value| *value = new).is_some());
        }
        Op::CompareAndSwap(rank, hit, seed) => {
            let (key, new) = (C::key(*rank), C::value(*seed));
            let expected = map.get(&key).filter(|_| *hit).cloned();
            let expected = expected.unwrap_or_else(|| C::value(seed.wrapping_add(1)));
            let due = map.get(&key) == Some(&expected);
            assert_eq!(tx.compare_and_swap(table, &key, &expected, new.clone()).unwrap(), due);
            if due {
                map.insert(key, new);
            }
        }
        _ => inside_many::<C>(tx, table, map, op),
    }
}

/// The same for operations that are not about one key.
fn inside_many<C: Case>(tx: &Transaction<'_>, table: &Table<C>, map: &mut Map<C>, op: &Op) {
    let range = |lo, hi| (bound::<C>(lo), bound::<C>(hi));
    match op {
        Op::RemoveRange(lo, hi) => {
            let gone = between::<C>(map, *lo, *hi);
            assert_eq!(tx.remove_range(table, range(*lo, *hi)).unwrap(), gone.len());
            for (key, _) in gone {
                map.remove(&key);
            }
        }
        Op::Clear => {
            tx.clear(table).unwrap();
            map.clear();
        }
        Op::Range(lo, hi, picks) => {
            let found = tx.range(table, range(*lo, *hi)).unwrap().map(entry);
            compare(found, between::<C>(map, *lo, *hi), picks);
        }
        Op::Ends => {
            assert_eq!(tx.first_key_value(table).unwrap(), map.first_key_value());
            assert_eq!(tx.last_key_value(table).unwrap(), map.last_key_value());
        }
        Op::PopFirst => {
            assert_eq!(tx.pop_first(table).unwrap().map(entry), map.pop_first());
        }
        Op::PopLast => {
            assert_eq!(tx.pop_last(table).unwrap().map(entry), map.pop_last());
        }
        Op::Len => {
            assert_eq!(tx.len(table).unwrap(), map.len());
            assert_eq!(tx.is_empty(table).unwrap(), map.is_empty());
        }
        _ => {}
    }
}

/// The same as a method of the bucket, which is a transaction of one operation.
fn outside<C: Case>(db: &Database, table: &Table<C>, map: &mut Map<C>, op: &Op) {
    match op {
        Op::Get(rank) | Op::Peek(rank) | Op::GetForUpdate(rank) => {
            let key = C::key(*rank);
            assert_eq!(table.get(&key).unwrap().as_ref(), map.get(&key));
            let seen = table.get_with(&key, Clone::clone).unwrap();
            assert_eq!(seen.as_ref(), map.get(&key));
        }
        Op::Contains(rank) => {
            let key = C::key(*rank);
            assert_eq!(table.contains_key(&key).unwrap(), map.contains_key(&key));
        }
        Op::Insert(rank, seed) => {
            let (key, value) = (C::key(*rank), C::value(*seed));
            let before = table.insert(key.clone(), value.clone()).unwrap();
            assert_eq!(before, map.insert(key, value));
        }
        Op::InsertIfAbsent(rank, seed) => {
            let (key, value) = (C::key(*rank), C::value(*seed));
            let inserted = table.insert_if_absent(key.clone(), value.clone()).unwrap();
            assert_eq!(inserted, !map.contains_key(&key));
            map.entry(key).or_insert(value);
        }
        Op::Remove(rank) => {
            let key = C::key(*rank);
            assert_eq!(table.remove(&key).unwrap(), map.remove(&key));
        }
        Op::Modify(rank, seed) => {
            let (key, new) = (C::key(*rank), C::value(*seed));
            let modified = table.modify(&key, |value| value.clone_from(&new)).unwrap();
            assert_eq!(modified, map.get_mut(&key).map(|value| *value = new).is_some());
        }
        Op::Range(lo, hi, picks) => {
            let found = table.range((bound::<C>(*lo), bound::<C>(*hi))).unwrap();
            compare(found, between::<C>(map, *lo, *hi), picks);
        }
        Op::Ends => {
            let due = map.first_key_value().map(entry);
            assert_eq!(table.first_key_value().unwrap(), due);
            assert_eq!(table.last_key_value().unwrap(), map.last_key_value().map(entry));
        }
        Op::PopFirst => assert_eq!(table.pop_first().unwrap(), map.pop_first()),
        Op::PopLast => assert_eq!(table.pop_last().unwrap(), map.pop_last()),
        Op::Len => {
            assert_eq!(table.len().unwrap(), map.len());
            assert_eq!(table.is_empty().unwrap(), map.is_empty());
        }
        Op::Clear => {
            table.clear().unwrap();
            map.clear();
        }
        other => {
            // The rest has no method of its own; a closure that cannot fail is as good.
            let before = map.clone();
            db.write(|tx| {
                map.clone_from(&before);
                inside::<C>(tx, table, map, other);
                Ok(())
            })
            .unwrap();
        }
    }
}

fn same<C: Case>(snap: &Snapshot, table: &Table<C>, map: &Map<C>) {
    assert_eq!(snap.len(table).unwrap(), map.len());
    assert_eq!(snap.is_empty(table).unwrap(), map.is_empty());
    assert_eq!(snap.first_key_value(table).unwrap(), map.first_key_value());
    assert_eq!(snap.last_key_value(table).unwrap(), map.last_key_value());
    assert!(snap.iter(table).unwrap().eq(map.iter()), "forwards");
    assert!(snap.iter(table).unwrap().rev().eq(map.iter().rev()), "backwards");
    for key in (0..KEYS).map(C::key) {
        assert_eq!(snap.get(table, &key).unwrap(), map.get(&key));
        assert_eq!(snap.contains_key(table, &key).unwrap(), map.contains_key(&key));
    }
}

struct Open<'db, C: Case> {
    tx: Transaction<'db>,
    map: Map<C>,
    savepoints: Vec<(u8, Map<C>)>,
}

fn step<'db, C: Case>(
    db: &'db Database,
    table: &Table<C>,
    map: &mut Map<C>,
    open: &mut Option<Open<'db, C>>,
    op: &Op,
) {
    match (op, open.as_mut()) {
        (Op::Begin, None) => {
            *open = Some(Open { tx: db.begin(), map: map.clone(), savepoints: Vec::new() });
        }
        (Op::Commit, Some(_)) => {
            let ended = open.take().expect("is open");
            ended.tx.commit().unwrap();
            *map = ended.map;
        }
        (Op::RollBack, Some(_)) => open.take().expect("is open").tx.rollback(),
        (Op::Savepoint(name), Some(open)) => {
            open.tx.savepoint(&name.to_string());
            open.savepoints.push((*name, open.map.clone()));
        }
        (Op::RollBackTo(name), Some(open)) => {
            let outcome = open.tx.rollback_to(&name.to_string());
            match open.savepoints.iter().rposition(|(saved, _)| saved == name) {
                Some(at) => {
                    outcome.unwrap();
                    open.savepoints.truncate(at + 1);
                    open.map.clone_from(&open.savepoints[at].1);
                }
                None => assert!(matches!(outcome, Err(Error::SavepointMissing { .. }))),
            }
        }
        (Op::Nested(ops, keep), Some(open)) => {
            let mut inner = open.map.clone();
            let outcome = open.tx.nested(|tx| -> Result<(), Error> {
                for op in ops {
                    inside::<C>(tx, table, &mut inner, op);
                }
                if *keep { Ok(()) } else { Err(Error::Overflow) }
            });
            assert_eq!(outcome.is_ok(), *keep);
            if *keep {
                open.map = inner;
            }
        }
        (op, Some(open)) => inside::<C>(&open.tx, table, &mut open.map, op),
        (op, None) => outside::<C>(db, table, map, op),
    }
}

fn check<C: Case>(ops: &[Op]) {
    let db = Database::in_memory();
    let table: Table<C> = db.volatile_bucket("table").unwrap();
    let mut map = Map::<C>::new();
    let mut open: Option<Open<'_, C>> = None;
    let mut snapshots = Vec::new();
    for op in ops {
        match op {
            Op::Snapshot => snapshots.push((db.snapshot(), map.clone())),
            Op::Vacuum(budget) => drop(db.vacuum(usize::from(*budget))),
            op => step::<C>(&db, &table, &mut map, &mut open, op),
        }
    }
    drop(open);
    snapshots.push((db.snapshot(), map));
    for (snap, map) in &snapshots {
        same::<C>(snap, &table, map);
    }
    counted::<C>(&db, &table, snapshots);
}

/// What is counted is what is there, and nothing once nothing is there.
fn counted<C: Case>(db: &Database, table: &Table<C>, snapshots: Vec<(Snapshot, Map<C>)>) {
    #[cfg(feature = "testing")]
    db.check();
    drop(snapshots);
    table.clear().unwrap();
    // What one vacuum takes away, another one may have to let go of.
    for _ in 0..4 {
        db.vacuum(usize::MAX);
    }
    #[cfg(feature = "testing")]
    db.check();
    let stats = db.stats();
    assert_eq!(stats.memory.buckets.total(), 0, "{stats:?}");
    assert_eq!((stats.records, stats.retained_versions), (0, 0), "{stats:?}");
}

struct Numbers;

impl Case for Numbers {
    type Key = u64;
    type Value = u64;
    fn key(rank: u8) -> u64 {
        // Close together, far apart, and at both ends.
        match rank {
            0 => u64::MAX,
            1..12 => u64::from(rank),
            _ => u64::from(rank) << (2 * rank),
        }
    }
    fn value(seed: u16) -> u64 {
        seed.into()
    }
}

struct Strings;

impl Case for Strings {
    type Key = String;
    type Value = String;
    fn key(rank: u8) -> String {
        // Among them the empty one, prefixes of each other, and long common beginnings.
        let long = "a common beginning that no eight bytes can tell apart/".repeat(4);
        match rank {
            0..6 => "é".repeat(rank.into()),
            6..12 => format!("{long}{}", "x".repeat((rank - 6).into())),
            _ => format!("k{rank:03}"),
        }
    }
    fn value(seed: u16) -> String {
        // Now and then a large one.
        if seed.is_multiple_of(64) {
            "v".repeat(usize::from(seed))
        } else {
            format!("value {seed}")
        }
    }
}

struct Bytes;

impl Case for Bytes {
    type Key = Vec<u8>;
    type Value = Vec<u8>;
    fn key(rank: u8) -> Vec<u8> {
        // Zeroes at the end make keys that a padded prefix cannot tell apart.
        match rank {
            0..10 => vec![0; rank.into()],
            10..16 => vec![0xff; usize::from(rank) - 9],
            _ => vec![7, rank / 4, rank % 4],
        }
    }
    fn value(seed: u16) -> Vec<u8> {
        seed.to_le_bytes().repeat(usize::from(seed % 3))
    }
}

struct Tuples;

impl Case for Tuples {
    type Key = (i16, Option<char>, String);
    type Value = (u8, Vec<u16>);
    fn key(rank: u8) -> Self::Key {
        let letter = rank.is_multiple_of(2).then(|| char::from(b'a' + rank % 5));
        (i16::from(rank % 3) - 1, letter, "x".repeat(usize::from(rank / 6)))
    }
    fn value(seed: u16) -> Self::Value {
        (seed.to_le_bytes()[0], vec![seed; usize::from(seed % 4)])
    }
}

/// Sorted backwards, and equal to others that look different.
#[derive(Clone, Debug)]
struct Backwards {
    number: i32,
    /// Not part of the order, and shown in reports of failures only.
    _note: String,
}

impl PartialEq for Backwards {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Backwards {}

impl PartialOrd for Backwards {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Backwards {
    fn cmp(&self, other: &Self) -> Ordering {
        other.number.cmp(&self.number)
    }
}

struct Custom;

impl Case for Custom {
    type Key = Backwards;
    type Value = ();
    fn key(rank: u8) -> Backwards {
        Backwards { number: i32::from(rank % 20), _note: format!("rank {rank}") }
    }
    fn value(_: u16) {}
}

struct Units;

impl Case for Units {
    type Key = ();
    type Value = i128;
    fn key(_: u8) {}
    fn value(seed: u16) -> i128 {
        i128::from(seed) << 70
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn numbers_behave_like_a_map(ops in sequence()) { check::<Numbers>(&ops); }

    #[test]
    fn strings_behave_like_a_map(ops in sequence()) { check::<Strings>(&ops); }

    #[test]
    fn bytes_behave_like_a_map(ops in sequence()) { check::<Bytes>(&ops); }

    #[test]
    fn tuples_behave_like_a_map(ops in sequence()) { check::<Tuples>(&ops); }

    #[test]
    fn a_custom_order_behaves_like_a_map(ops in sequence()) { check::<Custom>(&ops); }

    #[test]
    fn a_single_key_behaves_like_a_map(ops in sequence()) { check::<Units>(&ops); }
}

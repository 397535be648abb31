//! Aim: the index answers like a sorted map, and keeps its invariants after every step.
//! Method: random operations on tiny leaves and segments, for keys of each class of hints.

use super::super::{Occupied, SkipList};
use super::{Record, Tiny, collector, remove_all};
use crate::epoch::Guard;
use proptest::prelude::*;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

/// A key that the index knows nothing about but its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Opaque(u8, String);

#[derive(Clone, Debug)]
enum Op<K> {
    Insert(K),
    Remove(K),
    RemoveRange(K, K),
    Sweep(usize),
    Get(K),
    Range(Bound<K>, Bound<K>, Vec<bool>),
}

fn bound<K: Clone + Debug>(key: impl Strategy<Value = K>) -> impl Strategy<Value = Bound<K>> {
    (key, 0..3).prop_map(|(key, kind)| match kind {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    })
}

fn op<K: Clone + Debug + 'static>(
    key: impl Strategy<Value = K> + Clone + 'static,
) -> impl Strategy<Value = Op<K>> {
    let turns = prop::collection::vec(any::<bool>(), 0..12);
    prop_oneof![
        12 => key.clone().prop_map(Op::Insert),
        3 => key.clone().prop_map(Op::Remove),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Op::RemoveRange(a, b)),
        1 => (0_usize..9).prop_map(Op::Sweep),
        2 => key.clone().prop_map(Op::Get),
        3 => (bound(key.clone()), bound(key), turns).prop_map(|(a, b, t)| Op::Range(a, b, t)),
    ]
}

/// What a range of the model gives when its ends are taken in turns: true is the front.
fn expected<K: Ord + Clone>(
    model: &BTreeMap<K, u64>,
    bounds: (&Bound<K>, &Bound<K>),
    turns: &[bool],
) -> Vec<(K, u64)> {
    let mut inside: std::collections::VecDeque<_> = model
        .iter()
        .filter(|(key, _)| match bounds.0 {
            Bound::Included(low) => key >= &low,
            Bound::Excluded(low) => key > &low,
            Bound::Unbounded => true,
        })
        .filter(|(key, _)| match bounds.1 {
            Bound::Included(high) => key <= &high,
            Bound::Excluded(high) => key < &high,
            Bound::Unbounded => true,
        })
        .map(|(key, value)| (key.clone(), *value))
        .collect();
    let taken =
        turns.iter().map_while(|front| if *front { inside.pop_front() } else { inside.pop_back() });
    let mut taken: Vec<_> = taken.collect();
    taken.extend(inside);
    taken
}

fn actual<K: Ord + Clone + Send + Sync + Borrow<Q> + 'static, Q: Ord + ?Sized>(
    list: &SkipList<Record<K>, Tiny>,
    bounds: (&Bound<K>, &Bound<K>),
    turns: &[bool],
    guard: &Guard<'_>,
) -> Vec<(K, u64)> {
    let bounds = (bounds.0.as_ref().map(K::borrow), bounds.1.as_ref().map(K::borrow));
    let mut cursor = list.range::<Q>(bounds, guard);
    let mut taken = Vec::new();
    let mut take = |entry: &Record<K>| taken.push((entry.key.clone(), entry.value));
    // Turns alone are taken one by one, several in a row by a walk, and so is the rest.
    for same in turns.chunk_by(PartialEq::eq) {
        let mut left = same.len();
        let visit = |entry| {
            take(entry);
            left -= 1;
            left > 0
        };
        match same {
            [true] => cursor.next().into_iter().for_each(&mut take),
            [false] => cursor.next_back().into_iter().for_each(&mut take),
            [true, ..] => drop(cursor.walk(visit)),
            _ => drop(cursor.walk_back(visit)),
        }
    }
    let visit = |entry| {
        take(entry);
        true
    };
    assert!(cursor.walk(visit), "a walk that nobody stops comes to the end");
    taken
}

fn run<K, Q>(ops: Vec<Op<K>>)
where
    K: Ord + Clone + Debug + Send + Sync + Borrow<Q> + 'static,
    Q: Ord + ?Sized,
{
    let collector = collector();
    let list = SkipList::<Record<K>, Tiny>::new();
    let mut model = BTreeMap::new();
    for (value, op) in (0_u64..).zip(ops) {
        let guard = collector.pin();
        match op {
            Op::Insert(key) => {
                let old = model.get::<K>(&key).copied();
                match list.insert(Record::new(key.clone(), value), &guard) {
                    Ok(entry) => assert_eq!((entry.value, old), (value, None)),
                    Err(Occupied { entry, found }) => {
                        assert_eq!((entry.value, Some(found.value)), (value, old));
                    }
                }
                model.entry(key).or_insert(value);
            }
            Op::Remove(key) => {
                let removed = remove_all(&list, usize::MAX, |it| *it == key, &guard);
                assert_eq!(removed, usize::from(model.remove::<K>(&key).is_some()));
            }
            Op::RemoveRange(low, high) => {
                let removed = remove_all(&list, 3, |it| *it >= low && *it < high, &guard);
                let before = model.len();
                model.retain(|key, _| *key < low || *key >= high);
                assert_eq!(removed, before - model.len());
            }
            Op::Sweep(budget) => assert_eq!(remove_all(&list, budget, |_| false, &guard), 0),
            Op::Get(key) => {
                let found = list.get::<Q>(key.borrow(), &guard).map(|it| it.value);
                assert_eq!(found, model.get::<K>(&key).copied());
            }
            Op::Range(low, high, turns) => {
                let expected = expected(&model, (&low, &high), &turns);
                assert_eq!(actual::<K, Q>(&list, (&low, &high), &turns, &guard), expected);
            }
        }
        list.check(&guard);
        assert_eq!(list.len(&guard), model.len());
    }
    let guard = collector.pin();
    let all = (&Bound::Unbounded, &Bound::Unbounded);
    assert_eq!(
        actual::<K, Q>(&list, all, &[], &guard),
        model.clone().into_iter().collect::<Vec<_>>()
    );
    let backwards: Vec<_> = list
        .range::<Q>((Bound::Unbounded, Bound::Unbounded), &guard)
        .rev()
        .map(|it| (it.key.clone(), it.value))
        .collect();
    assert_eq!(backwards, model.into_iter().rev().collect::<Vec<_>>());
}

const OPS: usize = if cfg!(miri) { 60 } else { 400 };

fn ops<K: Clone + Debug + 'static>(
    key: impl Strategy<Value = K> + Clone + 'static,
) -> impl Strategy<Value = Vec<Op<K>>> {
    prop::collection::vec(op(key), 0..OPS)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 120 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn integers_answer_like_a_sorted_map(ops in ops(0_u64..150)) {
        run::<u64, u64>(ops);
    }

    #[test]
    fn signed_integers_answer_like_a_sorted_map(ops in ops(-60_i32..60)) {
        run::<i32, i32>(ops);
    }

    #[test]
    fn wide_integers_answer_like_a_sorted_map(ops in ops((0_u128..4, 0_u128..30))
    ) {
        let wide = |(a, b): (u128, u128)| a << 64 | b;
        run::<u128, u128>(ops.into_iter().map(|op| map(op, &wide)).collect());
    }

    #[test]
    fn strings_answer_like_a_sorted_map(ops in ops("(customer/0000/)?[ab\0]{0,9}")) {
        run::<String, str>(ops);
    }

    #[test]
    fn strings_with_one_prefix_answer_like_a_sorted_map(ops in ops("customer/0000/[abc]{0,4}")) {
        run::<String, str>(ops);
    }

    #[test]
    fn byte_arrays_answer_like_a_sorted_map(ops in ops(prop::array::uniform12(0_u8..2))) {
        run::<[u8; 12], [u8]>(ops);
    }

    #[test]
    fn opaque_keys_answer_like_a_sorted_map(ops in ops((0_u8..9, 0_u8..16))) {
        let opaque = |(a, b): (u8, u8)| Opaque(a, format!("{b:04}"));
        run::<Opaque, Opaque>(ops.into_iter().map(|op| map(op, &opaque)).collect());
    }
}

fn map<A, B>(op: Op<A>, f: &impl Fn(A) -> B) -> Op<B> {
    match op {
        Op::Insert(key) => Op::Insert(f(key)),
        Op::Remove(key) => Op::Remove(f(key)),
        Op::RemoveRange(low, high) => Op::RemoveRange(f(low), f(high)),
        Op::Sweep(budget) => Op::Sweep(budget),
        Op::Get(key) => Op::Get(f(key)),
        Op::Range(low, high, turns) => Op::Range(low.map(f), high.map(f), turns),
    }
}

#[test]
fn many_keys_in_order_fill_leaves_to_the_brim() {
    let collector = collector();
    let list = SkipList::<Record<u64>>::new();
    let keys = if cfg!(miri) { 500 } else { 100_000 };
    for key in 0..keys {
        assert!(list.insert(Record::new(key, key), &collector.pin()).is_ok());
    }
    let guard = collector.pin();
    list.check(&guard);
    let all = list.range::<u64>((Bound::Unbounded, Bound::Unbounded), &guard);
    assert!(all.map(|it| it.value).eq(0..keys));
    for key in 0..keys {
        assert_eq!(list.get(&key, &guard).map(|it| it.value), Some(key));
    }
    drop(guard);
    let guard = collector.pin();
    assert_eq!(remove_all(&list, 1000, |_| true, &guard) as u64, keys);
    list.check(&guard);
    assert_eq!(list.len(&guard), 0);
}

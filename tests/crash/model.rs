//! What the database should hold: named buckets, each a sorted map, and transactions over them.
//!
//! Values are a tag, which no other write has, and a length; the bytes follow from both, so that
//! what comes back from a disk tells which write it was and whether all of it is there.
//!
//! A state is compared by a print first, a sum of hashes that changes with each entry, so that a
//! recovered state finds its place among many.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The name of a durable bucket. Names that begin alike hold the same types.
pub(crate) type Name = &'static str;

pub(crate) const NAMES: [Name; 6] =
    ["numbers 0", "numbers 1", "numbers 2", "words 0", "words 1", "words 2"];

/// The static name that is equal to this one.
pub(crate) fn name_of(text: &str) -> Option<Name> {
    NAMES.into_iter().find(|name| *name == text)
}

/// Whether two names may be given to the same bucket.
pub(crate) fn are_alike(one: Name, other: Name) -> bool {
    one.as_bytes().first() == other.as_bytes().first()
}

/// A value: which write it is of, and how long its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) tag: u32,
    pub(crate) length: usize,
}

const TAG_DIGITS: usize = 8;

impl Value {
    /// The shortest value.
    pub(crate) const LENGTH_MIN: usize = TAG_DIGITS;

    /// The tag in digits, over and over.
    pub(crate) fn text(self) -> String {
        let mut text = format!("{:08x}", self.tag).repeat(self.length.div_ceil(TAG_DIGITS));
        text.truncate(self.length);
        text
    }

    /// The value with these bytes, if there is one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(TAG_DIGITS)?;
        let (repeated, _) = bytes.split_at(rest.len());
        let tag = u32::from_str_radix(std::str::from_utf8(first).ok()?, 16).ok()?;
        (rest == repeated).then_some(Self { tag, length: bytes.len() })
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn print_of(key: u16, value: Value) -> u64 {
    mix(mix(u64::from(key) << 32 | u64::from(value.tag)).wrapping_add(value.length as u64))
}

/// What one bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    entries: BTreeMap<u16, Value>,
    print: u64,
}

impl Content {
    pub(crate) fn insert(&mut self, key: u16, value: Value) {
        self.remove(key);
        self.entries.insert(key, value);
        self.print = self.print.wrapping_add(print_of(key, value));
    }

    fn remove(&mut self, key: u16) {
        if let Some(old) = self.entries.remove(&key) {
            self.print = self.print.wrapping_sub(print_of(key, old));
        }
    }

    fn remove_range(&mut self, low: u16, high: u16) {
        let keys = self.entries.range((Bound::Included(low), Bound::Excluded(high)));
        for key in keys.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.remove(key);
        }
    }
}

/// What the whole database holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    buckets: BTreeMap<Name, Arc<Content>>,
    /// A volatile bucket: no part of what a crash leaves.
    cache: Arc<BTreeMap<u16, u32>>,
    /// A time at or before the newest commit in it.
    stamp: u64,
}

impl PartialEq for State {
    /// What is volatile does not count, nor how it came about.
    fn eq(&self, other: &Self) -> bool {
        self.buckets == other.buckets
    }
}

/// One thing that a transaction does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Insert(Name, u16, Value),
    Remove(Name, u16),
    /// From the first key, and without the last.
    RemoveRange(Name, u16, u16),
    Clear(Name),
    /// Into the volatile bucket.
    Cache(u16, u32),
    /// Takes a savepoint.
    Save,
    /// Rolls back to it.
    Back,
}

impl Step {
    /// The durable bucket that it is about.
    pub(crate) fn name(&self) -> Option<Name> {
        match *self {
            Self::Insert(name, ..)
            | Self::Remove(name, _)
            | Self::RemoveRange(name, ..)
            | Self::Clear(name) => Some(name),
            Self::Cache(..) | Self::Save | Self::Back => None,
        }
    }
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Whether it asks for the highest durability.
    pub(crate) is_raised: bool,
    pub(crate) rolls_back: bool,
}

impl State {
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.buckets.keys().copied()
    }

    pub(crate) fn content(&self, name: Name) -> Option<&Arc<Content>> {
        self.buckets.get(name)
    }

    pub(crate) fn cache(&self) -> &BTreeMap<u16, u32> {
        &self.cache
    }

    pub(crate) fn put(&mut self, name: Name, content: Content) {
        self.buckets.insert(name, Arc::new(content));
    }

    /// The same with nothing volatile, recovered up to a commit of this time.
    pub(crate) fn recovered(&self, stamp: u64) -> Self {
        Self { buckets: self.buckets.clone(), cache: Arc::default(), stamp }
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Differs where states differ, but for one chance in 2^64.
    pub(crate) fn print(&self) -> u64 {
        let one = |(name, content): (&Name, &Arc<Content>)| {
            let name = name.bytes().fold(0, |all, byte| mix(all ^ u64::from(byte)));
            mix(name ^ mix(content.print))
        };
        self.buckets.iter().map(one).fold(0, u64::wrapping_add)
    }

    pub(crate) fn with_bucket(&self, name: Name) -> Self {
        let mut next = self.clone();
        next.put(name, Content::default());
        next
    }

    pub(crate) fn without_bucket(&self, name: Name) -> Self {
        let mut next = self.clone();
        next.buckets.remove(name);
        next
    }

    pub(crate) fn with_name(&self, from: Name, to: Name) -> Self {
        let mut next = self.clone();
        let content = next.buckets.remove(from).expect("a bucket that is there is renamed");
        next.buckets.insert(to, content);
        next
    }

    /// The state after a transaction.
    pub(crate) fn after(&self, steps: &[Step]) -> Self {
        let (mut next, mut saved) = (self.clone(), self.clone());
        for &step in steps {
            let mut edit = |name, edit: &dyn Fn(&mut Content)| {
                let content = next.buckets.get_mut(name).expect("open buckets are there");
                edit(Arc::make_mut(content));
            };
            match step {
                Step::Insert(name, key, value) => edit(name, &|to| to.insert(key, value)),
                Step::Remove(name, key) => edit(name, &|to| to.remove(key)),
                Step::RemoveRange(name, low, high) => {
                    edit(name, &|to| to.remove_range(low, high));
                }
                Step::Clear(name) => edit(name, &|to| *to = Content::default()),
                Step::Cache(key, value) => {
                    Arc::make_mut(&mut next.cache).insert(key, value);
                }
                Step::Save => saved = next.clone(),
                Step::Back => next = saved.clone(),
            }
        }
        next
    }

    /// How this state differs from another one, in few words.
    pub(crate) fn differs_from(&self, other: &Self) -> String {
        let mut words = Vec::new();
        for name in NAMES {
            match (self.buckets.get(name), other.buckets.get(name)) {
                (None, None) => {}
                (Some(_), None) => words.push(format!("{name:?} should not be there")),
                (None, Some(_)) => words.push(format!("{name:?} is missing")),
                (Some(one), Some(two)) => words.extend(differences(name, one, two)),
            }
        }
        words.truncate(12);
        words.join("; ")
    }
}

fn differences(name: Name, found: &Content, expected: &Content) -> Vec<String> {
    let keys = found.entries.keys().chain(expected.entries.keys());
    let keys: std::collections::BTreeSet<u16> = keys.copied().collect();
    let show = |value: Option<&Value>| {
        value.map_or("nothing".to_owned(), |it| format!("{:x}+{}", it.tag, it.length))
    };
    let differing =
        keys.into_iter().filter(|key| found.entries.get(key) != expected.entries.get(key));
    let tell = |key: u16| {
        let (found, expected) = (found.entries.get(&key), expected.entries.get(&key));
        format!("{name:?} {key}: {} instead of {}", show(found), show(expected))
    };
    differing.map(tell).collect()
}

/// The states that a crash may leave.
///
/// ```text
/// [ floor ][  ..  ][ returned ][ pending ]
///   durable          what calls    what the call under way
///   for sure         returned for  would make of it
/// ```
#[derive(Debug)]
pub(crate) struct Window {
    states: Vec<Arc<State>>,
    /// The place of the newest state for which some call has returned.
    returned: usize,
    /// States before the first of those kept.
    gone: usize,
}

impl Window {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { states: vec![state], returned: 0, gone: 0 }
    }

    /// What readers see between two calls.
    pub(crate) fn current(&self) -> &Arc<State> {
        self.states.get(self.returned).expect("one state has been returned for")
    }

    /// A call begins that would make this of the database.
    pub(crate) fn begin(&mut self, state: State) {
        assert!(self.states.len() == self.returned + 1, "one call at a time");
        self.states.push(Arc::new(state));
    }

    /// It has returned.
    pub(crate) fn succeed(&mut self) {
        self.returned = self.states.len() - 1;
    }

    /// What returned last committed at this time, which is later than all before.
    pub(crate) fn stamp(&mut self, time: u64) -> Result<(), String> {
        let state = self.states.get_mut(self.returned).expect("one state has been returned for");
        let state = Arc::make_mut(state);
        if time <= state.stamp {
            return Err(format!("a commit at {time} comes after one at {}", state.stamp));
        }
        state.stamp = time;
        Ok(())
    }

    /// It has returned, and nothing happened.
    pub(crate) fn fail(&mut self) {
        self.states.truncate(self.returned + 1);
    }

    /// The number of the current state.
    pub(crate) fn number(&self) -> usize {
        self.gone + self.returned
    }

    /// The state of this number is durable.
    pub(crate) fn synced(&mut self, number: usize) {
        let places = number.saturating_sub(self.gone);
        self.states.drain(..places);
        self.returned -= places;
        self.gone += places;
    }

    /// What a power cut may leave.
    pub(crate) fn after_power_cut(&self) -> &[Arc<State>] {
        &self.states
    }

    /// What the death of the process may leave.
    pub(crate) fn after_kill(&self) -> &[Arc<State>] {
        self.states.split_at(self.returned).1
    }
}

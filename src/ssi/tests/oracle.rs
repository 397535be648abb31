//! A brute-force judge of histories, which shares nothing with the certifier.
//!
//! It sees what each transaction read (which version of which key), what it wrote, and the moments
//! at which it began and ended. From those it builds the whole graph:
//!
//! ```text
//! wrote a version       ──► read that version
//! wrote a version       ──► wrote the next version of the key
//! read a version        ──► wrote the next version of the key
//! ended                 ──► began later (a read-only transaction: after its caller had heard)
//! ```
//!
//! A history is strictly serializable if and only if this graph has no cycle.

use std::collections::BTreeMap;

/// The most transactions in one history: one bit each.
pub(super) const TRANSACTIONS_MAX: usize = 128;

/// What the oracle knows about a transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) began: usize,
    /// `None` while it runs.
    pub(super) ended: Option<usize>,
    /// When its caller heard of its commit, if that was later than the commit.
    pub(super) acknowledged: usize,
    /// Whether its snapshot may lie behind commits that nobody has heard of.
    pub(super) read_only: bool,
    /// Its snapshot, and its commit timestamp if it has one. Not used to build the graph.
    pub(super) snapshot: u64,
    pub(super) timestamp: Option<u64>,
    /// Certified at commit: part of every cycle that the certifier may report.
    pub(super) certified: bool,
    /// Key, and the number of the version read; 0 is the absence that every key starts with.
    pub(super) reads: Vec<(u8, usize)>,
    /// Key, and the number of the version written.
    pub(super) writes: Vec<(u8, usize)>,
}

/// Who precedes whom, one bit for each successor.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<u128>,
}

impl Graph {
    /// The graph of those records that `include` admits.
    pub(super) fn new(records: &[Record], include: impl Fn(&Record) -> bool) -> Self {
        assert!(records.len() <= TRANSACTIONS_MAX);
        let included: Vec<bool> = records.iter().map(include).collect();
        let among = || records.iter().enumerate().filter(|&(at, _)| included[at]);
        let mut writers: BTreeMap<(u8, usize), usize> = BTreeMap::new();
        for (at, record) in among() {
            for &version in &record.writes {
                assert!(writers.insert(version, at).is_none(), "each version has one writer");
            }
        }
        let mut edges = vec![0; records.len()];
        let mut edge = |from: Option<&usize>, to: Option<&usize>| match (from, to) {
            (Some(&from), Some(&to)) if from != to => edges[from] |= 1 << to,
            _ => {}
        };
        for (at, record) in among() {
            for &(key, version) in &record.reads {
                edge(writers.get(&(key, version)), Some(&at));
                edge(Some(&at), next_writer(&writers, key, version));
            }
            for &(key, version) in &record.writes {
                edge(Some(&at), next_writer(&writers, key, version));
            }
            for (later, other) in among() {
                let heard = if other.read_only { record.acknowledged } else { 0 };
                if record.ended.is_some_and(|ended| ended.max(heard) < other.began) {
                    edge(Some(&at), Some(&later));
                }
            }
        }
        Self { edges }
    }

    pub(super) fn has_edge(&self, from: usize, to: usize) -> bool {
        self.edges[from] & 1 << to != 0
    }

    /// Everything that `from` precedes; with itself if it is on a cycle.
    pub(super) fn reachable(&self, from: usize) -> u128 {
        let mut reached = 0;
        let mut fresh = self.edges[from];
        while fresh != 0 {
            reached |= fresh;
            let mut next = 0;
            for at in bits(fresh) {
                next |= self.edges[at];
            }
            fresh = next & !reached;
        }
        reached
    }

    /// A transaction that precedes itself.
    pub(super) fn on_a_cycle(&self) -> Option<usize> {
        (0..self.edges.len()).find(|&at| self.reachable(at) & 1 << at != 0)
    }
}

fn next_writer(writers: &BTreeMap<(u8, usize), usize>, key: u8, version: usize) -> Option<&usize> {
    // A victim's versions, or those of a transaction outside the graph, leave gaps in the numbers.
    writers.range((key, version + 1)..=(key, usize::MAX)).next().map(|(_, at)| at)
}

/// The positions of the bits that are set.
pub(super) fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let at = set.trailing_zeros() as usize;
            set &= set - 1;
            at
        })
    })
}

#[test]
fn write_skew_is_a_cycle_and_one_half_of_it_is_not() {
    let half = |read: u8, write: u8| Record {
        reads: vec![(read, 0)],
        writes: vec![(write, 1)],
        ended: Some(1),
        ..Record::default()
    };
    let records = [half(1, 2), half(2, 1)];
    assert_eq!(Graph::new(&records, |_| true).on_a_cycle(), Some(0));
    assert_eq!(Graph::new(&records[..1], |_| true).on_a_cycle(), None);
}

#[test]
fn stale_read_breaks_real_time() {
    let writer = Record { ended: Some(1), writes: vec![(7, 1)], ..Record::default() };
    let reader = |began| Record { began, ended: Some(9), reads: vec![(7, 0)], ..Record::default() };
    assert!(Graph::new(&[writer.clone(), reader(2)], |_| true).on_a_cycle().is_some());
    assert!(Graph::new(&[writer, reader(0)], |_| true).on_a_cycle().is_none());
}

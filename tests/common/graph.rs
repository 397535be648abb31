//! The general judge: decides from what many threads observed whether it is allowed.
//!
//! The timestamps that the store claims are taken as a witness and checked against everything
//! that was seen. A wrong claim can only make the judge refuse; what it accepts is proven:
//! 1. Every value read is the newest one committed at or before the claimed snapshot. This
//!    covers aborted transactions too: nobody ever sees half of a commit or another's rollback.
//! 2. The snapshot contains every commit that returned before the transaction began, and no
//!    commit that began after the transaction ended.
//! 3. The version before a committed write is not newer than the writer's snapshot (first
//!    committer wins).
//! 4. The graph of versions (write to next write, write to read, read to next write, end to
//!    later begin) has no cycle; so some serial order agrees with all reads and with real time.
//!
//! 1 to 3 are snapshot isolation, strong and exact; 4 is added for serializable transactions.
//! A read that claims no snapshot is bound by 4 alone, which has an edge for what it must not miss.
//!
//! Where entries leave by themselves (`leaving`), 1 is: or nothing, if it has left. Each version
//! leaves once, which puts an order between those who saw it and those who missed it. In 4 a miss
//! comes before the next write of its key, like any read; about the write of what was missed it
//! says nothing.
//!
//! Ranges need no rule of their own: the set of keys is known, so a scan is a read of each key
//! of its interval, and a phantom is a changed read of "nothing".

use std::collections::{HashMap, HashSet};

use super::leaving::Departures;
use super::store::{ABSENT, KEYS, Key, State, Violation, bit, keys, violation};
use super::tally::{Judged, UNCLAIMED};

struct Version {
    timestamp: u64,
    value: u64,
    /// Index of the writer, `None` for the state at the start.
    writer: Option<usize>,
}

type Chains = [Vec<Version>; KEYS];

/// Judges one round that began with `initial` at a moment when nothing was open. Returns the
/// state after it.
pub(crate) fn judge(
    txns: &[Judged],
    initial: &State,
    departures: &Departures,
) -> Result<State, Violation> {
    let chains = chains(txns, initial)?;
    check_reads(txns, &chains, departures)?;
    let missed = check_moments(txns, &chains, departures)?;
    check_real_time(txns)?;
    check_first_committer(txns, &chains)?;
    check_cycles(txns, &chains, departures)?;
    let mut last = *initial;
    for (value, chain) in last.iter_mut().zip(&chains) {
        *value = chain.last().map_or(*value, |version| version.value);
        if missed.contains(value) || departures.told.contains(value) {
            *value = ABSENT;
        }
    }
    Ok(last)
}

/// Judges a round in which nobody claims a timestamp and no key is removed: the order of the
/// versions of a key is that in which each write saw the one before it.
pub(crate) fn judge_unclaimed(txns: &[Judged], initial: &State) -> Result<State, Violation> {
    let mut chains: Chains = Default::default();
    let mut last = *initial;
    for (key, chain) in (0_u8..).zip(&mut chains) {
        let at = usize::from(key);
        let writes = |txn: &Judged| txn.committed && txn.writes & bit(key) != 0;
        let mut over = HashMap::new();
        for (index, txn) in txns.iter().enumerate().filter(|(_, txn)| writes(txn)) {
            if over.insert(txn.seen[at], index).is_some() {
                return violation("lost update", format!("key {key}, over {}", txn.seen[at]));
            }
        }
        chain.push(Version { timestamp: 0, value: initial[at], writer: None });
        while let Some(index) = over.remove(&last[at]) {
            last[at] = txns[index].written[at];
            let timestamp = chain.len() as u64;
            chain.push(Version { timestamp, value: last[at], writer: Some(index) });
        }
        if let Some((value, writer)) = over.iter().next() {
            return violation(
                "over a version that never was",
                format!("key {key}, {value} under {:?}", txns[*writer]),
            );
        }
    }
    let none = Departures::default();
    check_reads(txns, &chains, &none)?;
    check_cycles(txns, &chains, &none)?;
    Ok(last)
}

fn chains(txns: &[Judged], initial: &State) -> Result<Chains, Violation> {
    let mut chains: Chains = std::array::from_fn(|key| {
        vec![Version { timestamp: 0, value: initial[key], writer: None }]
    });
    for (index, txn) in txns.iter().enumerate() {
        let Some(timestamp) = txn.commit else { continue };
        for key in keys(txn.writes) {
            let value = txn.written[usize::from(key)];
            let version = Version { timestamp, value, writer: Some(index) };
            chains[usize::from(key)].push(version);
        }
    }
    for chain in &mut chains {
        chain.sort_by_key(|version| version.timestamp);
        if let Some(twins) = chain.windows(2).find(|two| two[0].timestamp == two[1].timestamp) {
            return violation("two commits at one time", format!("{}", twins[0].timestamp));
        }
    }
    Ok(chains)
}

/// Position in `chain` of the version that a snapshot at `timestamp` sees.
fn visible(chain: &[Version], timestamp: u64) -> usize {
    chain.partition_point(|version| version.timestamp <= timestamp).saturating_sub(1)
}

/// Position in `chain` of the version that `txn` read or missed. Without a claim the value tells,
/// which no two versions share but removals and what left: `None` if it may be one of several.
fn version_read(
    txn: &Judged,
    key: u8,
    chain: &[Version],
    departures: &Departures,
) -> Option<usize> {
    if txn.snapshot != UNCLAIMED {
        return Some(visible(chain, txn.snapshot));
    }
    let found = txn.seen[usize::from(key)];
    let mut alike = (0..chain.len()).filter(|&at| is_due(found, chain[at].value, departures));
    alike.next().filter(|_| alike.next().is_none())
}

/// May `found` be what a reader got where `value` was the newest?
fn is_due(found: u64, value: u64, departures: &Departures) -> bool {
    found == value || (found == ABSENT && departures.may_miss(value))
}

fn check_reads(txns: &[Judged], chains: &Chains, departures: &Departures) -> Result<(), Violation> {
    for txn in txns {
        for key in keys(txn.known) {
            let chain = &chains[usize::from(key)];
            let found = txn.seen[usize::from(key)];
            if txn.snapshot == UNCLAIMED {
                if !chain.iter().any(|version| is_due(found, version.value, departures)) {
                    return violation("value from nowhere", format!("key {key}: {txn:?}"));
                }
                continue;
            }
            let due = chain[visible(chain, txn.snapshot)].value;
            if !is_due(found, due, departures) {
                return violation(
                    "snapshot not read",
                    format!("key {key}: {found} at {}, {due} is due: {txn:?}", txn.snapshot),
                );
            }
        }
    }
    Ok(())
}

/// Who saw and who missed one version of one key.
#[derive(Clone, Copy)]
struct Sight {
    /// The newest snapshot that saw it, and the oldest that missed it.
    seen: u64,
    missed: u64,
    /// When the last began that saw it, and when the first ended that missed it.
    seen_begun: u64,
    missed_ended: u64,
}

impl Sight {
    const NONE: Self = Self { seen: 0, missed: u64::MAX, seen_begun: 0, missed_ended: u64::MAX };

    fn note(&mut self, txn: &Judged, is_missed: bool) {
        let claimed = txn.snapshot != UNCLAIMED;
        if is_missed {
            self.missed_ended = self.missed_ended.min(txn.end);
            self.missed = self.missed.min(txn.snapshot);
        } else {
            self.seen_begun = self.seen_begun.max(txn.begin);
            self.seen = self.seen.max(if claimed { txn.snapshot } else { 0 });
        }
    }
}

/// Rules 2 to 4 of `leaving`. Answers the values that were missed.
fn check_moments(
    txns: &[Judged],
    chains: &Chains,
    departures: &Departures,
) -> Result<HashSet<u64>, Violation> {
    let mut sights: HashMap<u64, Sight> = HashMap::new();
    if departures.leaving.never() {
        return Ok(HashSet::new());
    }
    for txn in txns {
        let (mut missed, mut seen): (Vec<(Key, u64)>, Vec<(Key, u64)>) = Default::default();
        for key in keys(txn.known) {
            let chain = &chains[usize::from(key)];
            let Some(at) = version_read(txn, key, chain, departures) else { continue };
            let Version { timestamp, value, .. } = chain[at];
            let is_missed = txn.seen[usize::from(key)] != value;
            if value == ABSENT {
                continue;
            }
            sights.entry(value).or_insert(Sight::NONE).note(txn, is_missed);
            if is_missed && departures.leaving.ttl.is_none() && txn.snapshot <= timestamp {
                return violation("left before it came", format!("key {key}: {txn:?}"));
            }
            // What was there when the round began has no timestamp.
            match is_missed {
                _ if timestamp == 0 => {}
                true => missed.push((key, timestamp)),
                false => seen.push((key, timestamp)),
            }
        }
        departures.check_one_moment(&missed, &seen)?;
    }
    for (value, sight) in &sights {
        let by_snapshot = departures.leaving.ttl.is_none() && sight.missed <= sight.seen;
        if by_snapshot || sight.missed_ended < sight.seen_begun {
            return violation("seen after it left", format!("{value}"));
        }
    }
    let missed = sights.iter().filter(|(_, sight)| sight.missed_ended < u64::MAX);
    Ok(missed.map(|(value, _)| *value).collect())
}

fn check_real_time(txns: &[Judged]) -> Result<(), Violation> {
    let commits = || txns.iter().filter_map(|txn| txn.commit.map(|at| (txn, at)));
    let mut returned: Vec<(u64, u64)> = commits().map(|(txn, at)| (txn.end, at)).collect();
    returned.sort_unstable();
    let mut newest = 0;
    for entry in &mut returned {
        newest = newest.max(entry.1);
        entry.1 = newest;
    }
    let mut started: Vec<(u64, u64)> = commits().map(|(txn, at)| (txn.begin, at)).collect();
    started.sort_unstable();
    let mut oldest = u64::MAX;
    for entry in started.iter_mut().rev() {
        oldest = oldest.min(entry.1);
        entry.1 = oldest;
    }
    for txn in txns.iter().filter(|txn| txn.snapshot != UNCLAIMED) {
        let before = returned.partition_point(|&(end, _)| end < txn.begin);
        if before > 0 && returned[before - 1].1 > txn.snapshot {
            return violation("stale snapshot", format!("{txn:?}"));
        }
        let after = started.partition_point(|&(begin, _)| begin <= txn.end);
        if started.get(after).is_some_and(|&(_, at)| at <= txn.snapshot) {
            return violation("snapshot of the future", format!("{txn:?}"));
        }
        if txn.commit.is_some_and(|at| at <= txn.snapshot) {
            return violation("commit before its snapshot", format!("{txn:?}"));
        }
    }
    Ok(())
}

fn check_first_committer(txns: &[Judged], chains: &Chains) -> Result<(), Violation> {
    for two in chains.iter().flat_map(|chain| chain.windows(2)) {
        let writer = two[1].writer.map(|index| &txns[index]);
        if let Some(writer) = writer.filter(|writer| two[0].timestamp > writer.snapshot) {
            return violation("lost update", format!("over {}: {writer:?}", two[0].value));
        }
    }
    Ok(())
}

/// Edges of the graph; node `txns.len() + i` is the `i`-th moment of the time line.
struct Edges {
    to: Vec<Vec<u32>>,
}

impl Edges {
    fn add(&mut self, from: usize, to: usize) {
        if from != to {
            self.to[from].push(u32::try_from(to).expect("a round has fewer nodes"));
        }
    }
}

fn check_cycles(
    txns: &[Judged],
    chains: &Chains,
    departures: &Departures,
) -> Result<(), Violation> {
    let mut edges = Edges { to: vec![Vec::new(); txns.len() * 2] };
    add_time_line(txns, &mut edges);
    for chain in chains {
        for two in chain.windows(2) {
            if let (Some(first), Some(second)) = (two[0].writer, two[1].writer) {
                edges.add(first, second);
            }
        }
    }
    for (index, txn) in txns.iter().enumerate().filter(|(_, txn)| txn.counts()) {
        for key in keys(txn.reads()) {
            let chain = &chains[usize::from(key)];
            let Some(at) = version_read(txn, key, chain, departures) else { continue };
            let is_seen = chain[at].value == txn.seen[usize::from(key)];
            if let Some(writer) = chain[at].writer.filter(|_| is_seen) {
                edges.add(writer, index);
            }
            if let Some(writer) = chain.get(at + 1).and_then(|next| next.writer) {
                edges.add(index, writer);
            }
        }
    }
    match cycle(&edges.to) {
        None => Ok(()),
        Some(found) => {
            let members = found.iter().filter_map(|&node| txns.get(node));
            let shown: Vec<String> = members.map(|txn| format!("{txn:?}")).collect();
            violation("not serializable", format!("cycle\n  {}", shown.join("\n  ")))
        }
    }
}

/// Ends before begins, with one node for each end, so that there are few edges: a moment leads
/// to the next moment and to every transaction that begins before the next moment.
fn add_time_line(txns: &[Judged], edges: &mut Edges) {
    let counting = |index: &usize| txns[*index].counts();
    let mut by_end: Vec<usize> = (0..txns.len()).filter(counting).collect();
    by_end.sort_unstable_by_key(|&index| txns[index].end);
    for (moment, &index) in by_end.iter().enumerate() {
        edges.add(index, txns.len() + moment);
        if moment > 0 {
            edges.add(txns.len() + moment - 1, txns.len() + moment);
        }
    }
    for index in (0..txns.len()).filter(counting) {
        let passed = by_end.partition_point(|&other| txns[other].end < txns[index].begin);
        if passed > 0 {
            edges.add(txns.len() + passed - 1, index);
        }
    }
}

/// Some cycle of the graph, if it has one.
fn cycle(to: &[Vec<u32>]) -> Option<Vec<usize>> {
    let mut waits = vec![0_u32; to.len()];
    for &node in to.iter().flatten() {
        waits[node as usize] += 1;
    }
    let mut free: Vec<usize> = (0..to.len()).filter(|&node| waits[node] == 0).collect();
    let mut taken = 0;
    while let Some(node) = free.pop() {
        taken += 1;
        for &next in &to[node] {
            waits[next as usize] -= 1;
            if waits[next as usize] == 0 {
                free.push(next as usize);
            }
        }
    }
    if taken == to.len() {
        return None;
    }
    Some(shortest(to, &waits))
}

/// The shortest cycle among the nodes that still wait.
fn shortest(to: &[Vec<u32>], waits: &[u32]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::new();
    for start in (0..to.len()).filter(|&node| waits[node] > 0) {
        let mut from = vec![usize::MAX; to.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        'search: while let Some(node) = queue.pop_front() {
            for next in to[node].iter().map(|&next| next as usize) {
                if next == start {
                    let mut path = vec![node];
                    while path[path.len() - 1] != start {
                        path.push(from[path[path.len() - 1]]);
                    }
                    path.reverse();
                    if best.is_empty() || path.len() < best.len() {
                        best = path;
                    }
                    break 'search;
                }
                if from[next] == usize::MAX && waits[next] > 0 {
                    from[next] = node;
                    queue.push_back(next);
                }
            }
        }
    }
    best
}

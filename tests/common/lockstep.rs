//! The driver of one-thread runs: several open transactions, one step at a time, every answer
//! judged when it is given (`tally`), every abort asked for its reason.
//!
//! A history lies between two moments at which no transaction is open. Aborts are counted by
//! kind. `Cycle` must be justified: with the transaction the graph of the committed ones has a
//! cycle. `WriteWrite` must be justified: a transaction that committed after this one began
//! wrote or locked a key that this one wrote or locked. The others are counted.
//!
//! Where entries leave by themselves the store tells of it, and the oracle takes the key away as
//! if nobody had removed it (`leaving`). It is in no graph, so it justifies no abort. A commit may
//! be refused for want of room, unless it only removes.

use std::time::Instant;

use super::leaving::{Base, Departures, Leaving};
use super::probe::{Probe, Stop};
use super::program::{Action, Kind, SLOTS, Step};
use super::store::{ABSENT, Abort, KEYS, Key, Level, Reader, State, Store, Transaction, Violation};
use super::store::{bit, keys, violation};
use super::tally::{Judged, Node, cyclic};
use super::{brute, graph};

/// Transactions that a history may hold; the generators stay far below.
const WINDOW_MAX: usize = 48;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) histories: u64,
    pub(crate) commits: u64,
    pub(crate) snapshots: u64,
    pub(crate) rollbacks: u64,
    pub(crate) write_write: u64,
    pub(crate) cycles: u64,
    /// Cycles that exist only if a removal of nothing counts as a write.
    pub(crate) idle_cycles: u64,
    pub(crate) read_only_pivots: u64,
    /// Those of the pivots that a read-only snapshot's reads turn into a cycle.
    pub(crate) real_pivots: u64,
    pub(crate) windows_lost: u64,
    pub(crate) search_budgets: u64,
    /// Refused because a limit left no room.
    pub(crate) no_room: u64,
    /// Entries that left by themselves.
    pub(crate) departures: u64,
    /// Entries that were missed because they had expired.
    pub(crate) expired: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.commits += other.commits;
        self.snapshots += other.snapshots;
        self.rollbacks += other.rollbacks;
        self.write_write += other.write_write;
        self.cycles += other.cycles;
        self.idle_cycles += other.idle_cycles;
        self.read_only_pivots += other.read_only_pivots;
        self.real_pivots += other.real_pivots;
        self.windows_lost += other.windows_lost;
        self.search_budgets += other.search_budgets;
        self.no_room += other.no_room;
        self.departures += other.departures;
        self.expired += other.expired;
    }

    /// Aborts that no cycle among tracked transactions justifies.
    pub(crate) fn unforced(&self) -> u64 {
        self.read_only_pivots + self.windows_lost + self.search_budgets
    }
}

enum Open<'s, S: Store + 's> {
    Txn(S::Txn<'s>),
    Snap(S::Snap<'s>),
}

struct Slot<'s, S: Store + 's> {
    open: Open<'s, S>,
    kind: Kind,
    begin: u64,
    claimed: u64,
    base: Base,
    /// When it was opened, where that matters.
    opened: Option<Instant>,
    probe: Probe,
}

/// A committed or finished transaction with what aborts are justified by.
struct Done {
    node: Node,
    locked: u8,
    judged: Judged,
    read_only: bool,
}

pub(crate) struct Lockstep<'s, S: Store + 's> {
    store: &'s S,
    slots: [Option<Slot<'s, S>>; SLOTS],
    /// What a reader finds that begins now.
    now: Base,
    /// The newest committed values, and which of them the store has said left.
    newest: State,
    told: u8,
    departures: Departures,
    /// The state when the running history began.
    origin: State,
    clock: u64,
    fresh: u64,
    done: Vec<Done>,
    pub(crate) counts: Counts,
    /// Judge every `brute_every`-th history by `graph` and `brute` too.
    brute_every: u64,
}

impl<'s, S: Store> Lockstep<'s, S> {
    pub(crate) fn new(store: &'s S, brute_every: u64) -> Self {
        Self {
            store,
            slots: [const { None }; SLOTS],
            now: Base::new(),
            newest: [ABSENT; KEYS],
            told: 0,
            departures: Departures::of(store.leaving()),
            origin: [ABSENT; KEYS],
            clock: 0,
            fresh: 0,
            done: Vec::new(),
            counts: Counts::default(),
            brute_every,
        }
    }

    /// Runs `steps`, then rolls back what is still open, then checks the final state.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Violation> {
        for step in steps {
            self.step(*step)?;
        }
        for slot in 0..SLOTS {
            self.end(slot, false)?;
        }
        let begun = self.instant();
        let last = self.store.snapshot();
        let mut probe = Probe::default();
        match probe.read(&last, Action::Len) {
            Err(Stop::Wrong(wrong)) => Err(wrong),
            Err(Stop::Abort(abort)) => violation("snapshot aborted", format!("{abort:?}")),
            Ok(()) => self.check(&probe, begun).map(drop),
        }
    }

    fn leaving(&self) -> Leaving {
        self.departures.leaving
    }

    /// The time, where it matters.
    fn instant(&self) -> Option<Instant> {
        self.leaving().ttl.map(|_| Instant::now())
    }

    /// Compares what a reader saw that began just now, at `opened`.
    fn check(&self, probe: &Probe, opened: Option<Instant>) -> Result<u8, Violation> {
        self.now.check(&self.departures, (&probe.seen, probe.known), opened)
    }

    fn step(&mut self, step: Step) -> Result<(), Violation> {
        let at = usize::from(step.slot) % SLOTS;
        match step.action {
            Action::Vacuum => {
                self.store.vacuum();
                return self.note_departures();
            }
            Action::Evict(key) => {
                self.store.evict(key);
                return self.note_departures();
            }
            Action::Press => {
                self.store.press();
                return self.note_departures();
            }
            Action::Look(key) => return self.look(key),
            Action::Begin(kind) if self.slots[at].is_none() => {
                return self.begin(at, kind);
            }
            Action::Commit => return self.end(at, true),
            Action::RollBack => return self.end(at, false),
            _ => {}
        }
        self.clock += 1;
        let fresh = self.fresh + 1;
        let Some(slot) = &mut self.slots[at] else { return Ok(()) };
        let outcome = match (&slot.open, step.action) {
            (Open::Snap(snap), action) if action.reads_only() => slot.probe.read(snap, action),
            (_, Action::Begin(_)) | (Open::Snap(_), _) => return Ok(()),
            (Open::Txn(txn), action) => {
                self.fresh = fresh;
                slot.probe.run(txn, action, fresh)
            }
        };
        let seen = (&slot.probe.seen, slot.probe.known);
        let expired = slot.base.check(&self.departures, seen, slot.opened)?;
        let (values, is_snapshot) = (slot.base.values, slot.kind == Kind::ReadOnly);
        self.note_expired(expired, &values);
        match outcome {
            Ok(()) if is_snapshot => self.check_graph(),
            Ok(()) => Ok(()),
            Err(Stop::Wrong(wrong)) => Err(wrong),
            Err(Stop::Abort(abort)) => self.aborted(at, abort),
        }
    }

    /// Takes away what the store says has left.
    fn note_departures(&mut self) -> Result<(), Violation> {
        if self.leaving().never() {
            return Ok(());
        }
        for value in self.store.departed() {
            let is_it = |key: &u8| self.newest[usize::from(*key)] == value;
            let key = (0_u8..8).find(is_it).filter(|&key| self.told & bit(key) == 0);
            let Some(key) = key.filter(|_| value != ABSENT) else {
                return violation("left without being there", format!("{value}"));
            };
            self.told |= bit(key);
            self.now.values[usize::from(key)] = ABSENT;
            self.departures.told.insert(value);
            self.counts.departures += 1;
        }
        Ok(())
    }

    /// What one reader missed because it had expired, all later readers will miss.
    fn note_expired(&mut self, expired: u8, values: &State) {
        for at in keys(expired).map(usize::from) {
            if self.now.values[at] == values[at] {
                self.now.values[at] = ABSENT;
                // Told by a reader, who may have been rolled back.
                self.departures.told.insert(values[at]);
                self.counts.expired += 1;
            }
        }
    }

    /// A read-only transaction of one read, which begins and ends within this step.
    fn look(&mut self, key: Key) -> Result<(), Violation> {
        self.clock += 1;
        let mut probe = Probe::default();
        let opened = self.instant();
        probe.seen[usize::from(key)] = self.store.look(key);
        probe.known = bit(key);
        probe.tracked = bit(key);
        let expired = self.check(&probe, opened)?;
        let values = self.now.values;
        self.note_expired(expired, &values);
        let judged = Judged::looked(self.clock, &probe);
        let node = Node {
            begin: self.clock,
            end: self.clock,
            reads: probe.tracked,
            writes: 0,
            idle_writes: 0,
        };
        self.counts.snapshots += 1;
        self.done.push(Done { node, locked: 0, judged, read_only: true });
        self.check_graph()?;
        self.quiesce()
    }

    fn begin(&mut self, at: usize, kind: Kind) -> Result<(), Violation> {
        self.clock += 1;
        let opened = self.instant();
        let (open, claimed) = match kind {
            Kind::ReadOnly => {
                let snap = self.store.snapshot();
                let claimed = snap.snapshot_timestamp();
                (Open::Snap(snap), claimed)
            }
            Kind::ReadWrite(level) => {
                let txn = self.store.begin(level);
                let claimed = txn.snapshot_timestamp();
                (Open::Txn(txn), claimed)
            }
        };
        let (begin, base, probe) = (self.clock, self.now, Probe::default());
        self.slots[at] = Some(Slot { open, kind, begin, claimed, base, opened, probe });
        if self.done.len() > WINDOW_MAX {
            return violation("program", "a history of too many transactions".into());
        }
        Ok(())
    }

    fn end(&mut self, at: usize, commit: bool) -> Result<(), Violation> {
        let Some(slot) = self.slots[at].take() else { return Ok(()) };
        self.clock += 1;
        let done = self.describe(&slot);
        match slot.open {
            Open::Snap(_) => {
                self.counts.snapshots += 1;
                self.done.push(done);
            }
            Open::Txn(txn) if commit => {
                let since = self.instant();
                let outcome = txn.commit();
                // What left made room for what was written.
                self.note_departures()?;
                match outcome {
                    Ok(timestamp) => self.committed(done, timestamp, since)?,
                    Err(abort) => self.refused(&done, abort)?,
                }
            }
            Open::Txn(txn) => {
                txn.roll_back();
                self.counts.rollbacks += 1;
            }
        }
        self.quiesce()
    }

    fn describe(&self, slot: &Slot<'s, S>) -> Done {
        let (written, values) = slot.probe.writes();
        let idle = keys(written)
            .filter(|&key| values[usize::from(key)] == ABSENT)
            .filter(|&key| slot.probe.found(key).unwrap_or(ABSENT) == ABSENT)
            .fold(0, |set, key| set | bit(key));
        let judged = Judged {
            kind: slot.kind,
            begin: slot.begin,
            end: self.clock,
            snapshot: slot.claimed,
            commit: None,
            committed: false,
            seen: slot.probe.seen,
            known: slot.probe.known,
            tracked: slot.probe.tracked,
            written: *values,
            writes: written & !idle,
        };
        let node = Node {
            begin: slot.begin,
            end: self.clock,
            reads: judged.reads(),
            writes: judged.writes,
            idle_writes: idle,
        };
        Done { node, locked: slot.probe.locked, judged, read_only: slot.kind == Kind::ReadOnly }
    }

    fn committed(
        &mut self,
        mut done: Done,
        timestamp: u64,
        since: Option<Instant>,
    ) -> Result<(), Violation> {
        self.counts.commits += 1;
        for other in self.done.iter().filter(|other| other.node.end > done.node.begin) {
            if other.node.writes & done.node.writes != 0 {
                return violation("lost update", format!("{:?} and {:?}", other.node, done.node));
            }
        }
        for key in keys(done.judged.writes) {
            let value = done.judged.written[usize::from(key)];
            self.now.write(key, value, timestamp, since);
            self.newest[usize::from(key)] = value;
        }
        self.told &= !done.judged.writes;
        done.judged.committed = true;
        done.judged.commit = (done.judged.writes != 0).then_some(timestamp);
        self.done.push(done);
        self.check_graph()
    }

    fn aborted(&mut self, at: usize, abort: Abort) -> Result<(), Violation> {
        let Some(slot) = self.slots[at].take() else { return Ok(()) };
        self.clock += 1;
        let done = self.describe(&slot);
        self.refused(&done, abort)?;
        self.quiesce()
    }

    /// Nodes of the graph; with the read-only snapshots, open ones included, or without.
    fn nodes(&self, read_only: bool) -> Vec<Node> {
        let finished = self.done.iter().filter(|done| read_only || !done.read_only);
        let open = self.slots.iter().flatten().filter(|slot| read_only && is_snapshot(slot));
        finished
            .map(|done| done.node)
            .chain(open.map(|slot| Node {
                begin: slot.begin,
                end: u64::MAX,
                reads: slot.probe.tracked,
                writes: 0,
                idle_writes: 0,
            }))
            .collect()
    }

    fn check_graph(&self) -> Result<(), Violation> {
        let nodes = self.nodes(true);
        if cyclic(&nodes) {
            return violation("not serializable", format!("{nodes:?}"));
        }
        Ok(())
    }

    /// Is this abort one that has to be? `Abort::Cycle` and `Abort::WriteWrite` must say so.
    fn refused(&mut self, done: &Done, abort: Abort) -> Result<(), Violation> {
        let serializable = done.judged.kind == Kind::ReadWrite(Level::Serializable);
        let wanted = done.node.writes | done.node.idle_writes | done.locked;
        let has_lost = abort == Abort::WindowLost && wanted != 0;
        if !serializable && !has_lost && !matches!(abort, Abort::WriteWrite | Abort::NoRoom) {
            return violation("certified at level snapshot", format!("{abort:?} {:?}", done.node));
        }
        match abort {
            Abort::WriteWrite => {
                self.counts.write_write += 1;
                let taken = self.done.iter().filter(|other| other.node.end > done.node.begin);
                let taken = taken.fold(0, |set, other| {
                    set | other.node.writes | other.node.idle_writes | other.locked
                });
                if wanted & taken == 0 {
                    return violation("write conflict without cause", format!("{:?}", done.node));
                }
            }
            Abort::Cycle => {
                self.counts.cycles += 1;
                self.justify_cycle(done)?;
            }
            Abort::ReadOnlyPivot => {
                self.counts.read_only_pivots += 1;
                let mut nodes = self.nodes(true);
                nodes.push(done.node);
                self.counts.real_pivots += u64::from(cyclic(&nodes));
            }
            Abort::WindowLost => self.counts.windows_lost += 1,
            Abort::SearchBudget => self.counts.search_budgets += 1,
            Abort::NoRoom => {
                self.counts.no_room += 1;
                done.judged.check_wants_room()?;
            }
        }
        Ok(())
    }

    fn justify_cycle(&mut self, done: &Done) -> Result<(), Violation> {
        let mut nodes = self.nodes(false);
        nodes.push(done.node);
        if cyclic(&nodes) {
            return Ok(());
        }
        for node in &mut nodes {
            node.writes |= node.idle_writes;
        }
        if cyclic(&nodes) {
            self.counts.idle_cycles += 1;
            return Ok(());
        }
        violation("abort without a cycle", format!("{:?} among {nodes:?}", done.node))
    }

    /// Closes the history when nothing is open any more.
    fn quiesce(&mut self) -> Result<(), Violation> {
        if self.slots.iter().any(Option::is_some) {
            return Ok(());
        }
        self.counts.histories += 1;
        if self.counts.histories.is_multiple_of(self.brute_every) {
            let judged: Vec<Judged> = self.done.iter().map(|done| done.judged.clone()).collect();
            let after = graph::judge(&judged, &self.origin, &self.departures)?;
            if after != self.now.values {
                return violation("judges differ", format!("{after:?}, {:?}", self.now.values));
            }
            let order = |judged| brute::serial_order(judged, &self.origin, &self.departures);
            if judged.len() <= brute::MOST && order(&judged).is_none() {
                return violation("no serial order", format!("{judged:?}"));
            }
        }
        self.done.clear();
        self.departures.told.clear();
        self.origin = self.now.values;
        Ok(())
    }
}

fn is_snapshot<S: Store>(slot: &Slot<'_, S>) -> bool {
    slot.kind == Kind::ReadOnly
}

//! Records histories and writes them in the formats of two checkers from elsewhere, so that a
//! reader who trusts no judge of ours can bring another.
//!
//! ```text
//! Recorder --session()--> Session --begin()--> Attempt --read, write, append, ..--> end(bool)
//!     |                     one process, one attempt at a time
//!     +--history()--> History --elle()---> one EDN map per line (Elle, `rw-register` or
//!                             |            `list-append`, by the operations recorded)
//!                             +--dbcop()-> one JSON object (dbcop)
//! ```
//!
//! 1. All begins and ends draw from one atomic sequence, so lines sort in real-time order.
//! 2. A session's attempts do not overlap, because `begin` borrows the session.
//! 3. An attempt that is dropped without an end counts as failed.
//!
//! What a history must be is for the caller to see to: a value is written to a key only once,
//! keys are not removed, and an attempt is ended as committed only if it certainly did. Both
//! formats know only single keys; ranges go in as reads of every key that the range can hold.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A register was read; `None` if it was never written.
    Read { key: u64, value: Option<u64> },
    /// A register was written, with a value that nothing else writes to it.
    Write { key: u64, value: u64 },
    /// An element, unique for the key, was appended to a list.
    Append { key: u64, value: u64 },
    /// A whole list was read; `None` if it was never appended to.
    ReadList { key: u64, values: Option<Vec<u64>> },
}

#[derive(Clone, Debug)]
struct Entry {
    session: u64,
    invoked: u64,
    returned: u64,
    committed: bool,
    operations: Vec<Operation>,
}

/// Collects what sessions on any threads do.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    clock: AtomicU64,
    sessions: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

/// One client, which runs one transaction after the other.
#[derive(Debug)]
pub(crate) struct Session<'r> {
    recorder: &'r Recorder,
    number: u64,
}

/// One try of one transaction.
#[derive(Debug)]
pub(crate) struct Attempt<'s> {
    recorder: &'s Recorder,
    entry: Entry,
}

/// What a recorder has collected.
#[derive(Clone, Debug)]
pub(crate) struct History {
    sessions: u64,
    entries: Vec<Entry>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn session(&self) -> Session<'_> {
        // Relaxed: only the number has to be unique.
        Session { recorder: self, number: self.sessions.fetch_add(1, Ordering::Relaxed) }
    }

    /// Everything that has ended so far.
    pub(crate) fn history(&self) -> History {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        History { sessions: self.sessions.load(Ordering::Relaxed), entries }
    }

    fn tick(&self) -> u64 {
        // SeqCst: the sequence is the real-time order that a checker will hold us to.
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

impl Session<'_> {
    /// Call this before the transaction itself begins.
    pub(crate) fn begin(&mut self) -> Attempt<'_> {
        let invoked = self.recorder.tick();
        let session = self.number;
        let operations = Vec::new();
        let entry = Entry { session, invoked, returned: 0, committed: false, operations };
        Attempt { recorder: self.recorder, entry }
    }
}

impl Attempt<'_> {
    pub(crate) fn read(&mut self, key: u64, value: Option<u64>) {
        self.entry.operations.push(Operation::Read { key, value });
    }

    pub(crate) fn write(&mut self, key: u64, value: u64) {
        self.entry.operations.push(Operation::Write { key, value });
    }

    pub(crate) fn read_list(&mut self, key: u64, values: Option<&[u64]>) {
        let values = values.map(<[u64]>::to_vec);
        self.entry.operations.push(Operation::ReadList { key, values });
    }

    pub(crate) fn append(&mut self, key: u64, value: u64) {
        self.entry.operations.push(Operation::Append { key, value });
    }

    /// Call this after the commit or the rollback has returned.
    pub(crate) fn end(mut self, committed: bool) {
        self.entry.committed = committed;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.entry.returned = self.recorder.tick();
        let mut entries = self.recorder.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(self.entry.clone());
    }
}

impl History {
    /// Transactions that committed.
    pub(crate) fn commits(&self) -> usize {
        self.entries.iter().filter(|entry| entry.committed).count()
    }

    /// One EDN map per line: an `:invoke` and an `:ok` or `:fail` for each attempt.
    pub(crate) fn elle(&self) -> String {
        let mut lines: Vec<(u64, &str, &Entry)> = Vec::new();
        for entry in &self.entries {
            lines.push((entry.invoked, ":invoke", entry));
            lines.push((entry.returned, if entry.committed { ":ok" } else { ":fail" }, entry));
        }
        lines.sort_unstable_by_key(|line| line.0);
        let mut text = String::new();
        for (time, kind, entry) in lines {
            let known = kind == ":ok";
            let values: Vec<String> =
                entry.operations.iter().map(|operation| operation.edn(known)).collect();
            let value = values.join(" ");
            let session = entry.session;
            put(
                &mut text,
                format_args!(
                    "{{:process {session}, :type {kind}, :f :txn, :time {time}, \
                     :index {time}, :value [{value}]}}\n"
                ),
            );
        }
        text
    }

    /// One JSON object whose `data` holds sessions of transactions of events. dbcop knows
    /// registers only and takes a transaction as one step: so of a list it is told the last
    /// element, and of each key the first read, unless a write precedes it, and the last write.
    pub(crate) fn dbcop(&self) -> String {
        let mut sessions = vec![Vec::new(); usize::try_from(self.sessions).expect("fits")];
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.invoked);
        for entry in entries {
            let events: Vec<String> = entry.summary().map(Operation::json).collect();
            let (events, committed) = (events.join(","), entry.committed);
            let transaction = format!("{{\"events\":[{events}],\"committed\":{committed}}}");
            sessions[usize::try_from(entry.session).expect("fits")].push(transaction);
        }
        let data: Vec<String> = sessions.iter().map(|all| format!("[{}]", all.join(","))).collect();
        format!(
            "{{\"params\":{{\"id\":0,\"n_node\":{},\"n_variable\":{},\"n_transaction\":{},\
             \"n_event\":{}}},\"info\":\"palisade\",\"start\":\"1970-01-01T00:00:00Z\",\
             \"end\":\"1970-01-01T00:00:00Z\",\"data\":[{}]}}\n",
            self.sessions,
            self.entries
                .iter()
                .flat_map(|entry| &entry.operations)
                .map(Operation::key)
                .max()
                .map_or(0, |key| key + 1),
            sessions.iter().map(Vec::len).max().unwrap_or(0),
            self.entries.iter().map(|entry| entry.operations.len()).max().unwrap_or(0),
            data.join(",")
        )
    }
}

impl Entry {
    /// The operations by which the transaction as a whole is known to others.
    fn summary(&self) -> impl Iterator<Item = &Operation> {
        let all = &self.operations;
        all.iter().enumerate().filter_map(move |(at, operation)| {
            let same = |other: &&Operation| other.key() == operation.key();
            let shown = match operation.is_write() {
                true => !all[at + 1..].iter().filter(same).any(Operation::is_write),
                false => !all[..at].iter().any(|other| same(&other)),
            };
            shown.then_some(operation)
        })
    }
}

impl Operation {
    fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Append { .. })
    }

    fn key(&self) -> u64 {
        match self {
            Self::Read { key, .. }
            | Self::Write { key, .. }
            | Self::Append { key, .. }
            | Self::ReadList { key, .. } => *key,
        }
    }

    /// What was read is told only where it is `known`, that is in the line of the answer.
    fn edn(&self, known: bool) -> String {
        match self {
            Self::Write { key, value } => format!("[:w {key} {value}]"),
            Self::Append { key, value } => format!("[:append {key} {value}]"),
            Self::Read { key, value: Some(value) } if known => format!("[:r {key} {value}]"),
            Self::ReadList { key, values: Some(values) } if known => {
                let values: Vec<String> = values.iter().map(u64::to_string).collect();
                format!("[:r {key} [{}]]", values.join(" "))
            }
            Self::Read { key, .. } | Self::ReadList { key, .. } => format!("[:r {key} nil]"),
        }
    }

    fn json(&self) -> String {
        let read = |key: u64, version: Option<u64>| {
            let version = version.map_or("null".to_owned(), |version| version.to_string());
            format!("{{\"Read\":{{\"variable\":{key},\"version\":{version}}}}}")
        };
        match self {
            Self::Read { key, value } => read(*key, *value),
            Self::ReadList { key, values } => {
                read(*key, values.as_ref().and_then(|values| values.last().copied()))
            }
            Self::Write { key, value } | Self::Append { key, value } => {
                format!("{{\"Write\":{{\"variable\":{key},\"version\":{value}}}}}")
            }
        }
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes everything");
}

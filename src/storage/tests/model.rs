//! Random histories on the simulated disk against a model that knows nothing of its insides.
//!
//! The model keeps, for each file, every content it has had since its last sync, and every name
//! operation since the last sync of the directory. Without a crash the disk must show the last of
//! each. After one, every sector must be cut at most once and made of contents the file has had,
//! and the names must be what some subset of the pending operations gives. Then the history goes
//! on from what is left: three lives.

use super::TOP;
use crate::storage::{Access, FaultDisk, File, Storage};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SECTOR: usize = 512;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Action {
    Create(usize),
    Write {
        name: usize,
        offset: usize,
        length: usize,
        byte: u8,
    },
    Store {
        name: usize,
        offset: usize,
        length: usize,
        byte: u8,
    },
    Allocate {
        name: usize,
        length: usize,
    },
    Rename(usize, usize),
    Remove(usize),
    SyncData(usize),
    SyncAll(usize),
    SyncDir,
    WriteBack(usize),
    /// The process dies and another one finds what it left.
    Kill(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let name = || 0..NAMES.len();
    let place = || (name(), 0_usize..6000, 1_usize..1500, 1_u8..);
    let action = prop_oneof![
        3 => name().prop_map(Action::Create),
        6 => place().prop_map(|(name, offset, length, byte)| {
            Action::Write { name, offset, length, byte }
        }),
        3 => place().prop_map(|(name, offset, length, byte)| {
            Action::Store { name, offset, length, byte }
        }),
        1 => (name(), 0_usize..9000).prop_map(|(name, length)| Action::Allocate { name, length }),
        2 => (name(), name()).prop_map(|(from, to)| Action::Rename(from, to)),
        1 => name().prop_map(Action::Remove),
        2 => name().prop_map(Action::SyncData),
        1 => name().prop_map(Action::SyncAll),
        2 => Just(Action::SyncDir),
        1 => name().prop_map(Action::WriteBack),
        1 => any::<u64>().prop_map(Action::Kill),
    ];
    vec(action, 0..30)
}

/// A file: what it held at its last sync, and after each change since, the last one at the end.
#[derive(Clone, Debug)]
struct ModelFile {
    contents: Vec<Vec<u8>>,
    /// A power cut leaves at least this much.
    length_min: usize,
    /// The end of what was written, which a sync of data keeps.
    written: usize,
}

impl ModelFile {
    fn durable(bytes: Vec<u8>) -> Self {
        Self { length_min: bytes.len(), written: bytes.len(), contents: vec![bytes] }
    }

    fn now(&self) -> &Vec<u8> {
        self.contents.last().unwrap()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let mut next = self.now().clone();
        next.resize(next.len().max(end), 0);
        next[offset..end].copy_from_slice(bytes);
        self.written = self.written.max(end);
        self.contents.push(next);
    }

    fn grow(&mut self, length: usize) {
        let mut next = self.now().clone();
        next.resize(next.len().max(length), 0);
        self.contents.push(next);
    }

    fn sync(&mut self, all: bool) {
        self.length_min = self.length_min.max(if all { self.now().len() } else { self.written });
        self.contents = vec![self.now().clone()];
    }

    /// Whether a power cut may leave these bytes.
    fn allows(&self, left: &[u8]) -> bool {
        let length = self.length_min <= left.len() && left.len() <= self.now().len();
        length && (0..left.len()).step_by(SECTOR).all(|at| self.allows_sector(left, at))
    }

    fn allows_sector(&self, left: &[u8], at: usize) -> bool {
        let end = left.len().min(at + SECTOR);
        let had = |bytes: &Vec<u8>| {
            let mut sector: Vec<u8> = bytes.iter().skip(at).take(end - at).copied().collect();
            sector.resize(end - at, 0);
            sector
        };
        let versions: BTreeSet<Vec<u8>> = self.contents.iter().map(had).collect();
        let sector = &left[at..end];
        let equal =
            |one: &mut dyn Iterator<Item = (&u8, &u8)>| one.take_while(|(a, b)| a == b).count();
        let heads = versions.iter().map(|had| equal(&mut had.iter().zip(sector)));
        let tails =
            versions.iter().map(|had| equal(&mut had.iter().rev().zip(sector.iter().rev())));
        heads.max().unwrap() + tails.max().unwrap() >= sector.len()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Bind(usize, usize),
    Move(usize, usize),
    Unbind(usize),
}

type ModelNames = BTreeMap<usize, usize>;

#[derive(Debug, Default)]
struct Model {
    files: Vec<ModelFile>,
    durable: ModelNames,
    pending: Vec<Change>,
}

fn apply<'c>(names: &ModelNames, changes: impl Iterator<Item = &'c Change>) -> ModelNames {
    let mut names = names.clone();
    for change in changes {
        match *change {
            Change::Bind(name, file) => drop(names.insert(name, file)),
            Change::Move(name, file) => {
                names.retain(|_, at| *at != file);
                names.insert(name, file);
            }
            Change::Unbind(name) => drop(names.remove(&name)),
        }
    }
    names
}

impl Model {
    /// What a power cut left is all there is, and durable.
    fn of(disk: &FaultDisk) -> Self {
        let mut model = Self::default();
        for (name, path) in NAMES.iter().enumerate() {
            if let Some(bytes) = disk.content(Path::new(path)) {
                model.durable.insert(name, model.files.len());
                model.files.push(ModelFile::durable(bytes));
            }
        }
        model
    }

    fn names(&self) -> ModelNames {
        apply(&self.durable, self.pending.iter())
    }

    fn file(&mut self, name: usize) -> Option<&mut ModelFile> {
        let file = *self.names().get(&name)?;
        self.files.get_mut(file)
    }

    fn allows(&self, left: &FaultDisk) -> bool {
        let found: Vec<Option<Vec<u8>>> =
            NAMES.iter().map(|path| left.content(Path::new(path))).collect();
        let pending = self.pending.iter().enumerate();
        (0..1_u32 << self.pending.len()).any(|subset| {
            let kept = pending.clone().filter(|(at, _)| subset >> at & 1 != 0);
            let names = apply(&self.durable, kept.map(|(_, change)| change));
            found.iter().enumerate().all(|(name, bytes)| match (names.get(&name), bytes) {
                (Some(&file), Some(bytes)) => self.files[file].allows(bytes),
                (None, None) => true,
                _ => false,
            })
        })
    }

    fn shows(&self, disk: &FaultDisk) -> bool {
        let names = self.names();
        NAMES.iter().enumerate().all(|(name, path)| {
            let expected = names.get(&name).map(|&file| self.files[file].now());
            disk.content(Path::new(path)).as_ref() == expected
        })
    }
}

/// Carries an action out on both. Nothing happens if the files for it are not there.
fn perform(disk: &mut FaultDisk, model: &mut Model, action: &Action) {
    let open = |name: usize| -> Option<Box<dyn File>> {
        disk.open(Path::new(NAMES[name]), Access::Write).ok()
    };
    match *action {
        Action::Create(name) => {
            let made = disk.open(Path::new(NAMES[name]), Access::Create).is_ok();
            assert_eq!(made, !model.names().contains_key(&name));
            if made {
                model.pending.push(Change::Bind(name, model.files.len()));
                model.files.push(ModelFile::durable(Vec::new()));
            }
        }
        Action::Write { name, offset, length, byte } => {
            let Some(file) = open(name) else { return };
            file.write_all_at(&vec![byte; length], offset as u64).unwrap();
            model.file(name).unwrap().write(offset, &vec![byte; length]);
        }
        Action::Store { name, offset, length, byte } => {
            let Some(file) = open(name) else { return };
            let reach = usize::try_from(file.len().unwrap()).unwrap();
            if offset + length <= reach {
                file.map(reach).unwrap().store(offset, &vec![byte; length]);
                model.file(name).unwrap().write(offset, &vec![byte; length]);
            }
        }
        Action::Allocate { name, length } => {
            let Some(file) = open(name) else { return };
            file.allocate(length as u64).unwrap();
            model.file(name).unwrap().grow(length);
        }
        Action::Rename(from, to) => {
            let renamed = disk.rename(Path::new(NAMES[from]), Path::new(NAMES[to])).is_ok();
            assert_eq!(renamed, model.names().contains_key(&from));
            if renamed && from != to {
                model.pending.push(Change::Move(to, model.names()[&from]));
            }
        }
        Action::Remove(name) => {
            let removed = disk.remove(Path::new(NAMES[name])).is_ok();
            assert_eq!(removed, model.names().contains_key(&name));
            if removed {
                model.pending.push(Change::Unbind(name));
            }
        }
        Action::SyncData(name) | Action::SyncAll(name) => {
            let Some(file) = open(name) else { return };
            let all = matches!(action, Action::SyncAll(_));
            if all { file.sync_all() } else { file.sync_data() }.unwrap();
            model.file(name).unwrap().sync(all);
        }
        Action::SyncDir => {
            disk.sync_dir(Path::new(TOP)).unwrap();
            model.durable = model.names();
            model.pending.clear();
        }
        Action::WriteBack(name) => {
            let Some(file) = open(name) else { return };
            file.write_back(0, 4096).unwrap();
        }
        Action::Kill(seed) => *disk = disk.kill(seed),
    }
    // The model tries every subset of what is pending.
    if model.pending.len() > 6 {
        perform(disk, model, &Action::SyncDir);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn disk_is_its_model_and_a_crash_leaves_what_the_rules_allow(
        seed in any::<u64>(),
        lives in vec(actions(), 1..4),
    ) {
        let mut disk = FaultDisk::new(seed);
        let mut model = Model::default();
        for (life, actions) in lives.iter().enumerate() {
            for action in actions {
                perform(&mut disk, &mut model, action);
                prop_assert!(model.shows(&disk), "{action:?}");
                let left = disk.crash(seed ^ disk.calls());
                prop_assert!(model.allows(&left), "a crash after {action:?}");
            }
            for cut in 0..8 {
                let left = disk.crash(seed.wrapping_add(cut));
                prop_assert!(model.allows(&left), "crash {cut} of life {life}");
            }
            disk = disk.crash(seed);
            model = Model::of(&disk);
        }
    }
}

#[test]
fn model_refuses_what_no_crash_may_leave() {
    let mut model = ModelFile::durable(vec![1; 1024]);
    model.write(0, &[2; 600]);
    assert!(model.allows(&[1; 1024]) && model.allows(model.now()));
    assert!(!model.allows(&[3; 1024]), "bytes it never held");
    assert!(!model.allows(&[1; 1023]), "synced length");
    assert!(!model.allows(&[1; 1025]), "length it never had");
    let mut left = vec![1; 1024];
    left[100..200].fill(2);
    assert!(!model.allows(&left), "a sector cut twice");
    left[..100].fill(2);
    assert!(model.allows(&left), "a sector cut once");
    model.sync(true);
    assert!(!model.allows(&left), "what is synced is not cut");
}

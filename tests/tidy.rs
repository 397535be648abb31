//! Keeps the house in order: the floors, the sizes, and where the dangerous tools may be named.
//!
//! Every rule is a function from source text to complaints. One test per rule runs it over the
//! tree; a second one hands it a text that breaks the rule, so that a rule that has gone blind is
//! noticed. The text is cut into tokens first, so nothing inside a comment or a string counts as
//! code.
//!
//! A file's tests (from a `#[cfg(test)]` at the margin to the end) and files named `tests.rs` are
//! free of the floors and of the ban on `std::sync`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[path = "tidy/source.rs"]
mod source;

use source::{Source, Token, named, tokens};

/// The floor of each top-level module. A module names only modules on lower floors; those that
/// are not written yet have their place already.
const FLOORS: &[(&str, u8)] = &[
    ("sync", 0),
    ("id", 0),
    ("crc", 0),
    ("codec", 1),
    ("heap", 1),
    ("storage", 1),
    ("slab", 2),
    ("epoch", 3),
    ("skiplist", 4),
    ("ssi", 4),
    ("wal", 4),
    ("checkpoint", 4),
    ("evict", 4),
    ("mvcc", 5),
    ("error", 6),
    ("txn", 7),
    ("db", 8),
    ("bucket", 9),
    ("testing", 10),
    ("design", 10),
];

/// Where `unsafe` may be written.
const UNSAFE: &[&str] = &[
    "src/epoch/",
    "src/skiplist/",
    "src/slab/",
    "src/ssi/floor.rs",
    "src/ssi/node.rs",
    "src/ssi/owner.rs",
    "src/ssi/trim.rs",
    "src/ssi/commit_log",
    "src/mvcc/",
    "src/storage/mmap.rs",
];

/// Paths that only `src/sync.rs` may name.
const PRIMITIVES: &[&[&str]] =
    &[&["std", "sync"], &["core", "sync"], &["alloc", "sync"], &["parking_lot"]];

const WIDTH_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 600;

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|&(_, floor)| floor)
}

/// Upward and sideways imports, imports through `lib.rs`, modules without a floor.
fn check_floors(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(&own) = module.first().filter(|_| source.in_engine()) else { return Vec::new() };
    let Some(floor) = floor_of(own) else {
        return vec![format!("{}: `{own}` has no floor", source.path)];
    };
    let tokens = tokens(source.code());
    let mut complaints = Vec::new();
    for named in named(&tokens, &module, &|root| matches!(root, "crate" | "super" | "self")) {
        let absolute = named.path.first() == Some(&"crate");
        let target = named.path.get(usize::from(absolute)).copied().unwrap_or("*");
        let wrong = match floor_of(target) {
            _ if target == own => continue,
            Some(lower) if lower < floor && absolute => continue,
            Some(lower) if lower < floor => "by `super` instead of `crate`",
            Some(same) if same == floor => "sideways",
            Some(_) => "upward",
            None => "through lib.rs, not by its real path",
        };
        let (path, line) = (&source.path, named.line);
        complaints.push(format!("{path}:{line}: `{own}` names `{target}` {wrong}"));
    }
    complaints
}

/// Circles among the files of one folder. Its `mod.rs` is the face: it may name the files that name
/// it, and a `pub use` in it is a signpost: whoever uses that imports what it points at.
fn check_circles(sources: &[Source]) -> Vec<String> {
    let engine = || sources.iter().filter(|source| source.in_engine());
    let modules: BTreeSet<Vec<&str>> =
        engine().map(Source::module).filter(|module| !module.is_empty()).collect();
    let mut imports: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>> = BTreeMap::new();
    let mut signposts: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for source in engine() {
        let module = source.module();
        let tokens = tokens(source.code());
        let is_child = |name: &str| modules.contains(&[module.as_slice(), &[name]].concat());
        let roots = |name: &str| matches!(name, "crate" | "super" | "self") || is_child(name);
        for named in named(&tokens, &module, &roots) {
            let mut path = named.path;
            match path.first().copied() {
                Some("crate") => drop(path.remove(0)),
                Some(child) if is_child(child) => path = [module.as_slice(), &path].concat(),
                _ => {}
            }
            let face = source.path.ends_with("/mod.rs");
            if let Some(&name) = path.last().filter(|_| face && named.exported) {
                signposts.insert([module.as_slice(), &[name]].concat(), path);
            } else if !face && path.first() == module.first() {
                imports.entry(module.clone()).or_default().insert(path);
            }
        }
    }
    let mut edges: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for (from, paths) in &imports {
        let mut to = BTreeSet::new();
        for path in paths {
            let path = signposts.get(path).unwrap_or(path);
            let prefixes = (1..=path.len()).rev().filter_map(|len| path.get(..len));
            let file = prefixes.map(<[&str]>::to_vec).find(|prefix| modules.contains(prefix));
            to.extend(file.filter(|file| file != from));
        }
        edges.insert(from.clone(), to);
    }
    circles(edges)
}

/// Takes away what imports nothing that is left, until nothing more goes. What stays is circular.
fn circles(mut edges: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>>) -> Vec<String> {
    loop {
        let left: BTreeSet<Vec<&str>> = edges.keys().cloned().collect();
        for to in edges.values_mut() {
            to.retain(|to| left.contains(to));
        }
        let before = edges.len();
        edges.retain(|_, to| !to.is_empty());
        if edges.len() == before {
            break;
        }
    }
    let name = |module: &Vec<&str>| module.join("::");
    let line = |(from, to): (&Vec<&str>, &BTreeSet<Vec<&str>>)| {
        let to: Vec<String> = to.iter().map(name).collect();
        format!("{} imports {} in a circle", name(from), to.join(", "))
    };
    edges.iter().map(line).collect()
}

fn check_primitives(source: &Source) -> Vec<String> {
    if !source.in_engine() || source.path == "src/sync.rs" {
        return Vec::new();
    }
    let tokens = tokens(source.code());
    named(&tokens, &[], &|root| PRIMITIVES.iter().any(|path| path.first() == Some(&root)))
        .iter()
        .filter(|named| PRIMITIVES.iter().any(|banned| named.path.starts_with(banned)))
        .map(|named| {
            let (path, line) = (&source.path, named.line);
            format!("{path}:{line}: `{}` belongs in src/sync.rs", named.path.join("::"))
        })
        .collect()
}

fn check_unsafe(source: &Source) -> Vec<String> {
    let allowed = UNSAFE.iter().any(|path| source.path.starts_with(path));
    if allowed || !source.in_engine() {
        return Vec::new();
    }
    let tokens = tokens(&source.text);
    let uses = tokens.iter().filter(|token| token.text == "unsafe");
    uses.map(|token| format!("{}:{}: unsafe is not for here", source.path, token.line)).collect()
}

fn check_sizes(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let all_tests = source.path.starts_with("tests/") || source.path.starts_with("loom-tests/");
    let (lines, max) = if all_tests || source.code().is_empty() {
        (source.text.lines().count(), TEST_FILE_LINES_MAX)
    } else {
        (source.code().lines().count(), FILE_LINES_MAX)
    };
    if lines > max {
        complaints.push(format!("{}: {lines} lines, at most {max}", source.path));
    }
    for (at, line) in source.text.lines().enumerate() {
        let width = line.chars().count();
        if width > WIDTH_MAX {
            complaints.push(format!("{}:{}: {width} columns", source.path, at + 1));
        }
    }
    let tokens = tokens(&source.text);
    for (at, token) in tokens.iter().enumerate() {
        let name = tokens.get(at + 1).map_or("(", |name| name.text);
        if token.text == "fn" && name != "(" {
            let lines = function_end(&tokens, at) + 1 - token.line;
            if lines > FUNCTION_LINES_MAX {
                let (path, line) = (&source.path, token.line);
                complaints.push(format!("{path}:{line}: `{name}` has {lines} lines"));
            }
        }
    }
    complaints
}

/// The line on which the function whose `fn` stands at `start` ends.
fn function_end(tokens: &[Token<'_>], start: usize) -> usize {
    let (mut braces, mut brackets, mut last) = (0_usize, 0_usize, 0);
    for token in tokens.iter().skip(start) {
        last = token.line;
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            "{" => braces += 1,
            "}" => braces = braces.saturating_sub(1),
            _ => {}
        }
        let ends = token.text == "}" || token.text == ";";
        if ends && braces == 0 && brackets == 0 {
            break;
        }
    }
    last
}

fn check_words(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints.push(format!("{}: does not open with what it is (`//!`)", source.path));
    }
    let markers =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("db", "g!")];
    for (at, line) in source.text.lines().enumerate() {
        let banner = ["====", "----", "####", "****"].iter().any(|row| line.contains(row));
        let comment = line.trim_start().starts_with("//");
        if markers.iter().any(|marker| line.contains(marker)) || (banner && comment) {
            complaints.push(format!("{}:{}: left-over marker or banner", source.path, at + 1));
        }
    }
    if source.in_engine() {
        let tokens = tokens(source.code());
        for token in tokens.iter().filter(|token| token.text.ends_with("println")) {
            let (path, line) = (&source.path, token.line);
            complaints.push(format!("{path}:{line}: the engine does not print"));
        }
    }
    complaints
}

/// Files in `src` that no `mod` line leads to.
fn check_reachable(sources: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::from(["src/lib.rs".to_owned()]);
    for source in sources.iter().filter(|source| source.in_engine()) {
        let folder = source.path.strip_suffix("mod.rs").or(source.path.strip_suffix("lib.rs"));
        let folder = folder.map_or_else(|| source.path.replace(".rs", "/"), str::to_owned);
        for window in tokens(&source.text).windows(3) {
            if let [Token { text: "mod", .. }, name, Token { text: ";", .. }] = window {
                reached.insert(format!("{folder}{}.rs", name.text));
                reached.insert(format!("{folder}{}/mod.rs", name.text));
            }
        }
    }
    sources
        .iter()
        .filter(|source| source.in_engine() && !reached.contains(&source.path))
        .map(|source| format!("{}: no `mod` line leads here", source.path))
        .collect()
}

/// Each row of the table with this header names a test as `file::test`, and each is there.
fn check_named_tests(document: &str, header: &str, sources: &[Source]) -> Vec<String> {
    let table = document.lines().skip_while(|line| !line.starts_with(header));
    let rows: Vec<_> = table.take_while(|line| line.starts_with('|')).skip(2).collect();
    let mut complaints = Vec::new();
    if rows.is_empty() {
        complaints.push(format!("no table begins with {header:?}"));
    }
    for row in rows {
        let quoted = row.split('`').skip(1).step_by(2);
        let paths = quoted.filter_map(|path| Some((path, path.split_once("::")?)));
        let is_file = |file: &str| file.starts_with(|first: char| first.is_ascii_lowercase());
        let named: Vec<_> = paths.filter(|(_, (file, _))| is_file(file)).collect();
        if named.is_empty() {
            complaints.push(format!("no test holds {row}"));
        }
        for (path, (file, test)) in named {
            let (root, below) = (format!("tests/{file}.rs"), format!("tests/{file}/"));
            let head = format!("#[test]\nfn {test}()");
            let is_there = |source: &Source| {
                (source.path == root || source.path.starts_with(&below))
                    && source.text.contains(&head)
            };
            if !sources.iter().any(is_there) {
                complaints.push(format!("`{path}` is no test"));
            }
        }
    }
    complaints
}

/// All Rust files of the repository but those in build folders.
fn repository() -> Vec<Source> {
    fn walk(root: &Path, folder: &str, sources: &mut Vec<Source>) {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}/{name}");
            let hidden = name.starts_with('.') || name == "target";
            if entry.path().is_dir() && !hidden {
                walk(root, &path, sources);
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry.path()).expect("a source file is text");
                sources.push(Source { path, text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "loom-tests", "fuzz"] {
        walk(root, folder, &mut sources);
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the tree was not found");
    sources
}

#[track_caller]
fn assert_tidy(check: impl Fn(&Source) -> Vec<String>) {
    assert_none(&repository().iter().flat_map(check).collect::<Vec<_>>());
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn floors_are_kept() {
    assert_tidy(check_floors);
}

#[test]
fn no_folder_imports_in_a_circle() {
    assert_none(&check_circles(&repository()));
}

#[test]
fn primitives_come_from_the_shim() {
    assert_tidy(check_primitives);
}

#[test]
fn unsafe_stays_in_its_modules() {
    assert_tidy(check_unsafe);
}

#[test]
fn files_functions_and_lines_are_short() {
    assert_tidy(check_sizes);
}

#[test]
fn files_say_what_they_are_and_hold_no_markers() {
    assert_tidy(check_words);
}

#[test]
fn every_file_is_part_of_the_crate() {
    assert_none(&check_reachable(&repository()));
}

#[test]
fn promises_are_the_same_everywhere_and_name_the_tests_that_hold_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is a text");
    let (readme, documentation) = (read("README.md"), read("src/txn/durability.md"));
    assert!(readme.contains(&documentation), "one table for the README and the documentation");
    let sources = repository();
    for header in ["| level |", "| event |"] {
        assert_none(&check_named_tests(&readme, header, &sources));
    }
}

#[test]
fn promises_rule_sees_rows_without_tests() {
    let sources = [Source::new("tests/a/b.rs", "#[test]\nfn holds() {}\n")];
    let complaints = |row: &str| {
        let table = format!("| x | by |\n|---|---|\n{row}\n");
        check_named_tests(&table, "| x |", &sources).len()
    };
    assert_eq!(complaints("| x | `a::holds` |"), 0);
    assert_eq!(complaints("| x | `a::holds`, `a::is_gone`, `b::holds` |"), 2);
    assert_eq!(complaints("| x | `Error::Io` |"), 1);
    assert_eq!(check_named_tests("", "| x |", &sources).len(), 1);
}

#[test]
fn floors_rule_sees_wrong_imports() {
    let complaints = |path: &str, text: &str| check_floors(&Source::new(path, text)).len();
    assert_eq!(complaints("src/txn/read.rs", "use crate::mvcc::version::Version;"), 0);
    assert_eq!(complaints("src/txn/read.rs", "use crate::txn::write::Write;"), 0);
    assert_eq!(complaints("src/epoch/bag.rs", "use super::guard::Guard;"), 0);
    assert_eq!(complaints("src/txn/read.rs", "use crate::db::Database;"), 1, "upward");
    assert_eq!(complaints("src/ssi/graph.rs", "use crate::skiplist::SkipList;"), 1, "sideways");
    assert_eq!(complaints("src/db/mod.rs", "use crate::{id::Lsn, bucket::{Key, Value}};"), 2);
    assert_eq!(complaints("src/db/mod.rs", "use crate::Error;"), 1, "through lib.rs");
    assert_eq!(complaints("src/db/mod.rs", "use crate::*;"), 1, "through lib.rs");
    assert_eq!(complaints("src/db/mod.rs", "fn f() -> crate::bucket::Key {}"), 1, "no import");
    assert_eq!(complaints("src/id.rs", "use super::db::Database;"), 1, "by super");
    assert_eq!(complaints("src/db/open.rs", "mod inner { use super::super::super::id::Lsn; }"), 1);
    assert_eq!(complaints("src/attic.rs", ""), 1, "no floor");
    assert_eq!(complaints("src/id.rs", "// crate::db\nconst A: &str = \"crate::db::X\";"), 0);
    assert_eq!(complaints("src/id.rs", "\n#[cfg(test)]\nmod tests {\n use crate::db::X;\n}\n"), 0);
}

#[test]
fn circle_rule_sees_circles_and_follows_signposts() {
    let circle = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(p, t)| Source::new(p, t)).collect();
        !check_circles(&sources).is_empty()
    };
    let (module, a, b) = ("src/epoch/mod.rs", "src/epoch/a.rs", "src/epoch/b.rs");
    assert!(!circle(&[(a, "use super::b::B;"), (b, "use std::fmt;")]));
    assert!(circle(&[(a, "use super::b::B;"), (b, "use crate::epoch::a::A;")]));
    assert!(!circle(&[(module, "pub(crate) use a::A; struct M;"), (a, "use super::M;")]));
    assert!(!circle(&[(module, "use a::A; struct M;"), (a, "use super::M;")]), "the face may");
    let through = [(module, "pub(crate) use a::A;"), (a, "use super::b::B;"), (b, "use super::A;")];
    assert!(circle(&through), "b reaches a through the signpost");
}

#[test]
fn primitives_rule_sees_every_spelling() {
    let complaints = |text: &str| check_primitives(&Source::new("src/db/mod.rs", text)).len();
    assert_eq!(complaints("use crate::sync::Arc; use std::fmt;"), 0);
    assert_eq!(complaints("use std::sync::Arc;"), 1);
    assert_eq!(complaints("use std::{fmt, sync::{Arc, atomic::AtomicU8}};"), 2);
    assert_eq!(complaints("static A: core::sync::atomic::AtomicU8 = B;"), 1);
    assert_eq!(complaints("use parking_lot::Mutex;"), 1);
    assert_eq!(complaints("use parking_lot;"), 1);
}

#[test]
fn unsafe_rule_sees_code_and_not_prose() {
    let complaints = |path: &str, text: &str| check_unsafe(&Source::new(path, text)).len();
    assert_eq!(complaints("src/db/mod.rs", "// unsafe\n#![deny(unsafe_code)]"), 0);
    assert_eq!(complaints("src/epoch/bag.rs", "unsafe { f() }"), 0);
    assert_eq!(complaints("src/db/mod.rs", "fn f() { unsafe { g() } }"), 1);
}

#[test]
fn size_rule_sees_long_things() {
    let complaints = |path: &str, text: &str| check_sizes(&Source::new(path, text)).len();
    let body =
        |lines: usize| format!("fn f(a: [u8; 2]) {{\n{}}}\n", "g('{', \"{\");\n".repeat(lines));
    assert_eq!(complaints("src/id.rs", &body(68)), 0);
    assert_eq!(complaints("src/id.rs", &body(69)), 1);
    assert_eq!(complaints("src/id.rs", &"x;\n".repeat(501)), 1);
    assert_eq!(complaints("src/id.rs", &format!("// {}", "x".repeat(97))), 0);
    assert_eq!(complaints("src/id.rs", &format!("// {}", "x".repeat(98))), 1);
    let tests = format!("x;\n#[cfg(test)]\nmod tests {{\n{}}}\n", "y;\n".repeat(600));
    assert_eq!(complaints("src/id.rs", &tests), 0, "tests do not count");
}

#[test]
fn word_rule_sees_markers() {
    let complaints = |text: &str| check_words(&Source::new("src/id.rs", text)).len();
    assert_eq!(complaints("//! Numbers.\n"), 0);
    assert_eq!(complaints("use std::fmt;\n"), 1);
    assert_eq!(complaints(concat!("//! N.\n// TO", "DO: later\n")), 1);
    assert_eq!(complaints(concat!("//! N.\nfn f() { db", "g!(1); }\n")), 1);
    assert_eq!(complaints("//! N.\n// ---------\n"), 1);
    assert_eq!(complaints("//! N.\nfn f() { println!(\"x\"); }\n"), 1);
}

#[test]
fn reachable_rule_sees_lost_files() {
    let lib = Source::new("src/lib.rs", "mod epoch;\n");
    let folder = Source::new("src/epoch/mod.rs", "mod bag;\n");
    let bag = Source::new("src/epoch/bag.rs", "");
    let lost = Source::new("src/epoch/lost.rs", "");
    assert_eq!(check_reachable(&[lib, folder, bag, lost]).len(), 1);
}

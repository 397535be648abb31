//! The example of an index that is kept on disk: killed again and again while it is built, it goes
//! on where it was, and in the end it is what a fresh run in memory makes.

#![cfg(all(unix, feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use palisade::{Database, Durability, Options};

#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/child.rs"]
mod child;
#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../examples/index/inverted.rs"]
mod inverted;
#[allow(dead_code, reason = "every test binary uses a part")]
#[path = "common/rng.rs"]
mod rng;
#[path = "../examples/index/sources.rs"]
mod sources;

use inverted::{Index, Tally};
use rng::{Rng, seed};
use sources::gather;

/// Many more than six lives of a few milliseconds each can index.
const FILES: usize = 2000;

fn write_text(path: &Path, rng: &mut Rng) {
    let words = 20 + rng.below(120);
    let text: Vec<_> = (0..words).map(|_| format!("word{}", rng.below(2000))).collect();
    fs::write(path, text.join(" ")).unwrap();
}

fn make_texts(folder: &Path, rng: &mut Rng) {
    for number in 0..FILES {
        let folder = folder.join(format!("part {}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        write_text(&folder.join(format!("{number}.txt")), rng);
    }
}

/// What an index holds, with names instead of numbers: those depend on the order of the runs.
#[derive(PartialEq, Eq)]
struct Content {
    words: Vec<(String, u32, String)>,
    totals: Vec<(String, Tally)>,
}

fn content(index: &Index) -> Content {
    let snapshot = index.db.snapshot();
    let entries = snapshot.iter(&index.files).unwrap();
    let names: std::collections::BTreeMap<_, _> =
        entries.map(|(name, entry)| (entry.number, name.clone())).collect();
    let words = snapshot.iter(&index.words).unwrap();
    let name = |posting: &inverted::Posting| names.get(&posting.file).unwrap().clone();
    let words = words.map(|(posting, &count)| (posting.word.to_string(), count, name(posting)));
    let mut words: Vec<_> = words.collect();
    words.sort();
    let totals = snapshot.iter(&index.totals).unwrap();
    let totals = totals.map(|(folder, &total)| (folder.clone(), total)).collect();
    Content { words, totals }
}

fn options() -> Options {
    Options::new().segment_bytes(64 << 10).checkpoint_after(256 << 10, 100)
}

/// The example's part of the next test, with a list of the files that were told to be done.
#[test]
#[ignore = "runs as a child of the other test, which kills it"]
fn indexer() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").expect("the parent says where"));
    let mut sources = gather(&[folder.join("texts")], FILES);
    let index = Index::open(options().open(folder.join("store")).unwrap()).unwrap();
    index.audit(&index.db.snapshot(), true).unwrap();
    let told = fs::read_to_string(folder.join("told")).unwrap();
    // The last line may be cut off.
    let whole = told.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for name in whole.lines() {
        assert!(index.files.contains_key(name).unwrap(), "{name} was told to be done");
    }
    index.settle(&mut sources).unwrap();
    let told = OpenOptions::new().append(true).open(folder.join("told")).unwrap();
    let tell = |name: &str| (&told).write_all(format!("{name}\n").as_bytes()).unwrap();
    let snapshot = index.db.snapshot();
    let is_new = |name: &String| !snapshot.contains_key(&index.files, name).unwrap();
    let tell_if_new = |name: &String| {
        if is_new(name) {
            tell(name);
        }
    };
    index.build(&sources, |source| tell_if_new(&source.name)).unwrap();
}

#[test]
fn index_that_is_killed_goes_on_and_comes_out_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts");
    let mut rng = Rng::new(seed());
    make_texts(&texts, &mut rng);
    File::create(folder.path().join("told")).unwrap();
    let told = || fs::read_to_string(folder.path().join("told")).unwrap().lines().count();
    for life in 0..6 {
        let before = told();
        let mut command = child::plain("indexer");
        command.env("FOLDER", folder.path());
        let mut child = command.spawn().unwrap();
        child::wait_until(&mut child, "some files", || told() > before + 10);
        thread::sleep(Duration::from_micros(u64::from(rng.below(5000))));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "life {life}: {status}\n{}", child::told(&mut child));
    }
    // Meanwhile a file has changed, one is gone, and one is new.
    let mut sources = gather(std::slice::from_ref(&texts), FILES);
    fs::remove_file(&sources[0].name).unwrap();
    write_text(Path::new(&sources[1].name), &mut rng);
    write_text(&texts.join("part 3/new.txt"), &mut rng);

    sources = gather(std::slice::from_ref(&texts), FILES);
    let index = Index::open(options().open(folder.path().join("store")).unwrap()).unwrap();
    let unchanged = index.settle(&mut sources).unwrap();
    assert!(unchanged > 40 && unchanged < sources.len(), "{unchanged}: neither all nor nothing");
    index.build(&sources, |_| ()).unwrap();
    index.verify(&index.db.snapshot(), &sources).unwrap();

    let mut again = gather(std::slice::from_ref(&texts), FILES);
    let fresh = Index::open(Database::in_memory()).unwrap();
    assert_eq!(fresh.settle(&mut again).unwrap(), 0);
    fresh.build(&again, |_| ()).unwrap();
    assert!(content(&index) == content(&fresh), "the killed one and the fresh one differ");

    drop(index);
    let options = options().durability(Durability::Relaxed);
    let index = Index::open(options.open(folder.path().join("store")).unwrap()).unwrap();
    assert_eq!(index.settle(&mut sources).unwrap(), sources.len(), "nothing is left to do");
    index.verify(&index.db.snapshot(), &sources).unwrap();
    println!("{FILES} files, 6 kills, {unchanged} files were there before the last run");
}

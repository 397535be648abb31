//! Proves that the models can fail: breaks a copy of the engine in one place at a time and runs
//! the one test that must notice.
//!
//! The table is `mutants.txt` beside the manifest. A row is a paragraph of fields:
//!
//! ```text
//! name: pin_relaxed
//! file: src/epoch/slot.rs
//! find: text that occurs exactly once in the file        (\n is a line break)
//! with: what stands there instead
//! test: loom epoch pin_again                             or: engine <filter of cargo test --lib>
//! ```
//!
//! `cargo run --release --bin mutants [-- part of a name]`

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

struct Mutant {
    name: String,
    file: String,
    find: String,
    with: String,
    test: String,
}

impl Mutant {
    fn parse(row: &str) -> Self {
        let field = |name: &str| {
            let start = format!("{name}:");
            let line = row.lines().find_map(|line| line.strip_prefix(&start));
            let text = line.unwrap_or_else(|| panic!("a row lacks `{name}`:\n{row}"));
            text.strip_prefix(' ').unwrap_or(text).replace("\\n", "\n")
        };
        Self {
            name: field("name"),
            file: field("file"),
            find: field("find"),
            with: field("with"),
            test: field("test"),
        }
    }

    /// Whether the test noticed.
    fn is_caught(&self, root: &Path, work: &Path, target: &Path) -> bool {
        for part in ["src", "loom-tests/src", "loom-tests/tests"] {
            let copy = work.join(part);
            let _ = fs::remove_dir_all(&copy);
            copy_tree(&root.join(part), &copy).expect("the sources can be copied");
        }
        let path = work.join(&self.file);
        let source = fs::read_to_string(&path).expect("the file of a row can be read");
        let count = source.matches(&self.find).count();
        assert_eq!(count, 1, "{}: the text to find occurs {count} times", self.name);
        fs::write(&path, source.replace(&self.find, &self.with)).expect("the copy can be written");
        let words: Vec<&str> = self.test.split_whitespace().collect();
        let mut cargo = Command::new("cargo");
        match words.as_slice() {
            ["loom", suite, model] => cargo.current_dir(work.join("loom-tests")).args([
                "test",
                "--release",
                "--quiet",
                "--test",
                suite,
                "--",
                "--exact",
                model,
            ]),
            ["engine", filter] => {
                cargo.current_dir(work).args(["test", "--quiet", "--lib", "--", filter])
            }
            _ => panic!("{}: no such kind of test: {}", self.name, self.test),
        };
        // Built apart first: a mutant that does not compile proves nothing.
        let mut build = Command::new("cargo");
        build.current_dir(cargo.get_current_dir().expect("set above"));
        let build_arguments = cargo.get_args().take_while(|word| *word != "--");
        build.args(build_arguments).arg("--no-run").env("CARGO_TARGET_DIR", target);
        let built = build.output().expect("cargo runs");
        assert!(
            built.status.success(),
            "{} does not compile:\n{}",
            self.name,
            String::from_utf8_lossy(&built.stderr)
        );
        let run = cargo.env("CARGO_TARGET_DIR", target).output().expect("cargo runs");
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(!output.contains("running 0 tests"), "{}: no such test", self.name);
        !run.status.success()
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().expect("the models live in the repository").to_path_buf();
    let wanted = env::args().nth(1).unwrap_or_default();
    let work = env::temp_dir().join(format!("palisade-mutants-{}", std::process::id()));
    let target = manifest.join("target").join("mutants");
    fs::create_dir_all(work.join("loom-tests")).expect("there is room for a copy");
    for file in ["Cargo.toml", "Cargo.lock", "loom-tests/Cargo.toml", "loom-tests/Cargo.lock"] {
        fs::copy(root.join(file), work.join(file)).expect("the manifests can be copied");
    }
    let table = fs::read_to_string(manifest.join("mutants.txt")).expect("the table can be read");
    let rows = table.split("\n\n").filter(|row| row.contains("name:"));
    let mut missed = 0;
    for mutant in rows.map(Mutant::parse).filter(|mutant| mutant.name.contains(&wanted)) {
        let start = std::time::Instant::now();
        let caught = mutant.is_caught(&root, &work, &target);
        let verdict = if caught { "caught" } else { "MISSED" };
        println!("{verdict}  {:28} by {} in {:.1?}", mutant.name, mutant.test, start.elapsed());
        missed += usize::from(!caught);
    }
    let _ = fs::remove_dir_all(&work);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! One suite for every storage: what is true without a crash.

use crate::storage::{Access, Disk, FaultDisk, File, Storage};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs a fact on real files, and on simulated disks that write back never, seldom and always.
fn on_each(fact: impl Fn(&dyn Storage, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    fact(&Disk, folder.path());
    for every in [0, 1, 4] {
        let disk = FaultDisk::new(every);
        disk.set_write_back(every);
        disk.create_dir(Path::new("/store")).unwrap();
        fact(&disk, Path::new("/store"));
    }
}

fn create(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Box<dyn File> {
    let file = storage.open(path, Access::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn read_path(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    read(&*storage.open(path, Access::Read).unwrap())
}

#[track_caller]
fn assert_kind<T>(result: std::io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().map(|error| error.kind()), Some(kind));
}

#[test]
fn file_is_made_once_and_found_again() {
    on_each(|storage, folder| {
        let path = folder.join("a");
        assert_kind(storage.open(&path, Access::Read), ErrorKind::NotFound);
        assert_kind(storage.open(&path, Access::Write), ErrorKind::NotFound);
        let file = create(storage, &path, b"one");
        assert_kind(storage.open(&path, Access::Create), ErrorKind::AlreadyExists);
        assert_eq!(read_path(storage, &path), b"one");
        storage.open(&path, Access::Write).unwrap().write_all_at(b"two!", 1).unwrap();
        assert_eq!(read(&*file), b"otwo!");
        assert_kind(storage.open(&folder.join("no/a"), Access::Create), ErrorKind::NotFound);
    });
}

#[test]
fn file_open_for_reading_takes_no_writes() {
    on_each(|storage, folder| {
        create(storage, &folder.join("a"), b"one");
        let file = storage.open(&folder.join("a"), Access::Read).unwrap();
        assert!(file.write_at(b"two", 0).is_err());
        assert!(file.allocate(100).is_err());
        assert!(file.map(3).is_err());
        assert_eq!(read(&*file), b"one");
    });
}

#[test]
fn gap_reads_as_zeros_and_the_end_ends() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), b"abc");
        file.write_all_at(b"z", 9000).unwrap();
        assert_eq!(file.len().unwrap(), 9001);
        let bytes = read(&*file);
        assert_eq!((&bytes[..3], &bytes[9000..]), (&b"abc"[..], &b"z"[..]));
        assert!(bytes[3..9000].iter().all(|&byte| byte == 0));
        let mut buffer = [7; 10];
        assert_eq!(file.read_at(&mut buffer, 8995).unwrap(), 6);
        assert_eq!(buffer, [0, 0, 0, 0, 0, b'z', 7, 7, 7, 7]);
        assert_eq!(file.read_at(&mut buffer, 9001).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
        assert_kind(file.read_exact_at(&mut buffer, 8995), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn allocation_grows_with_zeros_and_keeps_what_is_there() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), b"abc");
        file.allocate(0).unwrap();
        file.allocate(2).unwrap();
        assert_eq!(read(&*file), b"abc");
        file.allocate(10_001).unwrap();
        let bytes = read(&*file);
        assert_eq!((bytes.len(), &bytes[..3]), (10_001, &b"abc"[..]));
        assert!(bytes[3..].iter().all(|&byte| byte == 0));
        file.allocate(4096).unwrap();
        assert_eq!(file.len().unwrap(), 10_001);
    });
}

#[test]
fn store_and_write_meet_in_one_file() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), &[1; 8192]);
        let mut map = file.map(8000).unwrap();
        map.store(0, &[2; 10]);
        file.write_all_at(&[3; 10], 10).unwrap();
        map.store(4090, &[4; 12]);
        map.store(8000, &[]);
        drop(file);
        map.store(7999, &[5]);
        drop(map);
        let mut expected = vec![1; 8192];
        expected[..10].fill(2);
        expected[10..20].fill(3);
        expected[4090..4102].fill(4);
        expected[7999] = 5;
        assert_eq!(read_path(storage, &folder.join("a")), expected);
    });
}

#[test]
fn store_outside_of_the_map_panics_and_changes_nothing() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), &[1; 8192]);
        let mut map = file.map(5000).unwrap();
        for (offset, length) in [(5000, 1), (4999, 2), (usize::MAX, 2), (0, 5001)] {
            let store = || map.store(offset, &vec![9; length]);
            assert!(catch_unwind(AssertUnwindSafe(store)).is_err(), "{length} at {offset}");
        }
        assert_eq!(read(&*file), [1; 8192]);
    });
}

/// Whatever is said about the pages, in time or not, inside the map or not.
#[test]
fn advice_about_a_map_changes_no_byte() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), &vec![1; 40_000]);
        let mut map = file.map(40_000).unwrap();
        let pages = map.pages();
        let mut wanted = vec![1; 40_000];
        let ranges = [(0, 40_000), (4096, 8192), (100, 4096), (39_990, 100), (50_000, usize::MAX)];
        for (turn, (offset, length)) in (2_u8..).zip(ranges.into_iter().cycle()).take(20) {
            let place = usize::from(turn) * 1_500;
            if let Some(pages) = &pages {
                pages.begin(offset, length);
                map.store(place, &[turn; 3_000]);
                pages.end(offset, length);
            } else {
                map.store(place, &[turn; 3_000]);
            }
            wanted.splice(place..place + 3_000, [turn; 3_000]);
            assert_eq!(read(&*file), wanted, "{length} bytes at {offset}");
            file.sync_data().unwrap();
        }
        drop(map);
        assert_eq!(read_path(storage, &folder.join("a")), wanted);
        if let Some(pages) = pages {
            pages.begin(0, 40_000);
        }
    });
}

#[test]
fn map_must_lie_in_the_file() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), &[1; 100]);
        assert_kind(file.map(101), ErrorKind::InvalidInput);
        assert_kind(file.map(0), ErrorKind::InvalidInput);
        file.map(100).unwrap();
    });
}

#[test]
fn rename_moves_the_name_and_not_the_handles() {
    on_each(|storage, folder| {
        let (a, b) = (folder.join("a"), folder.join("b"));
        let (first, second) = (create(storage, &a, b"first"), create(storage, &b, b"second"));
        storage.rename(&b, &a).unwrap();
        assert_eq!(storage.list(folder).unwrap(), ["a"]);
        first.write_all_at(b"F", 0).unwrap();
        second.write_all_at(b"S", 0).unwrap();
        assert_eq!(read(&*first), b"First", "without a name, but open");
        assert_eq!(read_path(storage, &a), b"Second");
        storage.rename(&a, &a).unwrap();
        assert_kind(storage.rename(&b, &a), ErrorKind::NotFound);
        storage.create_dir(&folder.join("d")).unwrap();
        assert!(storage.rename(&a, &folder.join("d")).is_err());
        assert_kind(storage.rename(&a, &folder.join("d/a")), ErrorKind::InvalidInput);
        assert_eq!(read_path(storage, &a), b"Second");
    });
}

#[test]
fn removed_file_is_there_for_who_has_it_open() {
    on_each(|storage, folder| {
        let path = folder.join("a");
        let file = create(storage, &path, b"one");
        let mut map = file.map(3).unwrap();
        storage.remove(&path).unwrap();
        assert_kind(storage.remove(&path), ErrorKind::NotFound);
        assert_kind(storage.open(&path, Access::Read), ErrorKind::NotFound);
        storage.sync_dir(folder).unwrap();
        create(storage, &path, b"another");
        map.store(0, b"O");
        file.sync_all().unwrap();
        assert_eq!(read(&*file), b"One");
        assert_eq!(read_path(storage, &path), b"another");
    });
}

#[test]
fn list_is_sorted_and_leaves_directories_out() {
    on_each(|storage, folder| {
        assert!(storage.list(folder).unwrap().is_empty());
        storage.create_dir(&folder.join("m")).unwrap();
        for name in ["z", "a", "k"] {
            create(storage, &folder.join(name), b"");
        }
        create(storage, &folder.join("m/inner"), b"");
        assert_eq!(storage.list(folder).unwrap(), ["a", "k", "z"]);
        assert_eq!(storage.list(&folder.join("m")).unwrap(), ["inner"]);
        assert_kind(storage.list(&folder.join("no")), ErrorKind::NotFound);
    });
}

#[test]
fn directory_is_made_with_those_above_it_and_only_once() {
    on_each(|storage, folder| {
        let deep = folder.join("x/y/z");
        storage.create_dir(&deep).unwrap();
        storage.create_dir(&deep).unwrap();
        storage.create_dir(&folder.join("x")).unwrap();
        create(storage, &deep.join("a"), b"one");
        storage.sync_dir(&deep).unwrap();
        assert!(storage.create_dir(&deep.join("a")).is_err(), "a file has that name");
        assert!(storage.create_dir(&deep.join("a/b")).is_err(), "a file is in the way");
        assert_kind(storage.sync_dir(&folder.join("no")), ErrorKind::NotFound);
        assert_kind(storage.open(&deep, Access::Read), ErrorKind::IsADirectory);
        assert_kind(storage.open(&deep, Access::Write), ErrorKind::IsADirectory);
        assert_kind(storage.open(&deep, Access::Create), ErrorKind::AlreadyExists);
        assert_eq!(read_path(storage, &deep.join("a")), b"one");
    });
}

#[test]
fn lock_is_held_by_one_until_it_is_dropped() {
    on_each(|storage, folder| {
        let path = folder.join("LOCK");
        let lock = storage.lock(&path).unwrap().expect("nobody holds it");
        assert!(storage.lock(&path).unwrap().is_none());
        assert!(storage.lock(&path).unwrap().is_none(), "asking does not unlock");
        let other = storage.lock(&folder.join("OTHER")).unwrap();
        assert!(other.is_some(), "locks are by file");
        drop(lock);
        assert_eq!(storage.list(folder).unwrap(), ["LOCK", "OTHER"], "the file stays");
        assert!(storage.lock(&path).unwrap().is_some());
        assert_kind(storage.lock(&folder.join("no/LOCK")), ErrorKind::NotFound);
    });
}

#[test]
fn readers_share_a_lock_and_keep_writers_out() {
    on_each(|storage, folder| {
        let path = folder.join("LOCK");
        assert_kind(storage.lock_shared(&path), ErrorKind::NotFound);
        assert!(storage.list(folder).unwrap().is_empty(), "asking makes no file");
        let alone = storage.lock(&path).unwrap().expect("nobody holds it");
        assert!(storage.lock_shared(&path).unwrap().is_none());
        drop(alone);
        let before = read_path(storage, &path);
        let one = storage.lock_shared(&path).unwrap().expect("nobody holds it");
        let other = storage.lock_shared(&path).unwrap().expect("it is shared");
        assert!(storage.lock(&path).unwrap().is_none());
        drop(one);
        assert!(storage.lock(&path).unwrap().is_none(), "one reader is left");
        assert_eq!(read_path(storage, &path), before, "nothing was written");
        drop(other);
        assert!(storage.lock(&path).unwrap().is_some());
    });
}

#[test]
fn syncs_and_hints_change_nothing_that_is_seen() {
    on_each(|storage, folder| {
        let file = create(storage, &folder.join("a"), &[1; 9000]);
        file.write_back(0, 8192).unwrap();
        file.write_back(4096, 0).unwrap();
        file.write_back(1 << 40, 1).unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        storage.sync_dir(folder).unwrap();
        assert_eq!(read(&*file), [1; 9000]);
    });
}

#[test]
fn holder_of_a_lock_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("LOCK");
    assert_eq!(Disk.holder(&path), None);
    std::fs::write(&path, "4294967295, long dead").unwrap();
    let lock = Disk.lock(&path).unwrap();
    assert_eq!(Disk.holder(&path).as_deref(), Some("this process"));
    drop(lock);
    std::fs::write(&path, "123\n").unwrap();
    assert_eq!(Disk.holder(&path).as_deref(), Some("process 123"));
    std::fs::write(&path, "not a number").unwrap();
    assert_eq!(Disk.holder(&path), None);
}

#[test]
fn bare_names_are_in_the_current_directory() {
    // Nothing is made here: the directory of the tests is not theirs to write to.
    Disk.sync_dir(Path::new("")).unwrap();
    Disk.create_dir(Path::new("src")).unwrap();
    assert!(Disk.list(Path::new("")).unwrap().contains(&"Cargo.toml".to_owned()));
}

/// Preallocated bytes have blocks, so that a store into a map of them cannot fail.
#[cfg(target_os = "linux")]
#[test]
fn allocation_has_real_blocks() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let file = Disk.open(&path, Access::Create).unwrap();
    file.allocate(1 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
}

/// A small file system in memory, gone when the test ends.
#[cfg(target_os = "linux")]
struct Small(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl Small {
    /// `None` if the system does not let us.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then_some(Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).output();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn full_device_is_an_error_and_heals_when_a_file_goes() {
    let Some(small) = Small::mount("size=1m") else {
        // Not by what the harness captures of tests that succeed.
        let why = b"skipped: this user may not mount a small file system\n";
        std::io::Write::write_all(&mut std::io::stderr(), why).unwrap();
        return;
    };
    let (first, second) = (small.0.path().join("a"), small.0.path().join("b"));
    let file = Disk.open(&first, Access::Create).unwrap();
    file.allocate(768 << 10).unwrap();
    let other = Disk.open(&second, Access::Create).unwrap();
    assert_kind(other.allocate(512 << 10), ErrorKind::StorageFull);
    assert_kind(other.write_all_at(&vec![1; 512 << 10], 0), ErrorKind::StorageFull);
    let mut map = file.map(768 << 10).unwrap();
    map.store((768 << 10) - 1, &[7]);
    file.sync_all().unwrap();
    assert_eq!(read(&*file).last(), Some(&7), "what was allocated before takes every store");
    drop(other);
    Disk.remove(&second).unwrap();
    Disk.open(&second, Access::Create).unwrap().allocate(128 << 10).unwrap();
}

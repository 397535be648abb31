//! Durable databases on real files: what was committed is there after the next opening.

use palisade::{Database, Durability, Error, Options};
use tempfile::tempdir;

#[test]
fn what_was_committed_is_there_after_a_clean_close() {
    let folder = tempdir().unwrap();
    let db = Database::open(folder.path()).unwrap();
    let words = db.bucket::<String, u64>("words").unwrap();
    for n in 0..1000_u64 {
        words.insert(format!("word {n}"), n).unwrap();
    }
    words.remove("word 7").unwrap();
    drop(words);
    db.close().unwrap();

    let (db, recovery) = Options::new().recover(folder.path()).unwrap();
    assert!(recovery.was_closed && !recovery.is_new, "{recovery:?}");
    let words = db.bucket::<String, u64>("words").unwrap();
    assert_eq!(words.len().unwrap(), 999);
    assert_eq!(words.get("word 7").unwrap(), None);
    assert_eq!(words.get("word 8").unwrap(), Some(8));
}

#[test]
fn checkpoints_carry_what_the_log_lets_go() {
    let folder = tempdir().unwrap();
    let options = Options::new().durability(Durability::Relaxed).segment_bytes(64 << 10);
    for life in 0..4_u64 {
        let db = options.open(folder.path()).unwrap();
        let numbers = db.bucket::<u64, Vec<u8>>("numbers").unwrap();
        assert_eq!(numbers.len().unwrap() as u64, life * 900);
        for n in 0..1000 {
            numbers.insert(life * 1000 + n, vec![7; 200]).unwrap();
            if n % 10 == 3 {
                numbers.remove(&(life * 1000 + n)).unwrap();
            }
        }
        let checkpointed = db.checkpoint().unwrap();
        assert!(checkpointed.tables > 0, "{checkpointed:?}");
        if life == 2 {
            // Not opened in this life: its log must not be lost by a checkpoint.
            drop(numbers);
            drop(db);
            let db = options.open(folder.path()).unwrap();
            db.bucket::<u8, u8>("other").unwrap().insert(1, 2).unwrap();
            db.checkpoint().unwrap();
        }
    }
    let db = options.open(folder.path()).unwrap();
    assert_eq!(db.bucket::<u64, Vec<u8>>("numbers").unwrap().len().unwrap(), 3600);
    assert_eq!(db.bucket::<u8, u8>("other").unwrap().get(&1).unwrap(), Some(2));
}

#[test]
fn second_handle_and_other_types_are_refused() {
    let folder = tempdir().unwrap();
    let db = Database::open(folder.path()).unwrap();
    db.bucket::<u64, String>("a").unwrap();
    let second = Database::open(folder.path());
    assert!(matches!(second, Err(Error::AlreadyOpen { .. })), "{second:?}");
    db.close().unwrap();
    let db = Database::open(folder.path()).unwrap();
    let wrong = db.bucket::<u64, u64>("a");
    assert!(matches!(wrong, Err(Error::TypeMismatch { .. })), "{wrong:?}");
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "bucket \"a\" holds u64 to string, and was opened as u64 to u64"
    );
}

//! Reads that count as more than reads, and reads that count as less.

use super::*;

#[test]
fn a_key_read_for_update_is_taken_like_a_written_one() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        assert_eq!(t1.get_for_update(A), Ok(10));
        t1.insert(C, 30).unwrap();
        t2.insert(A, 12).unwrap();
        t2.commit().unwrap();
        assert_eq!(t1.commit(), Err(Abort::WriteWrite));
    }
}

/// With locked reads of the whole constraint even the snapshot level has no write skew.
#[test]
fn locked_reads_prevent_write_skew_at_both_levels() {
    for level in LEVELS {
        let db = open();
        let (t1, t2) = (db.begin(level), db.begin(level));
        for txn in [&t1, &t2] {
            assert_eq!((txn.get_for_update(A), txn.get_for_update(B)), (Ok(10), Ok(20)));
        }
        t1.insert(A, 11).unwrap();
        t2.insert(B, 21).unwrap();
        t1.commit().unwrap();
        assert_eq!(t2.commit(), Err(Abort::WriteWrite));
    }
}

#[test]
fn a_peek_is_not_an_observation() {
    let db = open();
    let (t1, t2) = (db.begin(Level::Serializable), db.begin(Level::Serializable));
    assert_eq!(t1.peek(B), Ok(20));
    t1.insert(A, 11).unwrap();
    assert_eq!(t2.get(A), Ok(10));
    t2.insert(B, 21).unwrap();
    t2.commit().unwrap();
    assert!(t1.commit().is_ok(), "the caller said that the value does not matter");
}

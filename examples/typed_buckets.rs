//! Any ordered type is a key, any type a value, as long as they stay in memory; a bucket remembers
//! both. What is to survive implements `Encode` and `Decode` as well.

use std::net::Ipv4Addr;

use palisade::{Bucket, Database, Error, Result};

/// Keys of several parts are structs: the derived order compares the parts from top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Visit {
    host: Ipv4Addr,
    second: u64,
}

/// Values need no `Clone`; reads lend them.
#[derive(Debug)]
struct Page {
    path: String,
    bytes: usize,
}

fn main() -> Result<()> {
    let db = Database::in_memory();
    let visits: Bucket<Visit, Page> = db.volatile_bucket("visits")?;
    let (ada, bob) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));

    db.write(|tx| {
        for (host, second, path) in [(bob, 7, "/"), (ada, 5, "/map"), (ada, 9, "/")] {
            let page = Page { path: path.to_owned(), bytes: 100 * path.len() };
            tx.insert(&visits, Visit { host, second }, page)?;
        }
        Ok(())
    })?;

    // All visits of one host, in order of time, without copying a page.
    let snapshot = db.snapshot();
    let of_ada = Visit { host: ada, second: 0 }..=Visit { host: ada, second: u64::MAX };
    let paths: Vec<&str> =
        snapshot.range(&visits, of_ada)?.map(|(_, page)| page.path.as_str()).collect();
    assert_eq!(paths, ["/map", "/"]);
    let bytes: usize = snapshot.iter(&visits)?.map(|(_, page)| page.bytes).sum();
    assert_eq!(bytes, 600);

    // Opening it with other types is refused, and the error names both.
    let wrong = db.volatile_bucket::<String, u64>("visits");
    assert!(matches!(wrong, Err(Error::TypeMismatch { .. })));

    // Buckets are listed, renamed and dropped by name.
    db.rename_bucket("visits", "log")?;
    let names: Vec<_> = db.buckets().into_iter().map(|bucket| bucket.name).collect();
    assert_eq!(names, ["log".into()]);
    assert!(db.drop_bucket("log")?);
    println!("{bytes} bytes in three visits");
    Ok(())
}

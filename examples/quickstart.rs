//! A first look: buckets, a transaction over two of them, a snapshot, a range.

use palisade::{Bucket, Database, Result};

fn main() -> Result<()> {
    let db = Database::in_memory();
    let stock: Bucket<String, u64> = db.bucket("stock")?;
    let orders: Bucket<u64, String> = db.bucket("orders")?;

    // A bucket alone is used like a map.
    stock.insert("lamp".to_owned(), 3)?;
    stock.insert("ladder".to_owned(), 1)?;
    assert_eq!(stock.get("lamp")?, Some(3));

    // Both buckets change together or not at all. The closure runs again if another transaction
    // got in its way.
    let before = db.snapshot();
    let sold = db.write(|tx| {
        let left = tx.get(&stock, "lamp")?.copied().unwrap_or(0);
        if left == 0 {
            return Ok(false);
        }
        tx.insert(&stock, "lamp".to_owned(), left - 1)?;
        tx.insert(&orders, 1, "lamp".to_owned())?;
        Ok(true)
    })?;
    assert!(sold);

    // A snapshot never changes; a new one sees what was committed.
    assert_eq!(before.get(&stock, "lamp")?, Some(&3));
    assert_eq!(db.snapshot().get(&stock, "lamp")?, Some(&2));

    // Keys are in order, from either end.
    let names: Vec<String> = stock.prefix("la")?.map(|(name, _)| name).collect();
    assert_eq!(names, ["ladder", "lamp"]);
    assert_eq!(orders.last_key_value()?, Some((1, "lamp".to_owned())));
    println!("sold a lamp, {} left", stock.get("lamp")?.unwrap_or(0));
    Ok(())
}

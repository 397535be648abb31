//! Transfers between accounts from many threads: the closure may fail for the user's own reasons,
//! conflicts are retried without being seen, and no money is made or lost.

use std::thread;

use palisade::{Bucket, Database, TransactionOptions};

const ACCOUNTS: u64 = 10;
const OPENING_BALANCE: u64 = 100;
const TRANSFERS_PER_THREAD: u64 = 2_000;

#[derive(Debug)]
enum TransferError {
    /// The transfer is refused; nothing of it remains.
    InsufficientFunds {
        missing: u64,
    },
    Database(palisade::Error),
}

/// Lets `?` pass conflicts on to the retrying loop.
impl From<palisade::Error> for TransferError {
    fn from(error: palisade::Error) -> Self {
        Self::Database(error)
    }
}

fn transfer(
    db: &Database,
    accounts: &Bucket<u64, u64>,
    (from, to): (u64, u64),
    amount: u64,
) -> Result<(), TransferError> {
    db.try_write(|tx| {
        // The deposit comes first to show that a refused transfer leaves no trace of it.
        tx.modify(accounts, &to, |balance| *balance += amount)?;
        let balance = tx.get(accounts, &from)?.copied().unwrap_or(0);
        let left = balance
            .checked_sub(amount)
            .ok_or(TransferError::InsufficientFunds { missing: amount.saturating_sub(balance) })?;
        tx.insert(accounts, from, left)?;
        Ok(())
    })
}

fn main() -> Result<(), TransferError> {
    let db = Database::in_memory();
    let accounts: Bucket<u64, u64> = db.bucket("accounts")?;
    for account in 0..ACCOUNTS {
        accounts.insert(account, OPENING_BALANCE)?;
    }

    thread::scope(|scope| {
        for seed in 0..4 {
            let (db, accounts) = (&db, &accounts);
            scope.spawn(move || {
                for step in 0..TRANSFERS_PER_THREAD {
                    let from = (seed + step * 7) % ACCOUNTS;
                    let to = (from + 1 + step % (ACCOUNTS - 1)) % ACCOUNTS;
                    match transfer(db, accounts, (from, to), step % 40) {
                        Ok(()) => {}
                        Err(TransferError::InsufficientFunds { missing }) => assert!(missing > 0),
                        Err(TransferError::Database(error)) => panic!("{error}"),
                    }
                }
            });
        }
    });

    let sum: u64 = db.read(|snapshot| {
        Ok::<_, palisade::Error>(snapshot.iter(&accounts)?.map(|(_, balance)| balance).sum())
    })?;
    assert_eq!(sum, ACCOUNTS * OPENING_BALANCE);

    // Whoever wants the steps takes them: begin, commit, and the decision to try again.
    let audit = TransactionOptions::new().label("audit");
    let tx = db.begin_with(&audit);
    tx.fetch_add(&accounts, 0, 5)?;
    tx.rollback();
    assert_eq!(db.snapshot().iter(&accounts)?.map(|(_, balance)| balance).sum::<u64>(), sum);

    let stats = db.stats();
    println!("{} commits, {} retries, {sum} in all accounts", stats.commits, stats.retries);
    Ok(())
}

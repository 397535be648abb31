//! `SmallBank`: 100 000 customers, six transactions drawn uniformly, on Palisade, on surrealmx and
//! under one `RwLock` around `BTreeMap`s.
//!
//! Every customer has an entry in three tables: the account (name to number), savings and checking.
//! The transactions are written once, against [`Tables`]; each bank says how a table is read and
//! written, and tries a refused transaction again until it commits. Every transaction reports by
//! how much it changed the sum of all money, so that at the end the sum must come out exactly.
//!
//! A fourth contender only reads what the transactions read, all in one snapshot, and writes
//! nothing: more than that Palisade could not do if beginning, writing and committing were free.
//!
//! `--threads 1,2,4` says how many threads run side by side, in turn; usually one and two.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use palisade::{Bucket, Database, Snapshot, Transaction};
use parking_lot::RwLock;
use peers::lab::{Random, median, rate, ratio, sized};

const CUSTOMERS: u64 = 100_000;
const OPENING_BALANCE: i64 = 10_000;

#[derive(Clone, Copy)]
enum Table {
    Accounts,
    Savings,
    Checking,
}

#[derive(Clone, Copy)]
enum Operation {
    Balance(u64),
    DepositChecking(u64, i64),
    TransactSavings(u64, i64),
    Amalgamate(u64, u64),
    WriteCheck(u64, i64),
    SendPayment(u64, u64, i64),
}

impl Operation {
    fn draw(random: &mut Random) -> Self {
        let one = random.below(CUSTOMERS);
        let other = (one + 1 + random.below(CUSTOMERS - 1)) % CUSTOMERS;
        let amount = i64::try_from(1 + random.below(50)).unwrap_or(1);
        match random.below(6) {
            0 => Self::Balance(one),
            1 => Self::DepositChecking(one, amount),
            2 => Self::TransactSavings(one, amount),
            3 => Self::Amalgamate(one, other),
            4 => Self::WriteCheck(one, amount),
            _ => Self::SendPayment(one, other, amount),
        }
    }
}

/// The three tables as one transaction sees them.
trait Tables {
    type Refusal;
    fn get(&mut self, table: Table, key: u64) -> Result<i64, Self::Refusal>;
    fn set(&mut self, table: Table, key: u64, value: i64) -> Result<(), Self::Refusal>;
}

/// Carries out `operation` and returns by how much all money together grew.
fn carry_out<T: Tables>(tables: &mut T, operation: Operation) -> Result<i64, T::Refusal> {
    use Table::{Accounts, Checking, Savings};
    let mut customer = |name| tables.get(Accounts, name).map(i64::cast_unsigned);
    match operation {
        Operation::Balance(name) => {
            let number = customer(name)?;
            let sum = tables.get(Savings, number)? + tables.get(Checking, number)?;
            std::hint::black_box(sum);
            Ok(0)
        }
        Operation::DepositChecking(name, amount) => {
            let number = customer(name)?;
            let checking = tables.get(Checking, number)?;
            tables.set(Checking, number, checking + amount)?;
            Ok(amount)
        }
        Operation::TransactSavings(name, amount) => {
            let number = customer(name)?;
            let savings = tables.get(Savings, number)?;
            tables.set(Savings, number, savings + amount)?;
            Ok(amount)
        }
        Operation::Amalgamate(from, to) => {
            let (from, to) = (customer(from)?, customer(to)?);
            let sum = tables.get(Savings, from)? + tables.get(Checking, from)?;
            let checking = tables.get(Checking, to)?;
            tables.set(Savings, from, 0)?;
            tables.set(Checking, from, 0)?;
            tables.set(Checking, to, checking + sum)?;
            Ok(0)
        }
        Operation::WriteCheck(name, amount) => {
            let number = customer(name)?;
            let checking = tables.get(Checking, number)?;
            let short = tables.get(Savings, number)? + checking < amount;
            let taken = amount + i64::from(short);
            tables.set(Checking, number, checking - taken)?;
            Ok(-taken)
        }
        Operation::SendPayment(from, to, amount) => {
            let (from, to) = (customer(from)?, customer(to)?);
            let (left, right) = (tables.get(Checking, from)?, tables.get(Checking, to)?);
            if left < amount {
                return Ok(0);
            }
            tables.set(Checking, from, left - amount)?;
            tables.set(Checking, to, right + amount)?;
            Ok(0)
        }
    }
}

trait Bank: Sync {
    /// Carries out `operation`, again and again until it commits.
    fn run(&self, operation: Operation) -> i64;
    fn money(&self) -> i64;
}

/// Palisade: one bucket a table.
struct Palisade {
    db: Database,
    buckets: [Bucket<u64, i64>; 3],
}

impl Palisade {
    fn open() -> palisade::Result<Self> {
        let db = Database::in_memory();
        let buckets = [db.bucket("accounts")?, db.bucket("savings")?, db.bucket("checking")?];
        let [accounts, savings, checking] = &buckets;
        for start in (0..CUSTOMERS).step_by(1_000) {
            db.write(|tx| {
                for name in start..start + 1_000 {
                    tx.insert(accounts, name, name.cast_signed())?;
                    tx.insert(savings, name, OPENING_BALANCE)?;
                    tx.insert(checking, name, OPENING_BALANCE)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { db, buckets })
    }

    fn sum(&self, bucket: &Bucket<u64, i64>) -> palisade::Result<i64> {
        Ok(self.db.snapshot().iter(bucket)?.map(|(_, balance)| balance).sum())
    }
}

struct InTransaction<'a, 'db>(&'a Palisade, &'a Transaction<'db>);

impl Tables for InTransaction<'_, '_> {
    type Refusal = palisade::Error;

    fn get(&mut self, table: Table, key: u64) -> palisade::Result<i64> {
        Ok(self.1.get(&self.0.buckets[table as usize], &key)?.copied().unwrap_or(0))
    }

    fn set(&mut self, table: Table, key: u64, value: i64) -> palisade::Result<()> {
        self.1.insert(&self.0.buckets[table as usize], key, value).map(drop)
    }
}

struct InSnapshot<'a>(&'a Palisade, &'a Snapshot);

impl Tables for InSnapshot<'_> {
    type Refusal = palisade::Error;

    fn get(&mut self, table: Table, key: u64) -> palisade::Result<i64> {
        Ok(self.1.get(&self.0.buckets[table as usize], &key)?.copied().unwrap_or(0))
    }

    fn set(&mut self, _: Table, _: u64, _: i64) -> palisade::Result<()> {
        unreachable!("only Balance runs in a snapshot, and it does not write")
    }
}

impl Bank for Palisade {
    fn run(&self, operation: Operation) -> i64 {
        let done = if matches!(operation, Operation::Balance(_)) {
            self.db.read(|snapshot| carry_out(&mut InSnapshot(self, snapshot), operation))
        } else {
            self.db.write(|tx| carry_out(&mut InTransaction(self, tx), operation))
        };
        done.expect("conflicts are retried and nothing else fails")
    }

    fn money(&self) -> i64 {
        let [_, savings, checking] = &self.buckets;
        let sum = |bucket| self.sum(bucket).expect("the buckets exist");
        sum(savings) + sum(checking)
    }
}

/// What the transactions read, and no transactions: one snapshot of a bank of its own.
struct Reads {
    bank: Palisade,
    snapshot: Snapshot,
}

struct JustReads<'a>(InSnapshot<'a>);

impl Tables for JustReads<'_> {
    type Refusal = palisade::Error;

    fn get(&mut self, table: Table, key: u64) -> palisade::Result<i64> {
        self.0.get(table, key)
    }

    fn set(&mut self, _: Table, _: u64, _: i64) -> palisade::Result<()> {
        Ok(())
    }
}

impl Reads {
    fn open() -> palisade::Result<Self> {
        let bank = Palisade::open()?;
        let snapshot = bank.db.snapshot();
        Ok(Self { bank, snapshot })
    }
}

impl Bank for Reads {
    fn run(&self, operation: Operation) -> i64 {
        let mut tables = JustReads(InSnapshot(&self.bank, &self.snapshot));
        carry_out(&mut tables, operation).expect("reads do not fail");
        0
    }

    fn money(&self) -> i64 {
        self.bank.money()
    }
}

/// surrealmx: one key space, the table is the first byte of the key.
struct Surreal(surrealmx::Database);

struct InSurreal<'t>(&'t mut surrealmx::Transaction);

fn surreal_key(table: Table, key: u64) -> [u8; 9] {
    let mut bytes = [table as u8; 9];
    bytes[1..].copy_from_slice(&key.to_be_bytes());
    bytes
}

impl Tables for InSurreal<'_> {
    type Refusal = surrealmx::Error;

    fn get(&mut self, table: Table, key: u64) -> Result<i64, surrealmx::Error> {
        let decode = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_le_bytes);
        Ok(self.0.with_value(surreal_key(table, key), decode)?.unwrap_or(0))
    }

    fn set(&mut self, table: Table, key: u64, value: i64) -> Result<(), surrealmx::Error> {
        self.0.set(surreal_key(table, key), value.to_le_bytes())
    }
}

impl Surreal {
    fn open() -> Result<Self, surrealmx::Error> {
        let db = surrealmx::Database::new();
        for start in (0..CUSTOMERS).step_by(1_000) {
            let mut tx = db.transaction(true);
            for name in start..start + 1_000 {
                let mut tables = InSurreal(&mut tx);
                tables.set(Table::Accounts, name, name.cast_signed())?;
                tables.set(Table::Savings, name, OPENING_BALANCE)?;
                tables.set(Table::Checking, name, OPENING_BALANCE)?;
            }
            tx.commit()?;
        }
        Ok(Self(db))
    }
}

impl Bank for Surreal {
    fn run(&self, operation: Operation) -> i64 {
        use surrealmx::Error::{KeyReadConflict, KeyWriteConflict};
        let writes = !matches!(operation, Operation::Balance(_));
        loop {
            let mut tx = self.0.transaction(writes);
            let done = carry_out(&mut InSurreal(&mut tx), operation)
                .and_then(|grown| if writes { tx.commit() } else { tx.cancel() }.map(|()| grown));
            match done {
                Ok(grown) => return grown,
                Err(KeyReadConflict | KeyWriteConflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn money(&self) -> i64 {
        let mut tx = self.0.transaction(false);
        let mut tables = InSurreal(&mut tx);
        let mut get = |table, key| tables.get(table, key).expect("reads do not fail");
        (0..CUSTOMERS).map(|key| get(Table::Savings, key) + get(Table::Checking, key)).sum()
    }
}

/// One lock around three ordered maps.
struct Locked(RwLock<[BTreeMap<u64, i64>; 3]>);

struct InRead<'m>(&'m [BTreeMap<u64, i64>; 3]);

struct InWrite<'m>(&'m mut [BTreeMap<u64, i64>; 3]);

impl Tables for InRead<'_> {
    type Refusal = Infallible;

    fn get(&mut self, table: Table, key: u64) -> Result<i64, Infallible> {
        Ok(self.0[table as usize].get(&key).copied().unwrap_or(0))
    }

    fn set(&mut self, _: Table, _: u64, _: i64) -> Result<(), Infallible> {
        unreachable!("only Balance runs under the read lock, and it does not write")
    }
}

impl Tables for InWrite<'_> {
    type Refusal = Infallible;

    fn get(&mut self, table: Table, key: u64) -> Result<i64, Infallible> {
        Ok(self.0[table as usize].get(&key).copied().unwrap_or(0))
    }

    fn set(&mut self, table: Table, key: u64, value: i64) -> Result<(), Infallible> {
        self.0[table as usize].insert(key, value);
        Ok(())
    }
}

impl Locked {
    fn open() -> Self {
        let all = |value: fn(u64) -> i64| (0..CUSTOMERS).map(|key| (key, value(key))).collect();
        let balances = || all(|_| OPENING_BALANCE);
        Self(RwLock::new([all(u64::cast_signed), balances(), balances()]))
    }
}

impl Bank for Locked {
    fn run(&self, operation: Operation) -> i64 {
        let Ok(grown) = if matches!(operation, Operation::Balance(_)) {
            carry_out(&mut InRead(&self.0.read()), operation)
        } else {
            carry_out(&mut InWrite(&mut self.0.write()), operation)
        };
        grown
    }

    fn money(&self) -> i64 {
        let [_, savings, checking] = &*self.0.read();
        savings.values().chain(checking.values()).sum()
    }
}

struct Contender {
    name: &'static str,
    bank: Box<dyn Bank>,
    grown: AtomicI64,
    rates: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, bank: impl Bank + 'static) -> Self {
        Self { name, bank: Box::new(bank), grown: AtomicI64::new(0), rates: Vec::new() }
    }

    fn race(&mut self, threads: u64, round: u64, span: Duration) {
        let (bank, grown) = (&self.bank, &self.grown);
        let work = |thread, stop: &AtomicBool| {
            let mut random = Random::new(round << 8 | thread);
            let (mut done, mut sum) = (0, 0);
            // Relaxed: see `rate`.
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    sum += bank.run(Operation::draw(&mut random));
                    done += 1;
                }
            }
            // Relaxed: read after the threads have been joined.
            grown.fetch_add(sum, Ordering::Relaxed);
            done
        };
        self.rates.push(rate(threads, span, work).wall);
    }
}

/// How many threads run side by side: `--threads 1,2,4`, or one and two.
fn threads() -> Vec<u64> {
    let named = std::env::args().skip_while(|it| it != "--threads").nth(1);
    named.map_or_else(
        || vec![1, 2],
        |list| list.split(',').map(|it| it.parse().expect("a number of threads")).collect(),
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (rounds, span) = sized((15, 400), (3, 100));
    let mut contenders = [
        Contender::new("palisade", Palisade::open()?),
        Contender::new("surrealmx", Surreal::open()?),
        Contender::new("RwLock<BTreeMap>", Locked::open()),
        Contender::new("palisade, reads", Reads::open()?),
    ];
    println!("SmallBank, {CUSTOMERS} customers uniform, thousand transactions a second");
    println!("{:<18} {:>9} {:>9} {:>24}", "", "median", "", "palisade is faster by");
    for threads in threads() {
        for contender in &mut contenders {
            contender.rates.clear();
        }
        for round in 0..rounds {
            for contender in &mut contenders {
                contender.race(threads, round, Duration::from_millis(span));
            }
        }
        let [ours, ..] = &contenders;
        for contender in &contenders {
            let (name, rate) = (contender.name, median(&contender.rates) / 1e3);
            let times = ratio(&ours.rates, &contender.rates);
            println!("{name:<18} {rate:>9.0} {threads:>2} threads {times:>20.2} times");
        }
    }
    for contender in contenders {
        let opened = 2 * OPENING_BALANCE * CUSTOMERS.cast_signed();
        let expected = opened + contender.grown.into_inner();
        assert_eq!(contender.bank.money(), expected, "{} lost or made money", contender.name);
    }
    println!("money conserved by all");
    Ok(())
}

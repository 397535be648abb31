//! Histories go out in the formats of two checkers from elsewhere.
//!
//! Method: a small history recorded by hand is compared with the text it must become, word for
//! word. Then threads run transactions over registers and over lists, and what is recorded must
//! be accepted by our own judge too. With `HISTORY_DIR` set, the files are kept there, so that
//! Elle and dbcop can be run on them; `HISTORY_TRANSACTIONS` says how many.
#![allow(clippy::indexing_slicing, reason = "indices are keys, all bounded")]

mod common;

use std::path::Path;

use common::engine::Engine;
use common::recorder::{History, Recorder};
use common::rng::{Rng, env, seed};
use common::store::{ABSENT, Level, Reader, Store, Transaction};

fn by_hand() -> History {
    let recorder = Recorder::new();
    let (mut first, mut second) = (recorder.session(), recorder.session());
    let mut writes = first.begin();
    writes.read(0, None);
    writes.write(0, 1);
    let mut fails = second.begin();
    fails.write(1, 2);
    fails.end(false);
    writes.end(true);
    let mut reads = second.begin();
    reads.read(0, Some(1));
    reads.read_list(2, Some(&[5, 6]));
    reads.append(2, 7);
    reads.end(true);
    recorder.history()
}

#[test]
fn elle_gets_one_map_per_call_and_answer() {
    assert_eq!(
        by_hand().elle(),
        "\
{:process 0, :type :invoke, :f :txn, :time 0, :index 0, :value [[:r 0 nil] [:w 0 1]]}
{:process 1, :type :invoke, :f :txn, :time 1, :index 1, :value [[:w 1 2]]}
{:process 1, :type :fail, :f :txn, :time 2, :index 2, :value [[:w 1 2]]}
{:process 0, :type :ok, :f :txn, :time 3, :index 3, :value [[:r 0 nil] [:w 0 1]]}
{:process 1, :type :invoke, :f :txn, :time 4, :index 4, \
:value [[:r 0 nil] [:r 2 nil] [:append 2 7]]}
{:process 1, :type :ok, :f :txn, :time 5, :index 5, \
:value [[:r 0 1] [:r 2 [5 6]] [:append 2 7]]}
"
    );
}

#[test]
fn dbcop_gets_sessions_of_transactions_of_events() {
    assert_eq!(
        by_hand().dbcop(),
        "{\"params\":{\"id\":0,\"n_node\":2,\"n_variable\":3,\"n_transaction\":2,\"n_event\":3},\
         \"info\":\"palisade\",\"start\":\"1970-01-01T00:00:00Z\",\
         \"end\":\"1970-01-01T00:00:00Z\",\"data\":[\
         [{\"events\":[{\"Read\":{\"variable\":0,\"version\":null}},\
         {\"Write\":{\"variable\":0,\"version\":1}}],\"committed\":true}],\
         [{\"events\":[{\"Write\":{\"variable\":1,\"version\":2}}],\"committed\":false},\
         {\"events\":[{\"Read\":{\"variable\":0,\"version\":1}},\
         {\"Read\":{\"variable\":2,\"version\":6}},\
         {\"Write\":{\"variable\":2,\"version\":7}}],\"committed\":true}]]}\n"
    );
}

/// Threads read and write registers, each value written once.
fn registers(level: Level, transactions: u64) -> History {
    const THREADS: u64 = 4;
    let (db, recorder) = (Engine::new(level, 2), Recorder::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, recorder) = (&db, &recorder);
            scope.spawn(move || {
                let mut rng = Rng::new(seed() + thread);
                let mut session = recorder.session();
                for number in 0..transactions / THREADS {
                    let mut attempt = session.begin();
                    let txn = db.begin(level);
                    for operation in 0..u64::from(1 + rng.small(4)) {
                        let key = rng.small(4);
                        let fresh = ((number * THREADS + thread) << 3) + operation + 1;
                        if rng.percent(50) {
                            let value = txn.get(key).expect("a read goes through");
                            attempt.read(u64::from(key), (value != ABSENT).then_some(value));
                        } else {
                            txn.insert(key, fresh).expect("a write goes through");
                            attempt.write(u64::from(key), fresh);
                        }
                    }
                    attempt.end(txn.commit().is_ok());
                }
            });
        }
    });
    recorder.history()
}

fn keep(name: &str, history: &History) {
    let Ok(dir) = std::env::var("HISTORY_DIR") else { return };
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir).expect("the directory can be made");
    std::fs::write(dir.join(format!("{name}.edn")), history.elle()).expect("can be written");
    std::fs::write(dir.join(format!("{name}.json")), history.dbcop()).expect("can be written");
}

#[test]
fn registers_of_threads_are_recorded_whole() {
    for level in [Level::Serializable, Level::Snapshot] {
        let transactions = env("HISTORY_TRANSACTIONS", 400);
        let history = registers(level, transactions);
        let elle = history.elle();
        assert_eq!(elle.lines().count() as u64, 2 * transactions);
        assert_eq!(elle.matches(":ok").count(), history.commits());
        assert!(history.commits() as u64 > transactions / 4, "hardly anything committed");
        keep(&format!("registers-{level:?}").to_lowercase(), &history);
    }
}

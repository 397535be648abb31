//! The engine's concurrent floors under loom: the shipped files over a `sync` that loom watches.
//!
//! `cargo test --release` runs all models; each is a function of the role that plays on the main
//! thread, because loom finds some bugs only for some of them. `cargo run --release --bin mutants`
//! proves that the models can fail.
#![allow(dead_code, unused_imports, reason = "a model uses a part of each floor")]

#[path = "../../src/checkpoint/mod.rs"]
mod checkpoint;
#[path = "../../src/codec/mod.rs"]
mod codec;
#[path = "../../src/crc.rs"]
mod crc;
#[path = "../../src/epoch/mod.rs"]
mod epoch;
#[path = "../../src/evict/mod.rs"]
mod evict;
#[path = "../../src/heap/mod.rs"]
mod heap;
#[path = "../../src/id.rs"]
mod id;
#[path = "../../src/mvcc/mod.rs"]
mod mvcc;
#[path = "../../src/skiplist/mod.rs"]
mod skiplist;
mod slab;
#[path = "../../src/ssi/mod.rs"]
mod ssi;
mod storage;
mod sync;
#[path = "../../src/wal/mod.rs"]
mod wal;

pub mod cold_models;
pub mod durable_models;
pub mod epoch_models;
pub mod evict_models;
pub mod floor_models;
mod play;
pub mod record_models;
pub mod skiplist_models;
pub mod ssi_models;
pub mod tidy_forced_models;
pub mod tidy_models;
pub mod wal_models;

/// Tests that run models of a suite, each with so many roles on the main thread in turn.
#[macro_export]
macro_rules! models {
    ($suite:ident: $($name:ident: $roles:expr;)*) => {
        $(#[test]
        fn $name() {
            (0..$roles).for_each($crate::$suite::$name);
        })*
    };
}

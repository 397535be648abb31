//! Palisade: an embedded, in-memory-first, transactional key-value engine.
#![deny(unsafe_code)]

mod id;
mod sync;

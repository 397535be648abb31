//! Palisade: an embedded, in-memory-first, transactional key-value engine.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "reclaims memory that other threads may still read")]
mod epoch;
mod id;
#[expect(unsafe_code, reason = "links nodes that other threads read without a lock")]
mod skiplist;
mod sync;

#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

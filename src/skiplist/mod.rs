//! The index: an ordered map from keys to entries, as a skiplist of fat segments.
//!
//! ```text
//! express levels   head ───────────────► S2 ──────────► ...      hints beside every link
//! level 0          head ──► S1 ────────► S2 ──► S3 ───► ...      authoritative, by low key
//! segment          low | lock | content* ─► leaf, leaf, ... | separators     up to 256
//! leaf             hints | entries, a sorted run and a short tail            up to 64
//! ```
//!
//! Readers take no lock and wait for nobody. Writers lock the one segment they change; towers
//! change under one structural mutex, once per some thousand keys. What readers may hold is
//! replaced and retired, never changed in place, but for places that nobody has seen yet.
//!
//! 1. Low keys strictly ascend along level 0.
//! 2. Separators strictly ascend inside a content and lie between the segment's fences.
//! 3. Every key of a leaf lies between the leaf's fences.
//! 4. Filled places of a leaf never change; places beyond its count are not read.
//! 5. The run of a leaf is sorted by hint and key.
//! 6. At most one living entry has a given key.
//! 7. The `skip` of a leaf or content is at most what its fences share. Fences may move together
//!    under an old skip, never apart.
//! 8. A hint at level 0 is at most the hint of the next segment's low key.
//! 9. Express links and the edge lead to segments that are not retired.
//! 10. What is retired cannot be reached from the head.
//! 11. No code of the user (`Ord`, `Clone`, `Drop`) runs between the first and the last store of
//!     a change of structure; locks are released when it panics.
//! 12. An inconsistent `Ord` gives wrong answers, but every loop ends and every index is in
//!     bounds: searches are clamped, and walks go along links in one direction.
//!
//! Lock order: segments from left to right, then the structural mutex.
//! `mvcc` uses it.

mod block;
#[cfg(any(test, feature = "testing"))]
mod check;
mod content;
mod cursor;
mod express;
mod hint;
mod insert;
mod leaf;
mod list;
mod order;
mod prefetch;
mod run;
mod search;
mod segment;
pub(crate) mod shape;
mod sweep;
#[cfg(test)]
mod tests;
mod walk;

#[cfg(test)]
pub(crate) use list::Occupied;
pub(crate) use list::SkipList;
pub(crate) use shape::Entry;

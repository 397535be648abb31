//! Epoch reclamation: memory that readers may still look at is freed only when none can.
//!
//! ```text
//! Collector   epoch ──────────────► 7            (only ever grows, by one)
//!             slots  [free] [pinned 7] [idle] [pinned 6] ...
//!                      │         │        │
//!                     bags      bags     bags    garbage, stamped with the epoch it was sealed in
//! ```
//!
//! A reader *pins*: it claims a slot and writes the epoch it saw into it. A writer that unlinked
//! an object *retires* it into the bag of the slot it holds. The epoch moves from `e` to `e + 1`
//! only when every pinned slot shows `e`, so two moves after a bag was sealed nobody can hold
//! anything in it. The memory of some is kept by the slot for the next boxes of its owner.
//!
//! 1. A slot belongs to whoever moved its state away from free; only that owner touches its bags
//!    and, until it gives the slot back, its state.
//! 2. Between a pin's store of the epoch and the reads it protects stands a light barrier; between
//!    unlinking an object and sealing its bag, and between reading the epoch and scanning the
//!    slots, stands a heavy one. [`barrier`] tells why each pair is enough.
//! 3. A bag sealed at `e` is freed when the epoch is at least `e + 2`.
//! 4. Slots are never freed while their collector lives.
//! 5. Freeing runs user code (`Drop` of keys and values), so it happens only when a guard that
//!    retired something is dropped, or in [`Collector::collect`]; never while a slot's bags are
//!    borrowed, and each object leaves its bag before its destructor runs.
//!
//! Every floor above uses it; one collector serves one database.

mod bag;
pub(crate) mod barrier;
mod collector;
mod guard;
pub(crate) mod prefetch;
mod slot;
mod spares;

#[cfg(test)]
mod tests;

pub(crate) use collector::Collector;
pub(crate) use guard::{Guard, Participant};

//! What the benchmark programs share. Each program in `src/bin` prints one table and says in its
//! header what it compares; all of them take `--quick` for a short run.

pub mod lab;
pub mod pace;

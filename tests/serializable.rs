//! Random concurrent transaction programs.
mod common;

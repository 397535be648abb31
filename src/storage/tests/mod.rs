//! What every storage promises, what a crash of the simulated one may do, and what it must not.
//!
//! `seam` runs one suite of facts on real files and on the simulated disk. `crash` looks at single
//! rules of the simulated disk, and that each outcome which a rule allows does occur. `model`
//! compares random histories with a plain model.

mod crash;

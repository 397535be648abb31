//! Checkpoints: the data as sorted, immutable tables, and the manifest that names them.

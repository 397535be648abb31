//! The write-ahead log: what committed, in order, in preallocated and mapped segments.

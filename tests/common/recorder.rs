//! Writes histories in the formats of two checkers from elsewhere.

//! Values that say whose they are, and keys of several types, for tests of values that leave
//! memory.
//!
//! ```text
//! key, 8 bytes | version, 8 bytes | bytes that follow from key, version and place
//! ```
//!
//! A value that is torn, foreign or old is told from the right one by its bytes alone.

use palisade::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Key};

/// The shortest value that carries its key and its version.
pub(crate) const HEAD: usize = 16;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The value that `key` has in `version`, of this length.
pub(crate) fn stamped(key: u64, version: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    let mut word = mix(mix(key).wrapping_add(version));
    while bytes.len() < length {
        word = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.truncate(length);
    // What a vector has room for counts, so each is as large as it looks.
    bytes.shrink_to_fit();
    bytes
}

/// The version of a value of `key`, every byte of which was looked at.
#[track_caller]
pub(crate) fn version_of(key: u64, bytes: &[u8]) -> u64 {
    let (head, rest) = bytes.split_at(HEAD);
    let word = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(word(0), key, "a value of another key");
    let version = word(8);
    let whole = stamped(key, version, bytes.len());
    assert!(rest == &whole[HEAD..], "a torn value of key {key}, version {version}");
    version
}

/// A key of any type, made from a number.
pub(crate) trait Name: Key + Encode + Decode + std::hash::Hash + std::fmt::Debug {
    fn of(number: u32) -> Self;
}

impl Name for u64 {
    fn of(number: u32) -> Self {
        number.into()
    }
}

impl Name for String {
    /// Zero is the empty string.
    fn of(number: u32) -> Self {
        if number == 0 { Self::new() } else { format!("name {number}") }
    }
}

impl Name for Vec<u8> {
    /// Keys that are beginnings of one another, the empty one among them; some are long.
    fn of(number: u32) -> Self {
        let length = (number % 7) as usize;
        let mut key = (number / 7).to_be_bytes().repeat(if number % 64 == 63 { 100 } else { 1 });
        if number < 7 {
            key.clear();
        }
        key.extend(vec![0; length]);
        key
    }
}

/// Sorts from large to small, and its bytes do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backwards(pub(crate) u64);

impl Ord for Backwards {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Backwards {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Encode for Backwards {
    const ORDERED: bool = false;

    fn type_identity() -> String {
        "backwards".into()
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        // Little-endian, so that neighbours lie far apart as bytes.
        to.last(&self.0.swap_bytes())
    }
}

impl Decode for Backwards {
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        from.last::<u64>().map(|number| Self(number.swap_bytes()))
    }
}

impl Name for Backwards {
    fn of(number: u32) -> Self {
        Self(number.into())
    }
}

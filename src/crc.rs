//! The checksum of everything on disk: CRC-32, begun from any value.
//!
//! Beginning from the checksum of something else ties bytes to it without storing it: a record
//! that was written for another database, or another life of its segment, does not check.

/// Goes on from `initial`, the checksum of what comes before, over `bytes`.
#[inline]
pub(crate) fn crc32(initial: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_common_one() {
        assert_eq!(crc32(0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(0, b""), 0);
    }

    #[test]
    fn going_on_equals_doing_all_at_once() {
        for cut in 0..=9 {
            let (front, back) = b"123456789".split_at(cut);
            assert_eq!(crc32(crc32(0, front), back), 0xCBF4_3926, "cut at {cut}");
        }
    }

    #[test]
    fn another_beginning_gives_another_checksum() {
        assert_ne!(crc32(1, b"palisade"), crc32(2, b"palisade"));
    }
}

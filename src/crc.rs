//! The checksum of everything on disk: CRC-32.

/// The checksum of `bytes` when `initial` is that of what comes before them.
///
/// An initial value that only one file has makes bytes of any other file fail there.
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
    fn is_the_usual_one_and_goes_on_where_it_ended() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}

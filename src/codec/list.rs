//! Bytes, strings, lists and arrays.
//!
//! ```text
//!                   last                     inside
//!   bytes 05 00     05 00                    05 00 01 00 00
//!   vec<bool> [t]   01 01                    01 01 00
//!   array           the elements, one by one
//! ```
//!
//! 1. Inside, bytes end with 00 00, and a zero among them is written 00 01. An end is smaller than
//!    a zero, and that is smaller than every other byte, so order is kept.
//! 2. Other lists have 01 before each element, and inside a 00 at the end.

#![expect(clippy::needless_pass_by_value, reason = "an encoder serves one value, a decoder too")]

use std::borrow::Cow;

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use crate::sync::Arc;

const END: u8 = 0;
const MORE: u8 = 1;

pub(super) fn encode<T: Encode>(values: &[T], to: Encoder<'_>) -> Result<(), EncodeError> {
    for value in values {
        to.bytes.push(MORE);
        value.encode(Encoder { bytes: &mut *to.bytes, is_last: false })?;
    }
    if !to.is_last {
        to.bytes.push(END);
    }
    Ok(())
}

pub(super) fn decode<T: Decode>(mut from: Decoder<'_>) -> Result<Vec<T>, DecodeError> {
    let mut values = Vec::new();
    loop {
        if from.is_last && from.rest().is_empty() {
            return Ok(values);
        }
        match from.part()? {
            MORE => values.push(from.part()?),
            END if !from.is_last => return Ok(values),
            _ => return Err(from.error("another element or the end")),
        }
    }
}

pub(super) fn encode_array<T: Encode>(values: &[T], to: Encoder<'_>) -> Result<(), EncodeError> {
    let Some((last, others)) = values.split_last() else { return Ok(()) };
    let to = others.iter().try_fold(to, Encoder::part)?;
    to.last(last)
}

pub(super) fn decode_array<T: Decode, const N: usize>(
    from: Decoder<'_>,
) -> Result<[T; N], DecodeError> {
    let mut failed = None;
    let mut element = |index| {
        if failed.is_some() {
            return None;
        }
        let is_last = from.is_last && index + 1 == N;
        let position = &mut *from.position;
        let element = Decoder { bytes: from.bytes, part: *position, position, is_last };
        T::decode(element).map_err(|error| failed = Some(error)).ok()
    };
    let elements: [Option<T>; N] = std::array::from_fn(&mut element);
    match failed {
        Some(error) => Err(error),
        None => Ok(elements.map(|element| element.expect("each was read, for none failed"))),
    }
}

pub(super) fn encode_bytes(mut bytes: &[u8], to: Encoder<'_>) {
    if to.is_last {
        to.bytes.extend_from_slice(bytes);
        return;
    }
    while let Some(zero) = bytes.iter().position(|&byte| byte == 0) {
        let (before, after) = bytes.split_at(zero + 1);
        to.bytes.extend_from_slice(before);
        to.bytes.push(MORE);
        bytes = after;
    }
    to.bytes.extend_from_slice(bytes);
    to.bytes.extend_from_slice(&[END, END]);
}

pub(super) fn decode_bytes(from: Decoder<'_>) -> Result<Cow<'_, [u8]>, DecodeError> {
    let mut rest = from.rest();
    if from.is_last {
        *from.position += rest.len();
        return Ok(Cow::Borrowed(rest));
    }
    let mut bytes = Cow::Borrowed(&[][..]);
    loop {
        let zero = rest.iter().position(|&byte| byte == 0);
        let (before, after) = rest.split_at(zero.unwrap_or(rest.len()));
        let start = *from.position + before.len();
        match after {
            [0, END, ..] => {
                *from.position = start + 2;
                append(&mut bytes, before);
                return Ok(bytes);
            }
            [0, MORE, after @ ..] => {
                let (with_zero, _) = rest.split_at(before.len() + 1);
                append(&mut bytes, with_zero);
                *from.position = start + 2;
                rest = after;
            }
            _ => return Err(DecodeError::new("the end of a string of bytes", start)),
        }
    }
}

/// Bytes without a zero among them are lent, not copied.
fn append<'a>(bytes: &mut Cow<'a, [u8]>, more: &'a [u8]) {
    if bytes.is_empty() {
        *bytes = Cow::Borrowed(more);
    } else {
        bytes.to_mut().extend_from_slice(more);
    }
}

impl<T: Encode> Encode for [T] {
    const ORDERED: bool = T::ORDERED;

    fn type_identity() -> String {
        T::list_identity()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        T::encode_list(self, to)
    }
}

impl<T: Encode> Encode for Vec<T> {
    const ORDERED: bool = T::ORDERED;

    fn type_identity() -> String {
        T::list_identity()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        T::encode_list(self, to)
    }
}

impl<T: Decode> Decode for Vec<T> {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode_list(from)
    }
}

impl<T: Decode> Decode for Box<[T]> {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode_list(from).map(Vec::into_boxed_slice)
    }
}

impl<T: Decode> Decode for Arc<[T]> {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode_list(from).map(Self::from)
    }
}

impl<T: Encode, const N: usize> Encode for [T; N] {
    const ORDERED: bool = T::ORDERED;

    fn type_identity() -> String {
        format!("[{};{N}]", T::type_identity())
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        T::encode_array(self, to)
    }
}

impl<T: Decode, const N: usize> Decode for [T; N] {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode_array(from)
    }
}

impl Encode for str {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "string".into()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        encode_bytes(self.as_bytes(), to);
        Ok(())
    }
}

impl Encode for String {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        str::type_identity()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.last(self.as_str())
    }
}

fn decode_text<T>(from: Decoder<'_>, text: impl Fn(&str) -> T) -> Result<T, DecodeError> {
    let start = *from.position;
    let bytes = decode_bytes(from)?;
    match std::str::from_utf8(&bytes) {
        Ok(valid) => Ok(text(valid)),
        Err(error) => Err(DecodeError::new("UTF-8", start.saturating_add(error.valid_up_to()))),
    }
}

impl Decode for String {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        decode_text(from, str::to_owned)
    }
}

impl Decode for Box<str> {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        decode_text(from, |text| Self::from(text))
    }
}

impl Decode for Arc<str> {
    #[inline]
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        decode_text(from, |text| Self::from(text))
    }
}

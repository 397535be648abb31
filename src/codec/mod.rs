//! Keys and values as bytes: the traits, and the two ends that bytes go through.
//!
//! ```text
//!   (7_u32, "ab", 1_u8)   ─►   00 00 00 07 │ 61 62 00 00 │ 01
//!                                  part         part       last
//! ```
//!
//! 1. A value writes itself in one of two forms. *Inside* a larger one it marks its own end; as the
//!    *last* thing of the buffer it need not, so a string or a list of bytes there is a plain copy.
//!    [`Encoder::part`] and [`Encoder::last`] choose, and `last` consumes the encoder, so nothing
//!    can follow it.
//! 2. Where [`Encode::ORDERED`] holds, encodings compare byte by byte exactly as the values do, in
//!    both forms, and no encoding in the inner form is the beginning of another.
//! 3. A value has one encoding per form. Decoding accepts that one and refuses every other input,
//!    bytes left over included, with a [`DecodeError`]; it never panics.
//! 4. What a type is called ([`Encode::type_identity`]) and how it is encoded never change; another
//!    encoding is another type.
//!
//! Numbers are big-endian, those with a sign have it flipped. Used by buckets that are kept on
//! disk, and by tools that look at keys without knowing their type.

use std::borrow::Cow;

mod compound;
mod foreign;
mod list;
mod number;
#[cfg(test)]
mod tests;

pub use foreign::Pod;
#[cfg(feature = "serde")]
pub use foreign::Serde;

/// A type whose values can be written to disk.
///
/// Built in for integers, floats, `bool`, `char`, `String`, `Vec`, arrays, `Option`, tuples, `()`,
/// and boxed or shared forms of them. [`Pod`] covers plain structs that are their own bytes;
/// `Serde`, behind the feature of that name, everything that serde can serialize.
///
/// # Your own type
///
/// Write the parts in order, the last one with [`last`](Encoder::last); read them back the same
/// way.
///
/// ```
/// use palisade::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
///
/// #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// struct Seat {
///     row: u16,
///     name: String,
/// }
///
/// impl Encode for Seat {
///     // The parts are ordered, and `Ord` compares them in the same order.
///     const ORDERED: bool = true;
///
///     fn type_identity() -> String {
///         "seat".into()
///     }
///
///     fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
///         to.part(&self.row)?.last(&self.name)
///     }
/// }
///
/// impl Decode for Seat {
///     fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
///         let row = from.part()?;
///         if row == 0 {
///             return Err(from.error("a row from 1"));
///         }
///         Ok(Self { row, name: from.last()? })
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seat = Seat { row: 3, name: "window".into() };
/// let bytes = seat.to_bytes()?;
/// assert_eq!(bytes, b"\x00\x03window");
/// assert_eq!(Seat::from_bytes(&bytes)?, seat);
///
/// let refused = Seat::from_bytes(b"\x00\x00window").unwrap_err();
/// assert_eq!(refused.to_string(), "expected a row from 1 at byte 0");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written to disk",
    label = "this type has no encoding",
    note = "implement `Encode` and `Decode` for it: two short functions, see the docs of `Encode`",
    note = "or wrap it: in `Pod` if it is plain data, in `Serde` (feature `serde`) if serde can",
    note = "or keep it in a volatile bucket, which takes any type"
)]
pub trait Encode {
    /// Whether encodings sort byte by byte exactly as `Ord` sorts the values.
    ///
    /// Tools may then check the order of stored keys and find ranges without knowing the type. It
    /// is always right to leave this `false`.
    const ORDERED: bool = false;

    /// A name for the type and its encoding that never changes, whatever module or crate the type
    /// moves to. It is stored with a bucket and compared when the bucket is opened. Give the type
    /// a new name when its encoding changes.
    fn type_identity() -> String;

    /// Writes the value.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the value has no encoding. None of the built-in types fails.
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError>;

    /// The value as bytes.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode).
    fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        self.encode(Encoder::new(&mut bytes))?;
        Ok(bytes)
    }

    /// What a list of such values is called. Differs for bytes only.
    #[doc(hidden)]
    #[must_use]
    fn list_identity() -> String {
        format!("vec<{}>", Self::type_identity())
    }

    /// Writes a list of such values. Differs for bytes only.
    #[doc(hidden)]
    fn encode_list(values: &[Self], to: Encoder<'_>) -> Result<(), EncodeError>
    where
        Self: Sized,
    {
        list::encode(values, to)
    }

    /// Writes as many such values as the type says. Differs for bytes only.
    #[doc(hidden)]
    fn encode_array(values: &[Self], to: Encoder<'_>) -> Result<(), EncodeError>
    where
        Self: Sized,
    {
        list::encode_array(values, to)
    }
}

/// A type whose values can be read back from disk. See [`Encode`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read back from disk",
    label = "this type has no decoding",
    note = "implement `Encode` and `Decode` for it: two short functions, see the docs of `Encode`",
    note = "or wrap it: in `Pod` if it is plain data, in `Serde` (feature `serde`) if serde can",
    note = "or keep it in a volatile bucket, which takes any type"
)]
pub trait Decode: Sized {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] unless the bytes are what [`Encode::encode`] writes.
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError>;

    /// The value that these bytes are the encoding of.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] unless the bytes, all of them, are what [`Encode::to_bytes`] gives.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut position = 0;
        let value =
            Self::decode(Decoder { bytes, position: &mut position, part: 0, is_last: true })?;
        if position == bytes.len() { Ok(value) } else { Err(DecodeError::new("the end", position)) }
    }

    /// Reads a list of such values. Differs for bytes only.
    #[doc(hidden)]
    fn decode_list(from: Decoder<'_>) -> Result<Vec<Self>, DecodeError> {
        list::decode(from)
    }

    /// Reads as many such values as the type says. Differs for bytes only.
    #[doc(hidden)]
    fn decode_array<const N: usize>(from: Decoder<'_>) -> Result<[Self; N], DecodeError> {
        list::decode_array(from)
    }
}

/// Where one value writes itself.
#[derive(Debug)]
pub struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
    /// Whether nothing follows the value in the buffer.
    is_last: bool,
}

impl<'a> Encoder<'a> {
    /// Appends to a buffer a value that is the last thing in it.
    #[must_use]
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, is_last: true }
    }

    /// Writes a part that others follow.
    ///
    /// # Errors
    ///
    /// Those of the part.
    pub fn part<T: Encode + ?Sized>(self, part: &T) -> Result<Self, EncodeError> {
        part.encode(Encoder { bytes: &mut *self.bytes, is_last: false })?;
        Ok(self)
    }

    /// Writes the last part.
    ///
    /// # Errors
    ///
    /// Those of the part.
    pub fn last<T: Encode + ?Sized>(self, part: &T) -> Result<(), EncodeError> {
        part.encode(self)
    }

    /// Writes bytes as they are, for [`Decoder::raw`] to read. Their number has to follow from the
    /// type, or from what was written before.
    #[must_use]
    pub fn raw(self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// Where one value reads itself from.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Never beyond `bytes`.
    position: &'a mut usize,
    /// Where the part that was read last began.
    part: usize,
    /// Whether the value is the last thing in `bytes`.
    is_last: bool,
}

impl<'a> Decoder<'a> {
    /// Reads a part that others follow.
    ///
    /// # Errors
    ///
    /// Those of the part.
    pub fn part<T: Decode>(&mut self) -> Result<T, DecodeError> {
        self.part = *self.position;
        let (bytes, part) = (self.bytes, self.part);
        T::decode(Decoder { bytes, position: &mut *self.position, part, is_last: false })
    }

    /// Reads the last part.
    ///
    /// # Errors
    ///
    /// Those of the part.
    pub fn last<T: Decode>(self) -> Result<T, DecodeError> {
        T::decode(Decoder { part: *self.position, ..self })
    }

    /// Reads so many bytes as they are.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if there are fewer.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        self.part = *self.position;
        let (raw, _) = self
            .rest()
            .split_at_checked(length)
            .ok_or_else(|| DecodeError::new(format!("{length} bytes"), self.part))?;
        *self.position += length;
        Ok(raw)
    }

    /// The error to answer with if what was read last, by [`part`](Self::part) or
    /// [`raw`](Self::raw), is not what has to stand there.
    #[must_use]
    pub fn error(&self, expected: impl Into<Cow<'static, str>>) -> DecodeError {
        DecodeError::new(expected, self.part)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(*self.position..).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.part = *self.position;
        let Some(&array) = self.rest().first_chunk() else {
            return Err(DecodeError::new(format!("{N} bytes"), self.part));
        };
        *self.position += N;
        Ok(array)
    }
}

/// Bytes are not the encoding of a value of the type asked for. They were written as another type,
/// by a faulty [`Encode`], or were damaged in a way that no checksum saw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {offset}")]
pub struct DecodeError {
    expected: Cow<'static, str>,
    offset: usize,
}

impl DecodeError {
    /// An error of a decoding of your own. [`Decoder::error`] knows the place.
    pub fn new(expected: impl Into<Cow<'static, str>>, offset: usize) -> Self {
        Self { expected: expected.into(), offset }
    }

    /// What should have been there.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Where, counted from the beginning of the key or value.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// A value has no encoding. Nothing was written; store another value, or another type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value has no encoding: {reason}")]
pub struct EncodeError {
    reason: Cow<'static, str>,
}

impl EncodeError {
    /// An error of an encoding of your own.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into() }
    }
}

//! Types whose bytes another crate makes: [`Pod`] by bytemuck, `Serde` by serde and postcard.

use bytemuck::{CheckedBitPattern, NoUninit};

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// Stores plain data as the bytes it consists of.
///
/// For any type that has bytemuck's `Pod`, or `NoUninit` and `CheckedBitPattern`: no padding, no
/// pointers. Reading back is one copy. The layout of the type is the layout on disk, so a field
/// that is added or moved makes another type; give it another name then. Bytes do not sort as the
/// values do. Little-endian machines only.
///
/// ```
/// use palisade::{Decode, Encode, Pod};
///
/// #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Quote {
///     bid: f64,
///     ask: f64,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quote = Pod(Quote { bid: 1.5, ask: 1.75 });
/// let bytes = quote.to_bytes()?;
/// assert_eq!(bytes.len(), 16);
/// assert_eq!(Pod::from_bytes(&bytes)?, quote);
/// assert_eq!(Pod::<Quote>::type_identity(), "pod:Quote/16");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pod<T>(
    /// The value.
    pub T,
);

impl<T: NoUninit> Encode for Pod<T> {
    fn type_identity() -> String {
        format!("pod:{}/{}", last_segments(std::any::type_name::<T>()), size_of::<T>())
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        const { assert!(cfg!(target_endian = "little"), "plain data is stored little-endian") };
        let _ = to.raw(bytemuck::bytes_of(&self.0));
        Ok(())
    }
}

impl<T: CheckedBitPattern> Decode for Pod<T> {
    #[inline]
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        let bytes = from.raw(size_of::<T>())?;
        bytemuck::checked::try_pod_read_unaligned(bytes)
            .map(Self)
            .map_err(|_| from.error(format!("a {}", last_segments(std::any::type_name::<T>()))))
    }
}

/// The name of a type without the modules that it and its parameters live in.
fn last_segments(path: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    path.split_inclusive(|c| !is_name(c))
        .map(|piece| piece.rsplit("::").next().unwrap_or_default().trim_end())
        .collect()
}

/// Stores anything that serde can serialize, in postcard's format.
///
/// Bytes do not sort as the values do. Fields are stored without their names: one that is added
/// or moved makes another type; give it another name then.
///
/// ```
/// use palisade::{Decode, Encode, Serde};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum Event {
///     Opened { by: String },
///     Closed,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Serde(Event::Opened { by: "ada".into() });
/// assert_eq!(Serde::from_bytes(&event.to_bytes()?)?, event);
/// assert_eq!(Serde::<Event>::type_identity(), "serde:Event");
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "serde")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serde<T>(
    /// The value.
    pub T,
);

#[cfg(feature = "serde")]
impl<T: serde::Serialize> Encode for Serde<T> {
    fn type_identity() -> String {
        format!("serde:{}", last_segments(std::any::type_name::<T>()))
    }

    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        let start = to.bytes.len();
        postcard::serialize_with_flavor(&self.0, Appended(&mut *to.bytes)).map_err(|error| {
            to.bytes.truncate(start);
            EncodeError::new(error.to_string())
        })
    }
}

#[cfg(feature = "serde")]
impl<T: serde::de::DeserializeOwned> Decode for Serde<T> {
    fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
        match postcard::take_from_bytes(from.rest()) {
            Ok((value, rest)) => {
                *from.position = from.bytes.len().saturating_sub(rest.len());
                Ok(Self(value))
            }
            Err(error) => {
                let name = last_segments(std::any::type_name::<T>());
                Err(from.error(format!("a {name} ({error})")))
            }
        }
    }
}

/// Lets postcard append to our buffer.
#[cfg(feature = "serde")]
struct Appended<'a>(&'a mut Vec<u8>);

#[cfg(feature = "serde")]
impl postcard::ser_flavors::Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

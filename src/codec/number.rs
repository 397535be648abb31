//! Numbers, truth values and characters: a fixed number of bytes each, so that both forms are one.

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, list};

macro_rules! unsigned {
    ($($type:ident),*) => {$(
        impl Encode for $type {
            const ORDERED: bool = true;

            fn type_identity() -> String {
                stringify!($type).into()
            }

            #[inline]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                let _ = to.raw(&self.to_be_bytes());
                Ok(())
            }
        }

        impl Decode for $type {
            #[inline]
            fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
                from.array().map(Self::from_be_bytes)
            }
        }
    )*};
}

macro_rules! signed {
    ($($type:ident),*) => {$(
        impl Encode for $type {
            const ORDERED: bool = true;

            fn type_identity() -> String {
                stringify!($type).into()
            }

            #[inline]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                // With the sign flipped, negative numbers sort before the others.
                let _ = to.raw(&(self ^ Self::MIN).to_be_bytes());
                Ok(())
            }
        }

        impl Decode for $type {
            #[inline]
            fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(from.array()?) ^ Self::MIN)
            }
        }
    )*};
}

/// Numbers as wide as the machine's addresses are written as wide as the widest machine's.
macro_rules! address_sized {
    ($($type:ident as $wide:ident),*) => {$(
        impl Encode for $type {
            const ORDERED: bool = true;

            fn type_identity() -> String {
                stringify!($type).into()
            }

            #[inline]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                let wide = $wide::try_from(*self);
                to.last(&wide.map_err(|_| EncodeError::new("the number is wider than 64 bits"))?)
            }
        }

        impl Decode for $type {
            #[inline]
            fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
                let wide: $wide = from.part()?;
                Self::try_from(wide).map_err(|_| from.error("a number that fits this machine"))
            }
        }
    )*};
}

/// The bits of a float, so that every one of them comes back, not-a-numbers included.
macro_rules! float {
    ($($type:ident as $bits:ident),*) => {$(
        impl Encode for $type {
            fn type_identity() -> String {
                stringify!($type).into()
            }

            #[inline]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                to.last(&self.to_bits())
            }
        }

        impl Decode for $type {
            #[inline]
            fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
                from.last().map(Self::from_bits)
            }
        }
    )*};
}

unsigned!(u16, u32, u64, u128);
signed!(i8, i16, i32, i64, i128);
address_sized!(usize as u64, isize as i64);
float!(f32 as u32, f64 as u64);

/// Lists and arrays of bytes are copied whole.
impl Encode for u8 {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "u8".into()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.bytes.push(*self);
        Ok(())
    }

    fn list_identity() -> String {
        "bytes".into()
    }

    #[inline]
    fn encode_list(values: &[Self], to: Encoder<'_>) -> Result<(), EncodeError> {
        list::encode_bytes(values, to);
        Ok(())
    }

    #[inline]
    fn encode_array(values: &[Self], to: Encoder<'_>) -> Result<(), EncodeError> {
        let _ = to.raw(values);
        Ok(())
    }
}

impl Decode for u8 {
    #[inline]
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        let [byte] = from.array()?;
        Ok(byte)
    }

    #[inline]
    fn decode_list(from: Decoder<'_>) -> Result<Vec<Self>, DecodeError> {
        list::decode_bytes(from).map(std::borrow::Cow::into_owned)
    }

    #[inline]
    fn decode_array<const N: usize>(mut from: Decoder<'_>) -> Result<[Self; N], DecodeError> {
        from.array()
    }
}

impl Encode for bool {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "bool".into()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.last(&u8::from(*self))
    }
}

impl Decode for bool {
    #[inline]
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        match from.part()? {
            0_u8 => Ok(false),
            1 => Ok(true),
            _ => Err(from.error("0 or 1")),
        }
    }
}

impl Encode for char {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "char".into()
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        to.last(&u32::from(*self))
    }
}

impl Decode for char {
    #[inline]
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        let code: u32 = from.part()?;
        Self::from_u32(code).ok_or_else(|| from.error("a character"))
    }
}

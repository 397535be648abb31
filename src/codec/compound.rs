//! Types made of others: `Option`, tuples, boxes.

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use crate::sync::Arc;

/// `None` is 00, and `Some` is 01 before the value, so `None` sorts first.
impl<T: Encode> Encode for Option<T> {
    const ORDERED: bool = T::ORDERED;

    fn type_identity() -> String {
        format!("option<{}>", T::type_identity())
    }

    #[inline]
    fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            None => to.last(&false),
            Some(value) => to.part(&true)?.last(value),
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    #[inline]
    fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
        if from.part()? { from.last().map(Some) } else { Ok(None) }
    }
}

impl Encode for () {
    const ORDERED: bool = true;

    fn type_identity() -> String {
        "()".into()
    }

    #[inline]
    fn encode(&self, _to: Encoder<'_>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Decode for () {
    #[inline]
    fn decode(_from: Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// A tuple is its parts.
macro_rules! tuple {
    ($($part:ident)*; $last:ident) => {
        impl<$($part: Encode,)* $last: Encode> Encode for ($($part,)* $last,) {
            const ORDERED: bool = $($part::ORDERED &&)* $last::ORDERED;

            fn type_identity() -> String {
                let parts = [$($part::type_identity(),)* $last::type_identity()];
                format!("({})", parts.join(","))
            }

            #[inline]
            #[expect(non_snake_case, reason = "a part is named as its type is")]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                let ($($part,)* $last,) = self;
                $(let to = to.part($part)?;)*
                to.last($last)
            }
        }

        impl<$($part: Decode,)* $last: Decode> Decode for ($($part,)* $last,) {
            #[inline]
            #[allow(unused_mut, reason = "a tuple of one has no other parts to read")]
            fn decode(mut from: Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(($(from.part::<$part>()?,)* from.last::<$last>()?,))
            }
        }
    };
}

tuple!(; A);
tuple!(A; B);
tuple!(A B; C);
tuple!(A B C; D);
tuple!(A B C D; E);
tuple!(A B C D E; F);

/// A pointer is what it points at.
macro_rules! pointer {
    ($($pointer:ident),*) => {$(
        impl<T: Encode + ?Sized> Encode for $pointer<T> {
            const ORDERED: bool = T::ORDERED;

            fn type_identity() -> String {
                T::type_identity()
            }

            #[inline]
            fn encode(&self, to: Encoder<'_>) -> Result<(), EncodeError> {
                to.last(&**self)
            }
        }

        impl<T: Decode> Decode for $pointer<T> {
            #[inline]
            fn decode(from: Decoder<'_>) -> Result<Self, DecodeError> {
                from.last().map(Self::new)
            }
        }
    )*};
}

pointer!(Box, Arc);

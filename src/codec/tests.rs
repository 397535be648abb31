//! Every value comes back, in both forms; where a type says that its encoding is ordered, bytes
//! compare as the values do; and bytes that nobody wrote are refused or are the one encoding of
//! what they decode to.

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Pod};
use proptest::prelude::*;
use std::fmt::Debug;
use std::sync::Arc;

fn bytes_of<T: Encode + ?Sized>(value: &T) -> Vec<u8> {
    value.to_bytes().expect("built-in types have an encoding")
}

/// The form a value has when something follows.
fn inner<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).part(value).expect("built-in types have an encoding");
    bytes
}

fn check_round_trip<T: Encode + Decode + Debug + Clone + PartialEq>(value: &T) {
    assert_eq!(&T::from_bytes(&bytes_of(value)).unwrap(), value, "as the last part");
    let followed = (value.clone(), 0xa5_u8);
    assert_eq!(<(T, u8)>::from_bytes(&bytes_of(&followed)).unwrap(), followed, "inside");
    let mut longer = inner(value);
    longer.extend([0, 0]);
    assert!(<(T, u8)>::from_bytes(&longer).is_err(), "a byte is left over");
}

fn check_order<T: Encode + Ord + Debug>(left: &T, right: &T) {
    const { assert!(T::ORDERED) };
    assert_eq!(bytes_of(left).cmp(&bytes_of(right)), left.cmp(right), "last: {left:?} {right:?}");
    let (inner_left, inner_right) = (inner(left), inner(right));
    assert_eq!(inner_left.cmp(&inner_right), left.cmp(right), "inside: {left:?} {right:?}");
    assert!(left == right || !inner_right.starts_with(&inner_left), "{left:?} begins {right:?}");
}

/// What decodes is the encoding of what it decodes to.
fn check_refusal<T: Encode + Decode + Debug>(bytes: &[u8]) {
    match T::from_bytes(bytes) {
        Ok(value) => assert_eq!(bytes_of(&value), bytes, "{value:?} has two encodings"),
        Err(error) => assert!(error.offset() <= bytes.len(), "{error} lies outside"),
    }
}

/// Bytes that look like encodings more often than random ones do.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => Just(0_u8), 3 => Just(1), 1 => Just(0x61), 2 => any::<u8>()];
    prop::collection::vec(byte, 0..24)
}

fn list<T: Debug + Clone + 'static>(
    element: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<T>> {
    prop::collection::vec(element, 0..5).boxed()
}

fn zeros_and_bytes() -> BoxedStrategy<Vec<u8>> {
    list(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()])
}

fn text() -> BoxedStrategy<String> {
    "[\\x00\\x01a-b\u{ff}\u{ffff}\u{10000}]{0,5}".boxed()
}

macro_rules! ordered {
    ($($name:ident: $type:ty = $values:expr;)*) => {$(
        mod $name {
            use super::*;
            proptest! {
                #![proptest_config(ProptestConfig::with_cases(128))]

                #[test]
                fn sorts_and_comes_back(left in $values, right in $values) {
                    check_round_trip::<$type>(&left);
                    check_order::<$type>(&left, &right);
                    check_order::<$type>(&left, &left.clone());
                }

                #[test]
                fn other_bytes_are_refused(bytes in likely_bytes()) {
                    check_refusal::<$type>(&bytes);
                    check_refusal::<($type, u8)>(&bytes);
                }
            }
        }
    )*};
}

ordered! {
    u8s: u8 = any::<u8>();
    u16s: u16 = any::<u16>();
    u32s: u32 = any::<u32>();
    u64s: u64 = any::<u64>();
    u128s: u128 = any::<u128>();
    usizes: usize = any::<usize>();
    i8s: i8 = any::<i8>();
    i16s: i16 = any::<i16>();
    i32s: i32 = any::<i32>();
    i64s: i64 = any::<i64>();
    i128s: i128 = any::<i128>();
    isizes: isize = any::<isize>();
    bools: bool = any::<bool>();
    chars: char = any::<char>();
    units: () = Just(());
    strings: String = text();
    boxed_strings: Box<str> = text().prop_map(Box::from);
    shared_strings: Arc<str> = text().prop_map(Arc::from);
    byte_strings: Vec<u8> = zeros_and_bytes();
    boxed_bytes: Box<[u8]> = zeros_and_bytes().prop_map(Box::from);
    shared_lists: Arc<[u16]> = list(0_u16..3).prop_map(Arc::from);
    byte_arrays: [u8; 3] = any::<[u8; 3]>();
    empty_arrays: [u32; 0] = Just([]);
    string_arrays: [String; 2] = [text(), text()];
    lists: Vec<i16> = list(-2_i16..2);
    lists_of_units: Vec<()> = list(Just(()));
    lists_of_strings: Vec<String> = list(text());
    lists_of_lists: Vec<Vec<u8>> = list(zeros_and_bytes());
    options: Option<i8> = any::<Option<i8>>();
    options_of_strings: Option<String> = prop::option::of(text());
    nested_options: Option<Option<bool>> = any::<Option<Option<bool>>>();
    singles: (String,) = (text(),);
    pairs: (String, u8) = (text(), 0_u8..3);
    pairs_of_strings: (String, Vec<u8>) = (text(), zeros_and_bytes());
    triples: (Vec<u8>, String, Vec<i16>) = (zeros_and_bytes(), text(), list(-2_i16..2));
    nested: ((String, String), Option<Vec<String>>) =
        ((text(), text()), prop::option::of(list(text())));
    sixes: (u8, bool, String, char, (), Vec<u8>) =
        (0_u8..2, any::<bool>(), text(), any::<char>(), Just(()), zeros_and_bytes());
    boxes: Box<(String, u8)> = (text(), 0_u8..3).prop_map(Box::new);
    shared: Arc<Vec<String>> = list(text()).prop_map(Arc::new);
}

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Plain {
    wide: u64,
    float: f32,
    narrow: [u16; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::NoUninit, bytemuck::CheckedBitPattern)]
#[repr(u8)]
enum Light {
    Red = 1,
    Green = 2,
}

proptest! {
    #[test]
    fn floats_keep_their_bits(bits in any::<u64>(), narrow in any::<u32>()) {
        let float = f64::from_bits(bits);
        prop_assert_eq!(f64::from_bytes(&bytes_of(&float)).unwrap().to_bits(), bits);
        let float = f32::from_bits(narrow);
        prop_assert_eq!(f32::from_bytes(&bytes_of(&float)).unwrap().to_bits(), narrow);
    }

    #[test]
    fn plain_data_comes_back(wide in any::<u64>(), float in -9_f32..9.0, narrow: [u16; 2]) {
        check_round_trip(&Pod(Plain { wide, float, narrow }));
        check_round_trip(&(Pod(Light::Green), vec![Pod(Light::Red)]));
    }

    #[test]
    fn other_bytes_are_not_plain_data(bytes in likely_bytes()) {
        check_refusal::<(Pod<Light>, Vec<Pod<Light>>)>(&bytes);
    }
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::*;
    use crate::codec::Serde;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn comes_back(map in any::<BTreeMap<String, Vec<Option<i64>>>>()) {
            check_round_trip(&Serde(map));
        }

        #[test]
        fn random_bytes_are_no_panic(bytes in likely_bytes()) {
            if let Err(error) = Serde::<(String, Vec<u64>, bool)>::from_bytes(&bytes) {
                assert!(error.offset() <= bytes.len());
            }
        }
    }

    /// A value that serde refuses leaves the buffer as it was.
    #[test]
    fn refused_value_leaves_no_bytes() {
        struct Refuses;
        impl serde::Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error, SerializeTuple};
                let mut pair = to.serialize_tuple(2)?;
                pair.serialize_element(&7_u8)?;
                Err(S::Error::custom("no"))
            }
        }
        let mut bytes = vec![1];
        assert!(Serde(Refuses).encode(Encoder::new(&mut bytes)).is_err());
        assert_eq!(bytes, [1]);
    }
}

/// The encodings are a format: they never change.
#[test]
fn encodings_are_as_written_down() {
    assert_eq!(bytes_of(&0x0102_u16), [1, 2]);
    assert_eq!(bytes_of(&-1_i16), [0x7f, 0xff]);
    assert_eq!(bytes_of(&1_usize), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes_of(&1.0_f32), [0x3f, 0x80, 0, 0]);
    assert_eq!(bytes_of(&'a'), [0, 0, 0, 0x61]);
    assert_eq!(bytes_of("a\0"), [0x61, 0]);
    assert_eq!(inner(&"a\0b".to_owned()), [0x61, 0, 1, 0x62, 0, 0]);
    assert_eq!(bytes_of(&vec![false, true]), [1, 0, 1, 1]);
    assert_eq!(inner(&vec![false, true]), [1, 0, 1, 1, 0]);
    assert_eq!(bytes_of(&[1_u16, 2]), [0, 1, 0, 2]);
    assert_eq!(bytes_of(&Some(7_u8)), [1, 7]);
    assert_eq!(bytes_of(&None::<u8>), [0]);
    assert_eq!(bytes_of(&("a".to_owned(), 7_u8)), [0x61, 0, 0, 7]);
    assert_eq!(bytes_of(&(7_u8, "a".to_owned())), [7, 0x61]);
    assert_eq!(bytes_of(&Pod(0x0102_u16)), [2, 1]);
}

#[test]
fn identities_are_as_written_down() {
    assert_eq!(u64::type_identity(), "u64");
    assert_eq!(<(u64, String)>::type_identity(), "(u64,string)");
    assert_eq!(Vec::<u8>::type_identity(), "bytes");
    assert_eq!(Box::<[u8]>::type_identity(), "bytes");
    assert_eq!(Vec::<Option<Arc<str>>>::type_identity(), "vec<option<string>>");
    assert_eq!(<[[u8; 4]; 2]>::type_identity(), "[[u8;4];2]");
    assert_eq!(<()>::type_identity(), "()");
    assert_eq!(<(char,)>::type_identity(), "(char)");
    assert_eq!(Pod::<Plain>::type_identity(), "pod:Plain/16");
    assert_eq!(Pod::<[std::num::Wrapping<u16>; 2]>::type_identity(), "pod:[Wrapping<u16>;2]/4");
}

#[test]
fn order_is_promised_only_where_it_holds() {
    const { assert!(!f64::ORDERED && !Pod::<u32>::ORDERED) };
    const { assert!(!<(u8, f32)>::ORDERED && !Vec::<Option<f32>>::ORDERED) };
    const { assert!(<(u8, [Box<str>; 2])>::ORDERED) };
}

/// Decode errors say what was missing, and where.
#[test]
fn errors_name_the_place() {
    let error = |result: Result<(), DecodeError>| result.unwrap_err().to_string();
    let pair = |bytes| error(<(u16, bool)>::from_bytes(bytes).map(drop));
    assert_eq!(pair(&[0]), "expected 2 bytes at byte 0");
    assert_eq!(pair(&[0, 0, 2]), "expected 0 or 1 at byte 2");
    assert_eq!(pair(&[0, 0, 1, 9]), "expected the end at byte 3");
    let text = |bytes| error(<(u8, String)>::from_bytes(bytes).map(drop));
    assert_eq!(text(&[0, 0x61, 0xff]), "expected UTF-8 at byte 2");
    let inside = |bytes| error(<(String, u8)>::from_bytes(bytes).map(drop));
    assert_eq!(inside(&[0x61, 0, 2]), "expected the end of a string of bytes at byte 1");
    assert_eq!(
        error(char::from_bytes(&[0, 0, 0xd8, 0]).map(drop)),
        "expected a character at byte 0"
    );
    let light = Pod::<Light>::from_bytes(&[3]).map(drop);
    assert_eq!(error(light), "expected a Light at byte 0");
}

/// An encoding that fails in the middle says so, whatever holds the value.
#[test]
fn refusal_of_a_part_is_the_refusal_of_the_whole() {
    struct Never;
    impl Encode for Never {
        fn type_identity() -> String {
            "never".into()
        }
        fn encode(&self, _to: Encoder<'_>) -> Result<(), EncodeError> {
            Err(EncodeError::new("it is a test"))
        }
    }
    let refusal =
        |value: &dyn Fn() -> Result<Vec<u8>, EncodeError>| value().unwrap_err().to_string();
    let expected = "the value has no encoding: it is a test";
    assert_eq!(refusal(&|| (1_u8, Never).to_bytes()), expected);
    assert_eq!(refusal(&|| vec![Some(Never)].to_bytes()), expected);
    assert_eq!(refusal(&|| [Never, Never].to_bytes()), expected);
}

/// A decoder that reads nothing is no reason to accept what is there.
#[test]
fn unread_bytes_are_left_over() {
    #[derive(Debug)]
    struct Lazy;
    impl Decode for Lazy {
        fn decode(_from: Decoder<'_>) -> Result<Self, DecodeError> {
            Ok(Self)
        }
    }
    assert!(Lazy::from_bytes(&[]).is_ok());
    assert_eq!(Lazy::from_bytes(&[1]).unwrap_err().offset(), 0);
}

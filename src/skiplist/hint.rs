//! Hints: eight bytes that order most keys without touching them.
//!
//! 1. For keys that share their first `skip` bytes, `a < b` gives `hint(a) <= hint(b)`.
//! 2. For integers (class `Exact`) equal hints are equal keys.
//! 3. A borrowed form has a key's hints only if the pair is known here to agree; any other form
//!    is compared by its own `Ord` alone. Types outside the list have no hints at all.
//!
//! The class of a type is a constant of each instance of the code, so the tests of it vanish.
//! Used by the whole of `skiplist`, and by nothing else.

use std::any::TypeId;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::marker::PhantomData;
use std::mem::transmute_copy;

/// What hints tell about keys of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything.
    Exact,
    /// The leading eight bytes of the value; `skip` plays no part.
    Lead,
    /// Eight bytes of a byte string, from `skip` on.
    Bytes,
    /// Nothing.
    Opaque,
}

/// The identity of a type, lifetimes left out.
#[inline]
fn erased_id<T: ?Sized>() -> TypeId {
    trait Erased {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Erased for PhantomData<T> {
        #[inline]
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let it: &dyn Erased = &PhantomData::<T>;
    // SAFETY: only the lifetime bound of the trait object changes; `id` holds on to nothing.
    let it = unsafe { std::mem::transmute::<&dyn Erased, &(dyn Erased + 'static)>(it) };
    it.id()
}

/// The value as a `U`, if that is its type but for lifetimes. What is read out of a `U` with
/// lifetimes must not be kept longer than `value` is borrowed.
#[inline]
fn view<T: ?Sized, U: 'static>(value: &T) -> Option<&U> {
    (erased_id::<T>() == TypeId::of::<U>()).then(|| {
        // SAFETY: the identities agree, so `T` is `U` but for lifetimes, and the only `U` here that
        // has one, `&'static str`, is read and let go within the borrow (`bytes`).
        unsafe { &*std::ptr::from_ref(value).cast::<U>() }
    })
}

/// The bytes of a `str` or `[u8]`.
#[inline]
fn view_slice<T: ?Sized>(value: &T) -> Option<&[u8]> {
    let id = erased_id::<T>();
    (id == TypeId::of::<str>() || id == TypeId::of::<[u8]>()).then(|| {
        // SAFETY: `T` is `str` or `[u8]`; references to both are a pointer and a count of bytes.
        unsafe { transmute_copy::<&T, &[u8]>(&value) }
    })
}

macro_rules! first_view {
    ($value:expr, $($kind:ty => $convert:expr),+ $(,)?) => {
        $(if let Some(value) = view::<_, $kind>($value) {
            let convert: fn(&$kind) -> _ = $convert;
            return Some(convert(value));
        })+
    };
}

const SIGN: u64 = 1 << 63;

/// The hint of an integer, a `bool` or a `char`.
#[inline]
fn exact<T: ?Sized>(value: &T) -> Option<u64> {
    first_view!(value,
        u64 => |v| *v, u32 => |v| u64::from(*v), u16 => |v| u64::from(*v), u8 => |v| u64::from(*v),
        usize => |v| *v as u64, char => |v| u64::from(*v), bool => |v| u64::from(*v),
        i64 => |v| v.cast_unsigned() ^ SIGN, i32 => |v| i64::from(*v).cast_unsigned() ^ SIGN,
        i16 => |v| i64::from(*v).cast_unsigned() ^ SIGN,
        i8 => |v| i64::from(*v).cast_unsigned() ^ SIGN,
        isize => |v| (*v as i64).cast_unsigned() ^ SIGN,
    );
    None
}

/// The leading part of a wide integer or of a pair.
#[inline]
fn lead<T: ?Sized>(value: &T) -> Option<u64> {
    const fn upper(value: u128) -> u64 {
        (value >> 64) as u64
    }
    first_view!(value,
        u128 => |v| upper(*v), i128 => |v| upper(v.cast_unsigned()) ^ SIGN,
        (u64, u64) => |v| v.0, (u64, u32) => |v| v.0, (i64, i64) => |v| v.0.cast_unsigned() ^ SIGN,
        (u32, u32) => |v| u64::from(v.0) << 32 | u64::from(v.1),
        (u32, u64) => |v| u64::from(v.0) << 32 | v.1 >> 32,
    );
    None
}

/// The bytes of a byte string.
#[inline]
fn bytes<T: ?Sized>(value: &T) -> Option<&[u8]> {
    if let Some(bytes) = view_slice(value) {
        return Some(bytes);
    }
    macro_rules! first_array {
        ($($len:literal)+) => {
            $(if let Some(value) = view::<_, [u8; $len]>(value) {
                return Some(value);
            })+
        };
    }
    if let Some(value) = view::<_, String>(value) {
        return Some(value.as_bytes());
    }
    if let Some(value) = view::<_, Vec<u8>>(value) {
        return Some(value);
    }
    if let Some(value) = view::<_, Box<str>>(value) {
        return Some(value.as_bytes());
    }
    if let Some(value) = view::<_, Box<[u8]>>(value) {
        return Some(value);
    }
    if let Some(value) = view::<_, &'static str>(value) {
        return Some(value.as_bytes());
    }
    first_array!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 20 24 28 32 48 64);
    None
}

/// Eight bytes from `skip` on, zeros behind the end.
#[inline]
fn window(bytes: &[u8], skip: usize) -> u64 {
    let rest = bytes.get(skip..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*whole);
    }
    let mut window = [0; 8];
    window.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(window)
}

/// The class of keys of type `K`.
#[inline]
pub(super) fn class<K: 'static>() -> Class {
    macro_rules! any_of {
        ($($kind:ty),+) => { $(TypeId::of::<K>() == TypeId::of::<$kind>())||+ };
    }
    if any_of!(u64, u32, u16, u8, usize, char, bool, i64, i32, i16, i8, isize) {
        Class::Exact
    } else if any_of!(u128, i128, (u64, u64), (u64, u32), (i64, i64), (u32, u32), (u32, u64)) {
        Class::Lead
    } else if is_bytes::<K>() {
        Class::Bytes
    } else {
        Class::Opaque
    }
}

#[inline]
fn is_bytes<K: 'static>() -> bool {
    macro_rules! any_of {
        ($($kind:ty),+) => { $(TypeId::of::<K>() == TypeId::of::<$kind>())||+ };
    }
    macro_rules! any_array {
        ($($len:literal)+) => { $(TypeId::of::<K>() == TypeId::of::<[u8; $len]>())||+ };
    }
    any_of!(String, Vec<u8>, Box<str>, Box<[u8]>, &'static str)
        || any_array!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 20 24 28 32 48 64)
}

/// Whether hints of `Q` are hints of the `K` that it was borrowed from.
#[inline]
fn agree<K: 'static, Q: ?Sized>() -> bool {
    let (key, borrowed) = (TypeId::of::<K>(), erased_id::<Q>());
    let is_str = TypeId::of::<String>() == key
        || TypeId::of::<Box<str>>() == key
        || TypeId::of::<&'static str>() == key;
    match class::<K>() {
        Class::Opaque => false,
        _ if key == borrowed => true,
        Class::Exact | Class::Lead => false,
        Class::Bytes if is_str => borrowed == TypeId::of::<str>(),
        Class::Bytes => borrowed == TypeId::of::<[u8]>(),
    }
}

/// The hint of a key whose class has hints; zero for others.
#[inline]
pub(super) fn hint<T: ?Sized>(value: &T, skip: usize) -> u64 {
    exact(value)
        .or_else(|| lead(value))
        .or_else(|| bytes(value).map(|bytes| window(bytes, skip)))
        .unwrap_or(0)
}

/// How many leading bytes all keys between two fences share; an open fence promises none.
pub(super) fn shared<K: 'static>(low: Option<&K>, high: Option<&K>) -> usize {
    if class::<K>() != Class::Bytes {
        return 0;
    }
    let (Some(low), Some(high)) = (low.and_then(bytes), high.and_then(bytes)) else { return 0 };
    let same = low.iter().zip(high).take_while(|(low, high)| low == high).count();
    // The header that keeps this number has 32 bits; a smaller skip is always right.
    same.min(u32::MAX as usize)
}

/// A key that is looked for, with its hint.
pub(super) struct Probe<'q, K, Q: ?Sized> {
    key: &'q Q,
    lead: u64,
    kind: PhantomData<fn() -> K>,
}

impl<'q, K: Borrow<Q> + 'static, Q: Ord + ?Sized> Probe<'q, K, Q> {
    #[inline]
    pub(super) fn new(key: &'q Q) -> Self {
        let lead = if agree::<K, Q>() { hint(key, 0) } else { 0 };
        Self { key, lead, kind: PhantomData }
    }

    /// Whether hints say anything about this probe.
    #[inline]
    #[expect(clippy::unused_self, reason = "asked of a probe, answered by its type")]
    pub(super) fn is_hinted(&self) -> bool {
        agree::<K, Q>()
    }

    /// Whether an equal hint is an equal key.
    #[inline]
    #[expect(clippy::unused_self, reason = "asked of a probe, answered by its type")]
    pub(super) fn is_exact(&self) -> bool {
        agree::<K, Q>() && class::<K>() == Class::Exact
    }

    #[inline]
    pub(super) fn hint(&self, skip: usize) -> u64 {
        if class::<K>() == Class::Bytes && skip > 0 { hint(self.key, skip) } else { self.lead }
    }

    /// Where `key` lies as seen from the probe.
    #[inline]
    pub(super) fn compare(&self, key: &K) -> Ordering {
        key.borrow().cmp(self.key)
    }

    /// Whether `key` lies before the probe, or at it if `or_equal`.
    #[inline]
    pub(super) fn is_after(&self, key: &K, or_equal: bool) -> bool {
        match self.compare(key) {
            Ordering::Less => true,
            Ordering::Equal => or_equal,
            Ordering::Greater => false,
        }
    }

    /// How many of `len` ascending keys lie before the probe, or at it too if `or_equal`.
    ///
    /// At most `len`, even if the keys are in no order at all.
    #[inline]
    pub(super) fn rank<'k>(
        &self,
        len: usize,
        skip: usize,
        or_equal: bool,
        hint_at: impl Fn(usize) -> u64,
        key_at: impl Fn(usize) -> &'k K,
    ) -> usize {
        let below = |bound| count_below(len, bound, &hint_at);
        self.rank_with(len, skip, or_equal, below, &hint_at, key_at)
    }

    /// The same for hints that have a faster way to count those below a bound.
    #[inline]
    pub(super) fn rank_with<'k>(
        &self,
        len: usize,
        skip: usize,
        or_equal: bool,
        below: impl Fn(u64) -> usize,
        hint_at: impl Fn(usize) -> u64,
        key_at: impl Fn(usize) -> &'k K,
    ) -> usize {
        let is_before = |index| self.is_after(key_at(index), or_equal);
        if !self.is_hinted() {
            return partition(0, len, is_before);
        }
        let hint = self.hint(skip);
        if self.is_exact() {
            return match (or_equal, hint.checked_add(1)) {
                (true, Some(above)) => below(above),
                (true, None) => len,
                (false, _) => below(hint),
            };
        }
        let (low, high) = equal_hints(len, hint, below(hint), hint_at);
        partition(low, high, is_before)
    }

    /// The place of the key that equals the probe among `len` ascending keys, or how many of them
    /// lie before it, which is at most `len` even if the keys are in no order at all.
    #[inline]
    pub(super) fn search<'k>(
        &self,
        len: usize,
        skip: usize,
        hint_at: impl Fn(usize) -> u64,
        key_at: impl Fn(usize) -> &'k K,
    ) -> Result<usize, usize> {
        let (mut low, mut high) = (0, len);
        if self.is_hinted() {
            let hint = self.hint(skip);
            if self.is_exact() {
                let at = count_below(len, hint, &hint_at);
                return if at < len && hint_at(at) == hint { Ok(at) } else { Err(at) };
            }
            (low, high) = equal_hints(len, hint, count_below(len, hint, &hint_at), hint_at);
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.compare(key_at(middle)) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

/// The first index of `low..high` that is not before; `high` if all are.
pub(super) fn partition(
    mut low: usize,
    mut high: usize,
    is_before: impl Fn(usize) -> bool,
) -> usize {
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// How many of `len` ascending hints are below `bound`, without a branch to mispredict.
#[inline]
pub(super) fn count_below(len: usize, bound: u64, hint_at: impl Fn(usize) -> u64) -> usize {
    if len == 0 {
        return 0;
    }
    let mut base = 0;
    let mut size = len;
    while size > 1 {
        let half = size / 2;
        let middle = base + half;
        base = select_unpredictable(hint_at(middle) < bound, middle, base);
        size -= half;
    }
    base + usize::from(hint_at(base) < bound)
}

/// The part of `len` ascending hints that equals `hint`; the `low` first ones are below it.
#[inline]
fn equal_hints(
    len: usize,
    hint: u64,
    low: usize,
    hint_at: impl Fn(usize) -> u64,
) -> (usize, usize) {
    if low == len || hint_at(low) != hint {
        return (low, low);
    }
    if low + 1 == len || hint_at(low + 1) != hint {
        return (low, low + 1);
    }
    (low, partition(low + 2, len, |index| hint_at(index) <= hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_types_have_their_class() {
        assert_eq!(class::<u64>(), Class::Exact);
        assert_eq!(class::<i128>(), Class::Lead);
        assert_eq!(class::<String>(), Class::Bytes);
        assert_eq!(class::<[u8; 16]>(), Class::Bytes);
        assert_eq!(class::<Vec<u16>>(), Class::Opaque);
        assert!(agree::<String, str>() && agree::<Vec<u8>, [u8]>() && agree::<u64, u64>());
        assert!(!agree::<String, [u8]>() && !agree::<Vec<u16>, [u16]>());
        assert!(!agree::<Box<u64>, u64>());
    }

    proptest! {
        #[test]
        fn hints_of_integers_keep_the_order(a: i64, b: i64, c: u128, d: u128) {
            prop_assert_eq!(a.cmp(&b), hint(&a, 0).cmp(&hint(&b, 0)));
            prop_assert!(c > d || hint(&c, 0) <= hint(&d, 0));
            prop_assert!(c.cast_signed() > d.cast_signed()
                || hint(&c.cast_signed(), 0) <= hint(&d.cast_signed(), 0));
        }

        #[test]
        fn hints_of_strings_keep_the_order_past_a_shared_prefix(
            prefix in "[ab\u{e9}]{0,12}", a in "[ab\0]{0,10}", b in "[ab\0]{0,10}",
        ) {
            let (a, b) = (format!("{prefix}{a}"), format!("{prefix}{b}"));
            let (a, b) = if a <= b { (a, b) } else { (b, a) };
            for skip in 0..=shared(Some(&a), Some(&b)) {
                prop_assert!(hint(&a, skip) <= hint(&b, skip));
                prop_assert_eq!(hint(&a, skip), hint(a.as_str(), skip));
            }
        }

        #[test]
        fn rank_and_search_agree_with_a_sorted_vector(
            mut keys in prop::collection::vec("[ab]{0,12}", 0..20), key in "[ab]{0,12}",
        ) {
            keys.sort();
            keys.dedup();
            let probe = Probe::<String, str>::new(&key);
            let hints: Vec<u64> = keys.iter().map(|key| hint(key, 0)).collect();
            let below = probe.rank(keys.len(), 0, false, |i| hints[i], |i| &keys[i]);
            prop_assert_eq!(below, keys.partition_point(|k| *k < key));
            let up_to = probe.rank(keys.len(), 0, true, |i| hints[i], |i| &keys[i]);
            prop_assert_eq!(up_to, keys.partition_point(|k| *k <= key));
            let found = probe.search(keys.len(), 0, |i| hints[i], |i| &keys[i]);
            prop_assert_eq!(found, keys.binary_search(&key));
        }
    }
}

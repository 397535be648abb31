//! temporary
use std::any::{Any, TypeId};
/// t
pub trait HeapSize {
    /// t
    fn heap_size(&self) -> usize;
}
pub(crate) fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { ((bytes + 8).next_multiple_of(16)).max(32) }
}
pub(crate) fn is_known<T: 'static>() -> bool {
    !std::mem::needs_drop::<T>()
        || TypeId::of::<T>() == TypeId::of::<String>()
        || TypeId::of::<T>() == TypeId::of::<Vec<u8>>()
}
pub(crate) fn heap_size_of_known<T: 'static>(value: &T) -> Option<usize> {
    if !std::mem::needs_drop::<T>() {
        return Some(0);
    }
    let value: &dyn Any = value;
    if let Some(s) = value.downcast_ref::<String>() {
        return Some(allocated(s.capacity()));
    }
    if let Some(s) = value.downcast_ref::<Vec<u8>>() {
        return Some(allocated(s.capacity()));
    }
    None
}

//! A box whose memory is from here.
//!
//! 1. The memory holds a `T` that is alive, and nobody else owns it.
//!
//! Used where things are made and freed one by one.

use super::memory::Memory;
use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Like a `Box`, in the memory of this module.
pub(crate) struct Boxed<T> {
    content: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its content, as a `Box` does.
unsafe impl<T: Send> Send for Boxed<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Boxed<T> {}

impl<T> Boxed<T> {
    #[inline]
    pub(crate) fn new(content: T) -> Self {
        Self::fill(Memory::take(Layout::new::<T>()), || content)
    }

    /// A box of this memory, which has the layout of a `T`, and of what is made for it. Large
    /// things are made where they will be: moved, they wait for their own parts.
    #[inline]
    pub(crate) fn fill(memory: Memory, make: impl FnOnce() -> T) -> Self {
        assert!(memory.layout() == Layout::new::<T>(), "memory serves its own layout");
        let place = memory.start().cast::<T>();
        // SAFETY: the memory has the layout of a `T`, and nobody else has it.
        unsafe { place.write(make()) };
        Self { content: memory.into_raw().cast(), owns: PhantomData }
    }

    /// Gives the pointer away; whoever has it answers for the box.
    #[inline]
    pub(crate) fn leak(this: Self) -> NonNull<T> {
        let content = this.content;
        std::mem::forget(this);
        content
    }

    /// The box that [`leak`](Self::leak) gave away.
    ///
    /// # Safety
    /// `content` came from there, and nobody else makes a box of it.
    #[inline]
    pub(crate) unsafe fn from_raw(content: NonNull<T>) -> Self {
        Self { content, owns: PhantomData }
    }

    /// Drops the content, also if that panics then, and keeps the memory.
    #[inline]
    pub(crate) fn empty(this: Self) -> Memory {
        let content = Self::leak(this);
        // SAFETY: it is the memory of a box, and what is in it is dropped now, before anybody may
        // fill it.
        let memory = unsafe { Memory::from_raw(content.cast(), Layout::new::<T>()) };
        // SAFETY: the box owned a `T` that is alive (1).
        unsafe { content.drop_in_place() };
        memory
    }
}

impl<T> Drop for Boxed<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the box is going away, and this one goes in its place.
        let last = unsafe { Self::from_raw(self.content) };
        drop(Self::empty(last));
    }
}

impl<T> Deref for Boxed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the box owns a `T` that is alive (1).
        unsafe { self.content.as_ref() }
    }
}

impl<T> DerefMut for Boxed<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the box is borrowed mutably.
        unsafe { self.content.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Boxed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

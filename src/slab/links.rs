//! A list that runs through its members, so that one in the middle leaves in one step.
//!
//! 1. Members begin with their links, and are in one list at most.
//! 2. Whoever calls holds the lock that guards the list and all its members.
//!
//! Used by `shelf` and `region`.

use std::ptr::NonNull;

/// The links of a member.
#[derive(Debug)]
pub(super) struct Links {
    next: Option<NonNull<Links>>,
    before: Option<NonNull<Links>>,
}

impl Links {
    /// Of something that is in no list.
    pub(super) const fn none() -> Self {
        Self { next: None, before: None }
    }
}

/// The first of the members, if there are any.
#[derive(Debug)]
pub(super) struct List(Option<NonNull<Links>>);

impl List {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) const fn first(&self) -> Option<NonNull<Links>> {
        self.0
    }

    /// Puts a member in front.
    ///
    /// # Safety
    /// It is alive and in no list, and the caller holds the lock.
    pub(super) unsafe fn push(&mut self, mut member: NonNull<Links>) {
        let next = self.0.replace(member);
        // SAFETY: the caller's promise.
        let links = unsafe { member.as_mut() };
        *links = Links { next, before: None };
        if let Some(mut next) = next {
            // SAFETY: members are alive, and guarded by the caller's lock (2).
            unsafe { next.as_mut() }.before = Some(member);
        }
    }

    /// Takes a member out.
    ///
    /// # Safety
    /// It is in this list, and the caller holds the lock.
    pub(super) unsafe fn remove(&mut self, mut member: NonNull<Links>) {
        // SAFETY: the caller's promise.
        let Links { next, before } = std::mem::replace(unsafe { member.as_mut() }, Links::none());
        match before {
            // SAFETY: members are alive, and guarded by the caller's lock (2).
            Some(mut before) => unsafe { before.as_mut() }.next = next,
            None => self.0 = next,
        }
        if let Some(mut next) = next {
            // SAFETY: as above.
            unsafe { next.as_mut() }.before = before;
        }
    }
}

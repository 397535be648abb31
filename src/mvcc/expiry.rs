//! Which versions of a bucket are too old to be read: time to live.
//!
//! ```text
//! marks      (12:00:00, 40)  (12:00:01, 97)  (12:00:02, 130)  ..      time, newest commit then
//! ttl 60 s   at 12:01:01.5 everything up to 130 has expired: it was committed before 12:00:02,
//!            and so was what the next mark would tell apart
//! ```
//!
//! A version carries its commit timestamp and no time. A list of marks, made by the commits
//! themselves, turns one into the other; entries that were given a time to live of their own carry
//! their deadline.
//!
//! 1. A commit has a mark at or before it that is younger than a grain, a small part of the time
//!    to live. So a version expires at the earliest a grain before its time, and never after it.
//! 2. A transaction or snapshot asks at one moment of time for all it reads in a bucket. What it
//!    could read once it can read until it ends.
//! 3. Marks that no question can need any more are dropped: there are at most [`GRAINS`] and a
//!    few.
//!
//! Called by tables; by snapshots, which keep the moments at which they asked (2).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::{BucketId, Timestamp};
use crate::sync::{Mutex, OnceLock};

/// Marks within one time to live.
const GRAINS: u32 = 1024;

/// What may not be read any more at one moment of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired {
    /// The newest commit whose versions have expired, unless they have deadlines of their own;
    /// `None` if nothing has.
    pub(crate) up_to: Option<Timestamp>,
    pub(crate) now: Instant,
}

/// The time to live of a bucket's entries, and when what was committed.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// `None`: only entries with deadlines of their own expire.
    ttl: Option<Duration>,
    marks: Mutex<VecDeque<Mark>>,
}

/// At `time` everything up to `newest` had been committed.
#[derive(Clone, Copy, Debug)]
struct Mark {
    time: Instant,
    newest: Timestamp,
}

impl Expiry {
    pub(crate) fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, marks: Mutex::new(VecDeque::new()) }
    }

    /// Called by whoever is about to commit, with the newest commit it knows of (keeps 1).
    pub(crate) fn mark(&self, time: Instant, newest: impl FnOnce() -> Timestamp) {
        let Some(ttl) = self.ttl else { return };
        let mut marks = self.marks.lock();
        let grain = ttl / GRAINS;
        if marks.back().is_some_and(|last| time.saturating_duration_since(last.time) < grain) {
            return;
        }
        marks.push_back(Mark { time, newest: newest() });
        // The two oldest bound what the oldest living version may be.
        while marks.get(1).is_some_and(|second| self.is_over(second.time, time)) {
            marks.pop_front();
        }
    }

    fn is_over(&self, since: Instant, now: Instant) -> bool {
        self.ttl.is_some_and(|ttl| now.saturating_duration_since(since) >= ttl)
    }

    /// What has expired at `now`.
    pub(crate) fn at(&self, now: Instant) -> Expired {
        Expired { up_to: self.expired_up_to(now), now }
    }

    fn expired_up_to(&self, now: Instant) -> Option<Timestamp> {
        let marks = self.marks.lock();
        let over = marks.partition_point(|mark| self.is_over(mark.time, now));
        if over == 0 {
            return None;
        }
        // What was committed after the last mark that is over, and before the next one, came less
        // than a grain after the former (1). Without a next one that is everything.
        Some(marks.get(over).map_or(Timestamp::MAX, |next| next.newest))
    }
}

/// What had expired in each of some buckets when its turn came. Grows only, so that whoever shares
/// it reads without a lock. O(n) in the buckets that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Moments(OnceLock<Box<Moment>>);

#[derive(Debug)]
struct Moment {
    bucket: BucketId,
    expired: Expired,
    next: Moments,
}

impl Moments {
    /// What had expired in this bucket when it was first asked for, which is now if it never was.
    pub(crate) fn of(&self, bucket: BucketId, now: impl Fn() -> Expired) -> &Expired {
        let mut place = self;
        loop {
            let make = || Box::new(Moment { bucket, expired: now(), next: Self::default() });
            let moment = place.0.get_or_init(make);
            if moment.bucket == bucket {
                return &moment.expired;
            }
            place = &moment.next;
        }
    }
}

impl Drop for Moments {
    /// One by one: a long list must not need a deep stack.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut moment) = next {
            next = moment.next.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compared with commits that remember their time: nothing is read after its time, and
        /// nothing goes more than a grain before it.
        #[test]
        fn expires_within_a_grain_of_its_time(
            pauses in prop::collection::vec(0_u64..400, 1..200),
            ttl in 1_u64..5000,
            later in 0_u64..6000,
        ) {
            let ttl = Duration::from_micros(ttl * u64::from(GRAINS) / 100);
            let expiry = Expiry::new(Some(ttl));
            let start = Instant::now();
            let mut commits: Vec<Instant> = Vec::new();
            let mut now = start;
            for pause in pauses {
                now += Duration::from_micros(pause);
                let newest = Timestamp::from_raw(commits.len() as u64);
                expiry.mark(now, || newest);
                commits.push(now);
            }
            now += Duration::from_micros(later);
            let expired = expiry.expired_up_to(now).map_or(0, Timestamp::get);
            let grain = ttl / GRAINS;
            for (before, &time) in commits.iter().enumerate() {
                let age = now - time;
                let is_expired = (before as u64) < expired;
                prop_assert!(is_expired || age < ttl, "{age:?} old and alive at {ttl:?}");
                prop_assert!(!is_expired || age + grain >= ttl, "{age:?} old and gone at {ttl:?}");
            }
        }
    }

    #[test]
    fn moment_of_a_bucket_is_one_for_all_who_ask() {
        let moments = Moments::default();
        let ask = |bucket: u32| {
            let up_to = Some(Timestamp::from_raw(u64::from(bucket)));
            let now = || Expired { up_to, now: Instant::now() };
            let expired = moments.of(BucketId::from_raw(bucket), now);
            assert_eq!(expired.up_to, up_to, "of another bucket");
            expired.now
        };
        let ask_eight = |first: u32| (0..8).map(|at| ask((at + first) % 8)).collect::<Vec<_>>();
        let seen: Vec<_> = std::thread::scope(|scope| {
            let threads = [0, 2, 4, 6].map(|first| (first, scope.spawn(move || ask_eight(first))));
            threads.map(|(first, thread)| (first, thread.join().unwrap())).into()
        });
        for (first, seen) in seen {
            assert_eq!(seen, ask_eight(first));
        }
        // None of its parts drops the rest: that would not fit the stack.
        for bucket in 0..2_000 {
            let _ = ask(bucket);
        }
        let long = std::thread::Builder::new().stack_size(64 << 10);
        long.spawn(move || drop(moments)).unwrap().join().unwrap();
    }

    #[test]
    fn marks_stay_few() {
        let expiry = Expiry::new(Some(Duration::from_millis(100)));
        let start = Instant::now();
        for step in 0..100_000_u32 {
            let time = start + Duration::from_micros(u64::from(step) * 50);
            expiry.mark(time, || Timestamp::from_raw(u64::from(step)));
        }
        assert!(expiry.marks.lock().len() <= GRAINS as usize + 2);
    }
}

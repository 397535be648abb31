//! The policies as their papers tell them: one thread, exact lists, entries of equal weight.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A cache that only says what it would have held.
pub(crate) trait Reference {
    /// Reads a key, and keeps it if it was not there. True for a hit.
    fn access(&mut self, key: u64) -> bool;
}

/// The reference of a policy by its name, for so many entries.
///
/// # Panics
///
/// If there is no policy of this name.
#[must_use]
pub(crate) fn reference(name: &str, capacity: usize) -> Box<dyn Reference> {
    match name {
        "S3-FIFO" => Box::new(S3Fifo { capacity, ..S3Fifo::default() }),
        "LRU" => Box::new(Lru { capacity, list: List::default() }),
        "LFU" => Box::new(Lfu { capacity, ..Lfu::default() }),
        "ARC" => Box::new(Arc { capacity, ..Arc::default() }),
        "random" => Box::new(Random { capacity, ..Random::default() }),
        _ => panic!("there is no policy {name:?}"),
    }
}

/// Keys in the order in which they were last put in.
#[derive(Debug, Default)]
struct List {
    by_age: BTreeMap<u64, u64>,
    ages: HashMap<u64, u64>,
    next: u64,
}

impl List {
    fn len(&self) -> usize {
        self.ages.len()
    }

    fn contains(&self, key: u64) -> bool {
        self.ages.contains_key(&key)
    }

    fn push(&mut self, key: u64) {
        self.remove(key);
        self.by_age.insert(self.next, key);
        self.ages.insert(key, self.next);
        self.next += 1;
    }

    fn remove(&mut self, key: u64) -> bool {
        let age = self.ages.remove(&key);
        age.is_some_and(|age| self.by_age.remove(&age).is_some())
    }

    fn pop_oldest(&mut self) -> Option<u64> {
        let (_, key) = self.by_age.pop_first()?;
        self.ages.remove(&key);
        Some(key)
    }
}

#[derive(Debug, Default)]
struct Lru {
    capacity: usize,
    list: List,
}

impl Reference for Lru {
    fn access(&mut self, key: u64) -> bool {
        let hit = self.list.contains(key);
        if !hit && self.list.len() >= self.capacity {
            self.list.pop_oldest();
        }
        self.list.push(key);
        hit
    }
}

/// Counts are halved when so many times as many keys came as there are.
const PERIOD: usize = 5;

/// The least count goes first, and of these the one that has had this count for longest. Counts
/// begin at 1 and end at 31.
#[derive(Debug, Default)]
struct Lfu {
    capacity: usize,
    order: BTreeSet<(u8, u64, u64)>,
    counts: HashMap<u64, (u8, u64)>,
    next: u64,
    admitted: usize,
}

impl Reference for Lfu {
    fn access(&mut self, key: u64) -> bool {
        self.next += 1;
        if let Some((count, since)) = self.counts.get_mut(&key) {
            if *count < 31 {
                self.order.remove(&(*count, *since, key));
                (*count, *since) = (*count + 1, self.next);
                self.order.insert((*count, *since, key));
            }
            return true;
        }
        if self.counts.len() >= self.capacity {
            let (_, _, key) = self.order.pop_first().expect("there is something");
            self.counts.remove(&key);
        }
        self.admitted += 1;
        if self.admitted > PERIOD * self.counts.len().max(16) {
            self.admitted = 0;
            self.counts.values_mut().for_each(|(count, _)| *count /= 2);
            let counts = self.counts.iter();
            self.order = counts.map(|(key, (count, since))| (*count, *since, *key)).collect();
        }
        self.counts.insert(key, (1, self.next));
        self.order.insert((1, self.next, key));
        false
    }
}

/// Figure 4 of the paper; `t1`, `t2`, `b1`, `b2`, `p` are its names.
#[derive(Debug, Default)]
struct Arc {
    capacity: usize,
    t1: List,
    t2: List,
    b1: List,
    b2: List,
    p: f64,
}

fn real(number: usize) -> f64 {
    u32::try_from(number).map(f64::from).expect("caches here are small")
}

impl Arc {
    fn replace(&mut self, in_b2: bool) {
        let t1 = real(self.t1.len());
        if t1 >= 1.0 && (t1 > self.p || (in_b2 && t1 >= self.p)) {
            if let Some(key) = self.t1.pop_oldest() {
                self.b1.push(key);
            }
        } else if let Some(key) = self.t2.pop_oldest() {
            self.b2.push(key);
        }
    }

    fn make_room(&mut self) {
        let (l1, all) = (self.t1.len() + self.b1.len(), self.t1.len() + self.t2.len());
        let everything = l1 + self.t2.len() + self.b2.len();
        if l1 >= self.capacity {
            if self.t1.len() < self.capacity {
                self.b1.pop_oldest();
                self.replace(false);
            } else {
                self.t1.pop_oldest();
            }
        } else if everything >= self.capacity {
            if everything >= 2 * self.capacity {
                self.b2.pop_oldest();
            }
            if all >= self.capacity {
                self.replace(false);
            }
        }
    }
}

impl Reference for Arc {
    fn access(&mut self, key: u64) -> bool {
        if self.t1.remove(key) || self.t2.contains(key) {
            self.t2.push(key);
            return true;
        }
        let (b1, b2) = (real(self.b1.len()), real(self.b2.len()));
        if self.b1.contains(key) {
            self.p = (self.p + (b2 / b1).max(1.0)).min(real(self.capacity));
            self.replace(false);
            self.b1.remove(key);
            self.t2.push(key);
        } else if self.b2.contains(key) {
            self.p = (self.p - (b1 / b2).max(1.0)).max(0.0);
            self.replace(true);
            self.b2.remove(key);
            self.t2.push(key);
        } else {
            self.make_room();
            self.t1.push(key);
        }
        false
    }
}

/// Algorithm 1 of the paper: a small queue of a tenth, a main queue of the rest, as many ghosts as
/// the main queue has entries.
#[derive(Debug, Default)]
struct S3Fifo {
    capacity: usize,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghosts: List,
    heat: HashMap<u64, u8>,
}

impl S3Fifo {
    fn evict(&mut self) {
        if self.small.len() >= self.capacity / 10 && !self.small.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop_back() {
            if self.heat.get(&key).is_some_and(|heat| *heat > 1) {
                self.heat.insert(key, 0);
                self.main.push_front(key);
            } else {
                self.heat.remove(&key);
                self.ghosts.push(key);
                while self.ghosts.len() > self.capacity - self.capacity / 10 {
                    self.ghosts.pop_oldest();
                }
                return;
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop_back() {
            let heat = self.heat.get_mut(&key).expect("what is in a queue has a heat");
            if *heat == 0 {
                self.heat.remove(&key);
                return;
            }
            *heat -= 1;
            self.main.push_front(key);
        }
    }
}

impl Reference for S3Fifo {
    fn access(&mut self, key: u64) -> bool {
        if let Some(heat) = self.heat.get_mut(&key) {
            *heat = (*heat + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() >= self.capacity {
            self.evict();
        }
        let queue = if self.ghosts.remove(key) { &mut self.main } else { &mut self.small };
        queue.push_front(key);
        self.heat.insert(key, 0);
        false
    }
}

/// Keys in a list, of which any is overwritten.
#[derive(Debug, Default)]
struct Random {
    capacity: usize,
    keys: Vec<u64>,
    places: HashMap<u64, usize>,
    state: u64,
}

impl Reference for Random {
    fn access(&mut self, key: u64) -> bool {
        if self.places.contains_key(&key) {
            return true;
        }
        if self.keys.len() < self.capacity {
            self.places.insert(key, self.keys.len());
            self.keys.push(key);
            return false;
        }
        // A generator of its own (Knuth's MMIX), so that it shares no weakness with the engine's.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(self.state >> 33).expect("31 bits fit") % self.capacity;
        self.places.remove(&self.keys[at]);
        self.keys[at] = key;
        self.places.insert(key, at);
        false
    }
}

//! The policies by name.

/// Which entries leave first when memory is short.
///
/// A hit costs at most one small store into the entry, and none if the entry is hot already: no
/// policy keeps a list that reads reorder. Order is restored when victims are looked for.
///
/// No policy is best everywhere. Each is described by its source:
///
/// | policy | source | good for |
/// |---|---|---|
/// | `S3Fifo` | Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO queues are all you need for cache eviction", SOSP 2023 | skewed access, scans; the default |
/// | `Lru` | Mattson, Gecsei, Slutz, Traiger: "Evaluation techniques for storage hierarchies", IBM Systems Journal 1970 | recency without scans |
/// | `Lfu` | counters of a few bits that are halved in turns: Einziger, Friedman, Manes: "TinyLFU", ACM Transactions on Storage 2017 | stable skew |
/// | `Arc` | Megiddo, Modha: "ARC: a self-tuning, low overhead replacement cache", FAST 2003 | changing mixtures of recency and frequency |
/// | `Random` | a uniform choice | a baseline; no worse than any other on loops |
/// | `Manual` | no choice | writes are refused at the limit |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// A small queue for newcomers, a main queue for what was read there again, and fingerprints of
    /// what left the small queue too early.
    #[default]
    S3Fifo,
    /// What was not read for longest goes first, to about a hundredth of the time that an entry
    /// stays unread.
    Lru,
    /// What was read least often goes first. Counts end at 31, and all are halved each time that
    /// five times as many entries came as there are, so that old favourites do not stay for ever.
    Lfu,
    /// Two lists, of what was read once and of what was read again, whose shares follow the
    /// fingerprints of what left either too early.
    Arc,
    /// Any entry.
    Random,
    /// Nothing leaves by itself.
    Manual,
}

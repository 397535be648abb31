//! The policies by name.

/// Which entries leave first when memory is short.
///
/// A hit costs at most one small store into the entry, and none if the entry is hot already: no
/// policy keeps a list that reads reorder. Order is restored when victims are looked for.
///
/// No policy is best everywhere: [`S3Fifo`](Self::S3Fifo) is for skewed access and for scans,
/// [`Lru`](Self::Lru) for recency without scans, [`Lfu`](Self::Lfu) for skew that stays,
/// [`Arc`](Self::Arc) for mixtures that change, [`Random`](Self::Random) for loops and to compare
/// with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// A small queue for newcomers, a main queue for what was read there again, and fingerprints of
    /// what left the small queue too early.
    ///
    /// J. Yang, Y. Zhang, Z. Qiu, Y. Yue, R. Vigfusson: "FIFO queues are all you need for cache
    /// eviction", SOSP 2023.
    #[default]
    S3Fifo,
    /// What was not read for longest goes first, to a 64th of the time for which an entry stays
    /// unread.
    ///
    /// R. Mattson, J. Gecsei, D. Slutz, I. Traiger: "Evaluation techniques for storage
    /// hierarchies", IBM Systems Journal 9 (2), 1970.
    Lru,
    /// What was read least often goes first. Counts end at 31, and all are halved each time that
    /// five times as many entries came as there are, so that old favourites do not stay for ever.
    ///
    /// The halving is that of G. Einziger, R. Friedman, B. Manes: "`TinyLFU`: a highly efficient
    /// cache admission policy", ACM Transactions on Storage 13 (4), 2017; nothing is refused
    /// admission.
    Lfu,
    /// Two lists, of what was read once and of what was read again, whose shares follow the
    /// fingerprints of what left either too early.
    ///
    /// N. Megiddo, D. Modha: "ARC: a self-tuning, low overhead replacement cache", FAST 2003.
    Arc,
    /// Any entry, each with the same chance.
    Random,
    /// Nothing leaves by itself: what would exceed the limit is refused.
    Manual,
}

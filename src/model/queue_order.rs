//! The order of the queue of live objects.

/// Which pending object a worker claims first: the setting `btc_ingest.queue_order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOrder {
    /// The object with the earliest times: ticks arrive in the order in which they were traded.
    #[default]
    Oldest,
    /// The object with the latest times: current data comes before the backlog.
    Newest,
}

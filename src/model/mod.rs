//! The terms of the project as types: uri, bucket, tick, options, report. No I/O, no PostgreSQL.

pub mod backfill;
pub mod bars;
pub mod bucket;
pub mod candles;
pub mod chunk_reach;
pub mod cursors;
pub mod digest;
pub mod format;
pub mod ids;
pub mod incidents;
pub mod ledger_switch;
pub mod options;
pub mod pattern;
pub mod queue_order;
pub mod report;
pub mod source;
pub mod status;
pub mod text;
pub mod tick;
pub mod time_range;
pub mod uri;
pub mod watch;
pub mod window;

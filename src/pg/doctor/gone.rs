//! Slices that are loaded and whose chunk does not exist, as after `drop_chunks` by mistake.

use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;
use crate::pg::session::target::as_reading_owner;

const NAME: &str = "loaded slices";

/// Slices of one asset between two chunks (`doctor_gone.sql`).
#[derive(Deserialize)]
struct Gone {
    asset: String,
    from_bucket: String,
    /// Exclusive.
    to_bucket: String,
    /// The objects of the first and the last slice.
    uris: [String; 2],
    /// Whether chunks exist behind these slices only, as retention leaves it.
    retained: bool,
}

/// Checks that the chunks of all loaded slices exist.
pub fn checks() -> Result<Vec<Check>> {
    let gone: Vec<Gone> = as_reading_owner(|client| spi::fetch(client, statement!("doctor_gone"), &[]))?;
    let (retained, lost): (Vec<Gone>, Vec<Gone>) = gone.into_iter().partition(|gone| gone.retained);
    if let Some(first) = lost.first() {
        let purpose = format!("If they were dropped on purpose: {}", first.record());
        return Ok(vec![Check::bad(NAME, describe(&lost), Hint::run(first.fix()).then(purpose))]);
    }
    if let Some(first) = retained.first() {
        let hint = format!(
            "As it should be if they were dropped by age. Then record it, so that nothing brings them back by \
             accident and their candles stay: {} If not: {}",
            first.record(),
            first.fix()
        );
        return Ok(vec![Check::known(NAME, describe(&retained), Hint::know(hint))]);
    }
    Ok(vec![Check::good(NAME, "their chunks exist, or are recorded as dropped")])
}

fn describe(gone: &[Gone]) -> String {
    let ranges = gone.iter().take(3).map(|gone| format!("{} {} to {}", gone.asset, gone.from_bucket, gone.to_bucket));
    let more = if gone.len() > 3 { ", and more: SELECT * FROM btc_ingest.gone" } else { "" };
    format!("their ticks are gone with their chunks: {}{more}", ranges.collect::<Vec<_>>().join(", "))
}

impl Gone {
    /// Returns the statement that records these slices as dropped.
    fn record(&self) -> String {
        let (asset, from, to) = (self.asset.replace('\'', "''"), &self.from_bucket, &self.to_bucket);
        format!("SELECT * FROM btc_ingest.record_dropped('{asset}', '{from}', '{to}');")
    }

    /// Returns the statement that loads these slices again.
    fn fix(&self) -> String {
        let prefix = common_folder(&self.uris[0], &self.uris[1]).replace('\'', "''");
        let (from, to) = (&self.from_bucket, &self.to_bucket);
        format!("CALL btc_ingest.backfill('{prefix}', '{from}', '{to}', force => true);")
    }
}

/// Returns what both uris begin with, up to the last slash.
fn common_folder<'a>(one: &'a str, other: &str) -> &'a str {
    let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let slash = one.as_bytes()[..common].iter().rposition(|byte| *byte == b'/');
    slash.map_or(one, |slash| &one[..=slash])
}

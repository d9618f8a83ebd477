//! The commands on candles, which `sql/candles.sql` declares. The candles belong to the tables' owner, and their
//! statements run with that owner's privileges.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::candles::{CandleTime, CandleWidth, parse_name};
use crate::pg::session::shared::wake_at_commit;
use crate::pg::session::spi;
use crate::pg::session::target::{Target, as_owner};

/// What makes candles (`candles_create.sql`).
#[derive(Deserialize)]
struct Made {
    /// `None` if the candles are a view over the ticks.
    #[serde(deserialize_with = "spi::nullable")]
    aggregate: Option<String>,
    statements: Vec<String>,
}

/// Makes candles without their history, which a worker or a refresh fills in. `chunk_us` is the chunk interval of the
/// aggregate. Returns the name with its schema.
pub fn create(width: CandleWidth, name: Option<&str>, by: CandleTime, chunk_us: i64) -> Result<String> {
    let name = name.map_or_else(|| Ok(width.default_name(by)), parse_name)?;
    let (width, chunk) = (interval(width.as_us())?, interval(chunk_us)?);
    as_owner(|client, _: &Target| {
        must_be_free(client, &name)?;
        let by = by.as_str().to_owned();
        let args = [name.clone().into(), width.into(), by.clone().into(), chunk.into()];
        let made: Made = spi::fetch(client, statement!("candles_create"), &args)?;
        made.statements.iter().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))?;
        let args = [name.clone().into(), width.into(), by.into(), made.aggregate.into(), chunk.into()];
        spi::execute(client, statement!("candles_record"), &args)
    })?;
    wake_at_commit();
    Ok(format!("market_data.{name}"))
}

fn interval(us: i64) -> Result<Interval> {
    Interval::new(0, 0, us).map_err(|_| Error::Internal { why: "an interval is out of range".into() })
}

fn must_be_free(client: &mut SpiClient<'_>, name: &str) -> Result<()> {
    let sql = "SELECT (EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('market_data')
                                  AND relname IN ($1, $1 || '_parts')))::text";
    match spi::fetch(client, sql, &[name.to_owned().into()])? {
        true => Err(wrong(format!(
            "market_data.{name} exists already: drop_candles('{name}') drops it, or give another \
                                   name"
        ))),
        false => Ok(()),
    }
}

/// Drops candles. Returns the name with its schema.
pub fn drop_named(name: &str) -> Result<String> {
    let name = parse_name(name)?;
    as_owner(|client, _| {
        let statements: Option<Vec<String>> = spi::fetch(client, statement!("candles_drop"), &[name.clone().into()])?;
        let Some(statements) = statements else {
            return Err(wrong(format!("there are no candles \"{name}\": SELECT name FROM btc_ingest.candles")));
        };
        statements.iter().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))
    })?;
    Ok(format!("market_data.{name}"))
}

/// Notes that a range of all candles is to be computed again by a worker. Returns how many candles that concerns.
pub fn want(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<i64> {
    let rows = as_owner(|client, _| spi::execute(client, statement!("candles_want"), &[from.into(), to.into()]))?;
    wake_at_commit();
    Ok(rows as i64)
}

fn wrong(what: String) -> Error {
    Error::InvalidArgument { what }
}

//! Units: leased, extended, published, given back, forgotten.

use pgrx::Uuid;
use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pg::session::target::{Target, as_owner};
use crate::pg::session::{ffi, spi};

/// The most units that one call leases. Schedulers map a list of tasks over them, and bound its length.
const MOST_UNITS: i32 = 100;
/// The longest lease, in microseconds: a job that ends without a word must not hold a unit for longer.
const LONGEST_LEASE: i128 = 7 * 86_400_000_000;
/// The longest name of a kind, in bytes.
const LONGEST_KIND: usize = 63;

/// Which units a call wants.
pub struct Wanted {
    /// A time in the first one.
    pub from: TimestampWithTimeZone,
    /// End (exclusive) of the times.
    pub to: TimestampWithTimeZone,
    /// `day` or `hour`.
    pub by: String,
    /// What the work is for.
    pub kind: String,
    /// How many.
    pub most: i32,
    /// For how long.
    pub lease: Interval,
    /// Only these assets.
    pub assets: Option<Vec<String>>,
    /// A unit with so many attempts is left out.
    pub max_attempts: i32,
}

/// What `finish_unit()` returns.
#[derive(Deserialize)]
pub struct Finished {
    /// Whether an earlier call has published it.
    pub before: bool,
    /// The unit.
    pub unit: i64,
    /// Slices that were published.
    #[serde(deserialize_with = "spi::nullable")]
    pub slices: Option<i64>,
    /// Candles that were published.
    #[serde(deserialize_with = "spi::nullable")]
    pub candles: Option<i64>,
    /// Vectors that were published.
    #[serde(deserialize_with = "spi::nullable")]
    pub vectors: Option<i64>,
}

/// What was staged for a unit (`work_staged.sql`).
#[derive(Deserialize)]
struct Staged {
    #[serde(deserialize_with = "spi::nullable")]
    objection: Option<String>,
}

/// Adds the units of a range that are missing, opens those whose objects have changed, and leases some. Returns their
/// numbers.
pub fn lease(wanted: Wanted) -> Result<Vec<i64>> {
    let width = match wanted.by.as_str() {
        "day" => "24 hours",
        "hour" => "1 hour",
        _ => return Err(wrong("by must be 'day' or 'hour'")),
    };
    if !(1..=MOST_UNITS).contains(&wanted.most) {
        return Err(wrong(&format!("most must be from 1 to {MOST_UNITS}")));
    }
    if wanted.kind.trim().is_empty() || wanted.kind.len() > LONGEST_KIND {
        return Err(wrong(&format!("kind must be a name of 1 to {LONGEST_KIND} bytes")));
    }
    if wanted.max_attempts < 1 {
        return Err(wrong("max_attempts must be 1 or more"));
    }
    must_be_finite(wanted.from, wanted.to)?;
    must_be_lease(&wanted.lease)?;
    as_owner(|client, _| {
        let range = || -> [DatumWithOid<'_>; 4] {
            [wanted.kind.clone().into(), wanted.from.into(), wanted.to.into(), wanted.assets.clone().into()]
        };
        let [kind, from, to, assets] = range();
        spi::execute(client, statement!("work_plan"), &[kind, from, to, assets, width.into()])?;
        let [kind, from, to, assets] = range();
        let limits = [width.into(), wanted.most.into(), wanted.max_attempts.into(), wanted.lease.into()];
        let args: Vec<DatumWithOid<'_>> = [kind, from, to, assets].into_iter().chain(limits).collect();
        let leased = spi::fetch(client, statement!("work_lease"), &args)?;
        // What was staged under the tokens of before can be published no more.
        spi::execute(client, statement!("work_clean"), &[])?;
        Ok(leased)
    })
}

/// Makes leases end later. Returns how many of the tokens still lease a unit.
pub fn extend(tokens: Vec<Uuid>, lease: Interval) -> Result<i64> {
    must_be_lease(&lease)?;
    as_owner(|client, _| {
        let sql = "UPDATE ingestion.work_units u
                      SET leased_until = greatest(u.leased_until, clock_timestamp() + $2)
                    WHERE u.token = ANY ($1) AND u.state = 'leased' RETURNING 1";
        Ok(spi::execute(client, sql, &[tokens.into(), lease.into()])? as i64)
    })
}

/// Publishes what was staged under a token.
pub fn finish(token: Uuid, parts: Option<Vec<Uuid>>) -> Result<Finished> {
    as_owner(|client, target| {
        if let Some(finished) = locked(client, token)? {
            return Ok(finished);
        }
        let args = || -> [DatumWithOid<'_>; 2] { [token.into(), parts.clone().into()] };
        let staged: Staged = spi::fetch(client, statement!("work_staged"), &args())?;
        if let Some(why) = staged.objection {
            return Err(Error::NotPublishable(why));
        }
        publish(client, target, &args)?;
        let finished: Option<Finished> = spi::fetch(client, statement!("work_finished"), &args())?;
        spi::execute(client, statement!("work_clean"), &[])?;
        finished.ok_or_else(|| unknown(token))
    })
}

/// Locks the unit of a token. Returns what was published if it is finished already.
fn locked(client: &mut SpiClient<'_>, token: Uuid) -> Result<Option<Finished>> {
    let found: Option<Finished> = spi::fetch(client, statement!("work_lock"), &[token.into()])?;
    let found = found.ok_or_else(|| unknown(token))?;
    Ok(found.before.then_some(found))
}

/// Replaces what was published of the unit before.
fn publish<'a>(client: &mut SpiClient<'_>, target: &Target, args: &dyn Fn() -> [DatumWithOid<'a>; 2]) -> Result<()> {
    ffi::lock_for_writing(target.embeddings);
    target.must_still_hold(client)?;
    for unpublish in [statement!("work_unpublish_slices"), statement!("work_unpublish_candles")] {
        let [token, _] = args();
        spi::execute(client, unpublish, &[token])?;
    }
    spi::execute(client, statement!("work_publish_slices"), &args())?;
    spi::execute(client, statement!("work_publish_candles"), &args())?;
    let vectors = spi::execute(client, statement!("work_publish_vectors"), &args())?;
    let [token, _] = args();
    let sql = "UPDATE ingestion.work_units u SET vectors = $2 WHERE u.token = $1";
    spi::execute(client, sql, &[token, (vectors as i64).into()]).map(drop)
}

/// Gives a unit back.
pub fn fail(token: Uuid, reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(wrong("reason must say why"));
    }
    as_owner(|client, _| {
        let sql = "UPDATE ingestion.work_units u SET state = 'open', token = NULL, buckets = NULL, last_error = $2
                    WHERE u.token = $1 AND u.state = 'leased' RETURNING 1";
        if spi::execute(client, sql, &[token.into(), reason.to_owned().into()])? == 0 {
            return Err(unknown(token));
        }
        spi::execute(client, statement!("work_clean"), &[]).map(drop)
    })
}

/// Deletes units with what they have published. Returns how many.
pub fn forget(kind: &str, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<i64> {
    as_owner(|client, _| {
        let args = [kind.to_owned().into(), from.into(), to.into()];
        spi::fetch(client, statement!("work_forget"), &args)
    })
}

fn must_be_finite(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<()> {
    let finite = |time: TimestampWithTimeZone| !matches!(i64::from(time), i64::MIN | i64::MAX);
    if finite(from) && finite(to) && from < to {
        return Ok(());
    }
    Err(wrong("\"from\" and \"to\" must be finite times, and \"from\" the earlier one"))
}

fn must_be_lease(lease: &Interval) -> Result<()> {
    if (1..=LONGEST_LEASE).contains(&lease.as_micros()) {
        return Ok(());
    }
    Err(wrong("lease must be longer than nothing and at most 7 days"))
}

fn wrong(what: &str) -> Error {
    Error::InvalidArgument { what: what.to_owned() }
}

fn unknown(token: Uuid) -> Error {
    Error::NoLease(token.to_string())
}

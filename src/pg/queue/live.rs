//! Live objects: objects that belong to no backfill. Every worker loads them before the objects of a backfill.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use super::claim::Claim;
use super::claiming;
use super::held_chunks;
use super::outage::Probe;
use crate::error::Result;
use crate::load::prefetch::MAX_PREFETCHED;
use crate::model::queue_order::QueueOrder;
use crate::pg::session::{guc, spi};

/// The number of objects among which a worker looks for a free one if other workers have claimed the first few.
pub const LOOK_AT: i64 = 512;

/// The pause before a loader looks again at an object that another session has claimed or locked.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

static OLDEST: LazyLock<String> = LazyLock::new(|| statement!("live").replace("/*direction*/", "ASC"));
static NEWEST: LazyLock<String> = LazyLock::new(|| statement!("live").replace("/*direction*/", "DESC"));

/// Claims up to `most` of the next live objects of these assets, or of all assets if `assets` is `None`. It
/// leaves a share to other workers, because a claimed object waits until the objects before it are loaded.
pub fn claim(
    client: &mut SpiClient<'_>,
    order: QueueOrder,
    assets: Option<&[String]>,
    own: &HashSet<String>,
    most: usize,
) -> Result<Vec<Claim>> {
    let claims = find(client, order, assets, None, |client, candidates| {
        let share = candidates.len() / (2 * guc::workers().max(1) as usize);
        let claims = claiming::take(client, candidates, own, share.clamp(1, most))?;
        Ok((!claims.is_empty()).then_some(claims))
    })?;
    Ok(claims.unwrap_or_default())
}

/// Claims an object under a prefix that waits for S3, so that its load shows whether S3 answers again.
pub fn claim_probe(
    client: &mut SpiClient<'_>,
    probe: &Probe,
    assets: Option<&[String]>,
    own: &HashSet<String>,
) -> Result<Option<Claim>> {
    let among = Among { order: guc::queue_order(), assets, prefix: Some(&probe.prefix), held: Held::default() };
    let candidates = candidates(client, &among, LOOK_AT)?;
    take_probe(client, probe, candidates, own)
}

/// Claims one of the candidates, another one at each look.
pub fn take_probe(
    client: &mut SpiClient<'_>,
    probe: &Probe,
    mut candidates: Vec<String>,
    own: &HashSet<String>,
) -> Result<Option<Claim>> {
    probe.put_first(&mut candidates);
    let claim = claiming::take(client, candidates, own, 1)?.pop();
    Ok(claim.map(|claim| Claim { probe: true, ..claim }))
}

/// Calls `choose` with pending live objects in queue order and returns its result. The objects may be claimed
/// by any session. The first call has a few objects, among which every worker usually finds its share. If it
/// returns `None`, the second call has many. With a probe, the objects are those that wait for it. Objects of chunks
/// that other sessions hold come last.
pub fn find<T>(
    client: &mut SpiClient<'_>,
    order: QueueOrder,
    assets: Option<&[String]>,
    probe: Option<&Probe>,
    mut choose: impl FnMut(&mut SpiClient<'_>, Vec<String>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let held = held_chunks::times()?;
    let prefix = probe.map(|probe| probe.prefix.as_str());
    if !held.0.is_empty() {
        let chosen = find_among(client, &Among { order, assets, prefix, held }, probe, &mut choose)?;
        if chosen.is_some() {
            return Ok(chosen);
        }
    }
    find_among(client, &Among { order, assets, prefix, held: Held::default() }, probe, &mut choose)
}

fn find_among<T>(
    client: &mut SpiClient<'_>,
    among: &Among<'_>,
    probe: Option<&Probe>,
    choose: &mut impl FnMut(&mut SpiClient<'_>, Vec<String>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let few = 2 * MAX_PREFETCHED as i64 * i64::from(guc::workers().max(1));
    for most in [few, LOOK_AT.max(few)] {
        let mut candidates = candidates(client, among, most)?;
        if let Some(probe) = probe {
            probe.put_first(&mut candidates);
        }
        let all = (candidates.len() as i64) < most;
        let chosen = choose(client, candidates)?;
        if all || chosen.is_some() {
            return Ok(chosen);
        }
    }
    Ok(None)
}

/// Beginnings and ends of chunks.
type Held = (Vec<TimestampWithTimeZone>, Vec<TimestampWithTimeZone>);

/// Which pending objects are looked at.
struct Among<'a> {
    order: QueueOrder,
    /// Only objects of these assets.
    assets: Option<&'a [String]>,
    /// Only objects under this prefix, which waits for S3. `None` stands for all that do not wait.
    prefix: Option<&'a str>,
    /// No objects that begin in these chunks.
    held: Held,
}

fn candidates(client: &mut SpiClient<'_>, among: &Among<'_>, most: i64) -> Result<Vec<String>> {
    let sql = match among.order {
        QueueOrder::Oldest => &OLDEST,
        QueueOrder::Newest => &NEWEST,
    };
    let (from, to) = among.held.clone();
    let assets = among.assets.map(<[String]>::to_vec);
    let args = [most.into(), assets.into(), among.prefix.map(str::to_owned).into(), from.into(), to.into()];
    spi::fetch_kept(client, sql, &args)
}

/// Makes failed objects pending again if their pause is over: live objects, and those of `backfill`. Returns
/// whether there were any.
pub fn retry_due(client: &mut SpiClient<'_>, backfill: Option<i64>) -> Result<bool> {
    Ok(spi::execute_kept(client, statement!("retry_due"), &[backfill.into()])? > 0)
}

/// Returns how long a loader that has found nothing to do may sleep, or `None` if it may sleep until it is woken.
pub fn next_look(client: &mut SpiClient<'_>) -> Result<Option<Duration>> {
    let args = [(BUSY_PAUSE.as_secs_f64() * 1e3).into()];
    let ms: Option<f64> = spi::fetch_kept(client, statement!("next_look"), &args)?;
    Ok(ms.map(|ms| Duration::from_secs_f64(ms / 1e3)))
}

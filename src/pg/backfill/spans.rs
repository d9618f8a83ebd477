//! The times of objects whose keys do not tell them, read from their footers.

use std::time::Instant;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;

use super::row::Backfill;
use crate::error::Result;
use crate::error::verdict::Verdict;
use crate::load::footers::{self, Footer};
use crate::model::bucket::{BUCKET_US, bucket_of};
use crate::model::options::LoadOptions;
use crate::model::uri::S3Uri;
use crate::pg::load::known::Version;
use crate::pg::load::plan::LoadPlan;
use crate::pg::queue::attempt::{count, refuse};
use crate::pg::queue::outage;
use crate::pg::session::ffi::Failure;
use crate::pg::session::time::timestamp;
use crate::pg::session::tx::tx;
use crate::pg::session::{ffi, guc, spi};
use crate::s3::head::ObjectHead;

/// Footers that are read before the worker looks at its backfill again.
const BATCH: i64 = 500;

/// An object whose footer is read.
type Job = (S3Uri, ObjectHead, LoadOptions);

/// Reads a batch of footers and sets the times of their objects. Returns `false` if all times are known.
pub fn read_some(backfill: &Backfill) -> Result<bool> {
    ffi::show_activity(Some("reading footers"));
    let (jobs, refused) = tx(|client| jobs(client, backfill.id))?;
    if jobs.is_empty() && !refused {
        return Ok(false);
    }
    let (s3, limits) = (guc::s3(), guc::limits());
    let asked = Instant::now();
    let mut thread = ffi::Thread::start(1, move |reads, events| footers::run(jobs, &s3, limits, reads, events))?;
    let mut found = Vec::new();
    while let Some(Footer { uri, read, .. }) = thread.next()? {
        match read {
            Ok(facts) => found.push((uri, facts.span)),
            Err(error) if error.may_be_outage() => {
                if refuse_judged(&uri.to_string(), error.into(), asked)? == Verdict::Outage {
                    break;
                }
            }
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => tx(|client| refuse(client, &uri.to_string(), &error.into()))?,
        }
    }
    tx(|client| set(client, backfill, found))?;
    Ok(true)
}

/// Records a failure that may not be the object's own. Its times stay unknown, and a later attempt loads it all the
/// same. Returns whose fault the failure is.
fn refuse_judged(uri: &str, failure: Failure, asked: Instant) -> Result<Verdict> {
    let evidence = tx(|client| outage::evidence(client, uri, asked))?;
    let judged = outage::judge(uri, failure, &evidence)?;
    tx(|client| {
        count(client, uri)?;
        outage::record(client, uri, &judged, &Version::default())
    })?;
    Ok(judged.verdict)
}

/// Plans the next footers to be read. Returns also whether objects have failed because they cannot be read at
/// all.
fn jobs(client: &mut SpiClient<'_>, id: i64) -> Result<(Vec<Job>, bool)> {
    let uris: Vec<String> = spi::fetch_kept(client, statement!("spans_unknown"), &[id.into(), BATCH.into()])?;
    let mut jobs = Vec::new();
    let mut refused = false;
    for uri in uris {
        match LoadPlan::new(client, &uri) {
            Ok(LoadPlan { job, .. }) => jobs.push((job.uri, job.listed.unwrap_or_default(), job.options)),
            Err(error) => {
                refuse(client, &uri, &error.into())?;
                refused = true;
            }
        }
    }
    Ok((jobs, refused))
}

/// Writes the times of objects. An object that cannot hold a time of the backfill leaves it.
fn set(client: &mut SpiClient<'_>, backfill: &Backfill, found: Vec<(S3Uri, Option<(i64, i64)>)>) -> Result<()> {
    let mut uris = Vec::with_capacity(found.len());
    let (mut from, mut to, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (uri, span) in found {
        uris.push(uri.to_string());
        match span {
            Some((first, last)) => {
                let (first, end) = (bucket_of(first), bucket_of(last) + BUCKET_US);
                wanted.push(backfill.wants(first, end));
                from.push(timestamp(first)?);
                to.push(timestamp(end)?);
            }
            // The footer has no statistics. The object stays, as it may hold times of the backfill.
            None => {
                wanted.push(true);
                from.push(TimestampWithTimeZone::negative_infinity());
                to.push(TimestampWithTimeZone::negative_infinity());
            }
        }
    }
    let args = [backfill.id.into(), uris.into(), from.into(), to.into(), wanted.into()];
    spi::execute_kept(client, statement!("spans_set"), &args).map(drop)
}

//! The plan of a load that a worker prefetches.

use std::time::Instant;

use pgrx::spi::SpiClient;
use serde_json::json;

use super::dropped::holds_only_dropped;
use super::known::{Known, Version};
use crate::error::Result;
use crate::load::pipeline::Job;
use crate::model::options::{self, OnBadRow};
use crate::model::uri::S3Uri;
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::guc;

/// A planned load. A worker prefetches its object while it stores others.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The job of the reading thread.
    pub job: Job,
    /// What was registered before the object's bytes were asked for.
    pub version: Version,
    /// When the reading thread got the job, or is about to get it.
    pub asked: Instant,
}

impl LoadPlan {
    /// Plans the load of an object of the queue. It has the same limits as a load by hand, so that an object
    /// has the same result on every way.
    pub fn new(client: &mut SpiClient<'_>, uri: &str) -> Result<LoadPlan> {
        let uri = allowed_uri(uri)?;
        let known = Known::read(client, &uri.to_string())?;
        // An object that is loaded again has the options of its last load.
        let registered = if known.reload() { &known.metadata } else { &known.for_attempt };
        let (options, expected) = options::resolve(&json!({}), registered)?;
        let mut loaded_etag = known.loaded_etag(&options);
        // Ticks that retention has dropped are not brought back by an order to read everything again.
        if loaded_etag.is_none() && known.reload() && holds_only_dropped(client, &uri.to_string())? {
            loaded_etag = known.version_loaded();
        }
        let job = Job {
            uri,
            s3: guc::s3(),
            loaded_etag,
            options,
            expected,
            on_bad_row: if known.reload() { known.on_bad_row() } else { OnBadRow::Abort },
            limits: guc::limits(),
            listed: known.listed(),
            embed: guc::embed_on_load(),
        };
        Ok(LoadPlan { job, version: known.version, asked: Instant::now() })
    }

    /// Does the same in a subtransaction, so that an error of PostgreSQL over what is registered of one object fails
    /// the plan of that object only.
    pub fn attempt(client: &mut SpiClient<'_>, uri: &str) -> std::result::Result<LoadPlan, Failure> {
        ffi::attempt(|| Ok(LoadPlan::new(client, uri)?))
    }

    /// Returns the object's uri.
    pub fn uri(&self) -> String {
        self.job.uri.to_string()
    }
}

/// Parses a uri. Refuses it if no prefix of `btc_ingest.allowed_prefixes` covers it, before the network is used.
pub fn allowed_uri(text: &str) -> Result<S3Uri> {
    let uri: S3Uri = text.parse()?;
    if !guc::allowed_prefixes()?.allow(&uri) {
        return Err(guc::not_allowed(uri.bucket(), uri.key()));
    }
    Ok(uri)
}

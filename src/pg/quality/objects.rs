//! The objects that a comparison reads, and what is recorded of them.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::load::compare::{Candidate, ObjectState, SliceKey};
use crate::load::pipeline::Job;
use crate::model::options::{self, Expected, OnBadRow};
use crate::model::uri::S3Uri;
use crate::pg::load::known::Known;
use crate::pg::load::plan::allowed_uri;
use crate::pg::session::{guc, spi};

/// An object of `verify_object.sql` or `verify_range.sql`.
#[derive(Deserialize)]
pub struct Loaded {
    /// The object.
    pub uri: String,
    /// Its loaded version.
    pub etag: String,
    /// The slices that this version holds ticks of.
    pub slices: Vec<LoadedSlice>,
}

/// A slice of a loaded object.
#[derive(Deserialize)]
pub struct LoadedSlice {
    bucket: i64,
    asset: String,
    /// Whether other objects hold ticks of it, too.
    shared: bool,
}

/// The objects of a comparison.
pub struct Objects {
    /// What a thread reads.
    pub candidates: Vec<Candidate>,
    /// The slices that each of them is known to hold ticks of.
    known: Vec<Vec<SliceKey>>,
    /// Slices of which objects outside the comparison hold ticks, too.
    shared: BTreeSet<SliceKey>,
}

impl Objects {
    /// Returns an object alone. If no version is loaded, nothing is known of its slices.
    pub fn one(client: &mut SpiClient<'_>, uri: &S3Uri, found: Option<Loaded>) -> Result<Objects> {
        let mut objects = Objects { candidates: Vec::new(), known: Vec::new(), shared: BTreeSet::new() };
        match found {
            Some(loaded) => objects.add(client, uri, loaded)?,
            None => {
                objects.candidates.push(Candidate { job: job(client, uri)?, etag: None });
                objects.known.push(Vec::new());
            }
        }
        Ok(objects)
    }

    /// Returns all of these objects.
    pub fn all(client: &mut SpiClient<'_>, found: Vec<Loaded>) -> Result<Objects> {
        let mut objects = Objects { candidates: Vec::new(), known: Vec::new(), shared: BTreeSet::new() };
        for loaded in found {
            let uri = allowed_uri(&loaded.uri)?;
            objects.add(client, &uri, loaded)?;
        }
        Ok(objects)
    }

    fn add(&mut self, client: &mut SpiClient<'_>, uri: &S3Uri, loaded: Loaded) -> Result<()> {
        self.candidates.push(Candidate { job: job(client, uri)?, etag: Some(loaded.etag) });
        let shared = loaded.slices.iter().filter(|slice| slice.shared);
        self.shared.extend(shared.map(|slice| (slice.bucket, slice.asset.as_str().into())));
        self.known.push(loaded.slices.into_iter().map(|slice| (slice.bucket, slice.asset.into())).collect());
        Ok(())
    }

    /// Returns the slices that the objects are known to hold ticks of.
    pub fn known_slices(&self) -> BTreeSet<SliceKey> {
        self.known.iter().flatten().cloned().collect()
    }

    /// Returns whether no object outside the comparison holds ticks of a slice. Of an object that is not loaded,
    /// nothing is known.
    pub fn are_all_of(&self, key: &SliceKey) -> bool {
        self.candidates.iter().all(|candidate| candidate.etag.is_some()) && !self.shared.contains(key)
    }

    /// Returns, per slice, what prevents a comparison with all of its objects.
    pub fn problems(&self, states: &[ObjectState]) -> BTreeMap<SliceKey, String> {
        let mut problems: BTreeMap<SliceKey, String> = BTreeMap::new();
        for ((candidate, known), state) in self.candidates.iter().zip(&self.known).zip(states) {
            let Some(problem) = problem(candidate, state) else { continue };
            for key in known {
                let text = problems.entry(key.clone()).or_default();
                text.push_str(if text.is_empty() { "" } else { "; " });
                text.push_str(&problem);
            }
        }
        problems
    }
}

fn problem(candidate: &Candidate, state: &ObjectState) -> Option<String> {
    let (uri, loaded) = (&candidate.job.uri, candidate.etag.as_deref().unwrap_or_default());
    match state {
        ObjectState::Read => None,
        ObjectState::Gone => Some(format!("{uri} is gone")),
        ObjectState::Replaced(etag) => Some(format!("{uri} has etag {etag}, and {loaded} was loaded")),
        ObjectState::Unreadable(error) => Some(format!("{uri} cannot be read: {error} ({})", error.sqlstate())),
    }
}

/// Returns how an object is read: as its load reads it, except that bad rows are passed over.
fn job(client: &mut SpiClient<'_>, uri: &S3Uri) -> Result<Job> {
    let known = Known::read(client, &uri.to_string())?;
    let (options, _) = options::resolve(&json!({}), &known.metadata)?;
    let mut limits = guc::limits();
    limits.kept_rejects = 0;
    Ok(Job {
        uri: uri.clone(),
        s3: guc::s3(),
        options,
        expected: Expected::default(),
        loaded_etag: None,
        on_bad_row: OnBadRow::Reject,
        limits,
        listed: None,
        embed: false,
    })
}

/// Reads what is recorded of one object.
pub fn loaded(client: &SpiClient<'_>, uri: &S3Uri) -> Result<Option<Loaded>> {
    let found: Vec<Loaded> = spi::fetch_in_snapshot(client, statement!("verify_object"), &[uri.to_string().into()])?;
    Ok(found.into_iter().next())
}

//! What is registered of an object before its load.

use pgrx::spi::SpiClient;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::options::{LoadOptions, OnBadRow, OnConflict};
use crate::model::pattern::KeyPattern;
use crate::model::uri::S3Uri;
use crate::model::watch::{LOAD_KEYS, WatchOptions};
use crate::pg::session::spi;
use crate::s3::head::ObjectHead;

/// The version of an object's rows at the time when they were read. What a producer registers later belongs
/// to another version.
#[derive(Debug, Clone, Default)]
pub struct Version {
    /// The generation of the object's row. `None` if there was no row.
    pub generation: Option<i64>,
    /// The versions (`xmin`) of its registry rows. `None` stands for any version.
    pub rows: Option<Vec<String>>,
}

impl Version {
    /// Returns a version of which only the object's generation is known.
    pub fn of_generation(generation: i64) -> Self {
        Version { generation: Some(generation), rows: None }
    }
}

/// What is registered of an object.
pub struct Known {
    /// The version of the rows that were read.
    pub version: Version,
    /// Metadata and options for a load by hand, the strongest first: those of the object's last load, those of the
    /// watch that found it, the object's, then those of its registry rows in key order.
    pub metadata: Vec<Value>,
    /// The same for an attempt of a worker or sweep. What the last load was told does not hold for an object that a
    /// watch has found: it is loaded as the watch says now.
    pub for_attempt: Vec<Value>,
    loaded: Option<(String, Value)>,
    listed: Option<ObjectHead>,
    rows_staged: i64,
    reload: bool,
    had_bad_rows: bool,
    registered_sizes: Vec<u64>,
}

/// The row of `known.sql`.
#[derive(Deserialize)]
struct Row {
    #[serde(deserialize_with = "spi::nullable")]
    object: Option<ObjectRow>,
    #[serde(deserialize_with = "spi::nullable")]
    registry: Option<Vec<RegistryRow>>,
}

#[derive(Deserialize)]
struct ObjectRow {
    #[serde(deserialize_with = "spi::nullable")]
    etag: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    listed_etag: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    listed_size: Option<u64>,
    rows_staged: i64,
    reload: bool,
    had_bad_rows: bool,
    metadata: String,
    options: String,
    generation: i64,
    /// The watched prefix that found the object.
    #[serde(deserialize_with = "spi::nullable")]
    watch: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    watch_options: Option<String>,
}

impl ObjectRow {
    /// Returns what a listing would register of the object now, by the watch that found it. Returns `None` if no
    /// watch did, or if its options or its prefix cannot be read any more.
    fn watched(&self, uri: &str) -> Option<Map<String, Value>> {
        let (prefix, options) = self.watch.as_ref().zip(self.watch_options.as_ref())?;
        let options = WatchOptions::parse(&serde_json::from_str(options).ok()?).ok()?;
        let facts = prefix.parse::<KeyPattern>().ok()?.read(uri.parse::<S3Uri>().ok()?.key())?;
        Some(options.metadata(&facts))
    }
}

#[derive(Deserialize)]
struct RegistryRow {
    version: String,
    /// `None` if it is far too long.
    #[serde(deserialize_with = "spi::nullable")]
    metadata: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    pending_size: Option<u64>,
}

impl Known {
    /// Reads what is registered. A caller that needs the object's lock takes it before, in another
    /// statement: this statement then sees what the lock's last holder did.
    pub fn read(client: &mut SpiClient<'_>, uri: &str) -> Result<Known> {
        let found: Row = spi::fetch_kept(client, statement!("known"), &[uri.to_owned().into()])?;
        let mut known = Known {
            version: Version { generation: None, rows: Some(Vec::new()) },
            metadata: Vec::new(),
            for_attempt: Vec::new(),
            loaded: None,
            listed: None,
            rows_staged: 0,
            reload: false,
            had_bad_rows: false,
            registered_sizes: Vec::new(),
        };
        if let Some(object) = found.object {
            known.version.generation = Some(object.generation);
            // The status does not matter: an object that was registered again is pending, although its etag
            // is loaded.
            let options = parsed(Some(&object.options), "options of the object")?;
            let metadata = parsed(Some(&object.metadata), "metadata of the object")?;
            match object.watched(uri) {
                Some(watched) => {
                    let (watched, rest) = (Value::Object(watched), without_load_options(metadata));
                    known.for_attempt.extend([watched.clone(), rest.clone()]);
                    known.metadata.extend([options.clone(), watched, rest]);
                }
                None => {
                    known.for_attempt.extend([options.clone(), metadata.clone()]);
                    known.metadata.extend([options.clone(), metadata]);
                }
            }
            known.loaded = object.etag.map(|etag| (etag, options));
            let listed = object.listed_etag.zip(object.listed_size);
            known.listed = listed.map(|(etag, size)| ObjectHead { size, etag });
            known.rows_staged = object.rows_staged;
            known.reload = object.reload;
            known.had_bad_rows = object.had_bad_rows;
        }
        for row in found.registry.into_iter().flatten() {
            let metadata = parsed(row.metadata.as_deref(), "metadata of a registry row")?;
            known.for_attempt.push(metadata.clone());
            known.metadata.push(metadata);
            known.registered_sizes.extend(row.pending_size);
            known.version.rows.get_or_insert_default().push(row.version);
        }
        Ok(known)
    }

    /// Returns the etag that is loaded already with options that give the same ticks, and need not be read again.
    pub fn loaded_etag(&self, options: &LoadOptions) -> Option<String> {
        let loaded = self.loaded.as_ref().filter(|(_, shape)| *shape == options.shape() && !self.reload);
        loaded.map(|(etag, _)| etag.clone())
    }

    /// Returns the etag of the version that is loaded.
    pub fn version_loaded(&self) -> Option<String> {
        self.loaded.as_ref().map(|(etag, _)| etag.clone())
    }

    /// Returns whether a load of this version would store the ticks that the last load has stored.
    pub fn was_loaded(&self, etag: &str, options: &LoadOptions) -> bool {
        self.loaded.as_ref().is_some_and(|(loaded, shape)| loaded == etag && *shape == options.shape())
    }

    /// Returns what a load of this version does with conflicts if its caller does not say it. A version that has its
    /// place in the order of loads keeps it.
    pub fn on_conflict(&self, etag: &str, options: &LoadOptions) -> OnConflict {
        match options.on_conflict {
            _ if self.loaded.as_ref().is_some_and(|(loaded, _)| loaded == etag) => OnConflict::Ranked,
            OnConflict::Keep if self.rows_staged(etag) > 0 => OnConflict::Ranked,
            told => told,
        }
    }

    /// Returns what a repeated load does with bad rows: what the last one did.
    pub fn on_bad_row(&self) -> OnBadRow {
        if self.had_bad_rows { OnBadRow::Reject } else { OnBadRow::Abort }
    }

    /// Returns whether the object is to be read although its version is loaded.
    pub fn reload(&self) -> bool {
        self.reload
    }

    /// Returns size and etag of a version that was listed and never loaded, so that S3 is not asked for
    /// them again.
    pub fn listed(&self) -> Option<ObjectHead> {
        self.listed.clone()
    }

    /// Returns how many rows of this version backfills in mode chunk have stored already.
    pub fn rows_staged(&self, etag: &str) -> i64 {
        if self.listed.as_ref().is_some_and(|listed| listed.etag == etag) { self.rows_staged } else { 0 }
    }

    /// Returns whether an earlier load may have left rejected rows.
    pub fn may_have_rejects(&self) -> bool {
        self.loaded.is_some() || self.rows_staged > 0
    }

    /// Checks the object's size in bytes against the sizes that producers registered.
    pub fn check_registered_size(&self, size: u64) -> Result<()> {
        match self.registered_sizes.iter().find(|registered| **registered != size) {
            Some(registered) => Err(Error::MetadataMismatch {
                what: "object_size_bytes",
                found: size.to_string(),
                registered: registered.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// Returns metadata of an object without what a listing has registered of it by a watch.
fn without_load_options(metadata: Value) -> Value {
    match metadata {
        Value::Object(mut map) => {
            map.retain(|key, _| !LOAD_KEYS.contains(&key.as_str()));
            Value::Object(map)
        }
        other => other,
    }
}

fn parsed(text: Option<&str>, what: &str) -> Result<Value> {
    let refused = |why: &str| Error::BadRegistration { why: format!("the {what} cannot be read: {why}") };
    let text = text.ok_or_else(|| refused("it is too long"))?;
    serde_json::from_str(text).map_err(|error| refused(&error.to_string()))
}

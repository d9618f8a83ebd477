//! Stores vectors. A row that another program has written stays as it is.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;

use super::catalog::Catalog;
use crate::error::{Error, Result, WindowError};
use crate::model::window::{DIMENSIONS, FEATURE_VERSION, Window};
use crate::pg::session::spi;
use crate::pg::session::time::timestamp;

/// Vectors that one statement writes: 64 kilobytes.
const MOST: usize = 64;

/// Gathers vectors and writes many at once.
pub struct Writer {
    catalog: Catalog,
    buckets: Vec<TimestampWithTimeZone>,
    assets: Vec<String>,
    ticks: Vec<i64>,
    numbers: Vec<f32>,
    written: i64,
}

impl Writer {
    pub fn new(client: &mut SpiClient<'_>) -> Result<Self> {
        Ok(Writer {
            catalog: Catalog::read(client)?,
            buckets: Vec::new(),
            assets: Vec::new(),
            ticks: Vec::new(),
            numbers: Vec::new(),
            written: 0,
        })
    }

    /// Refuses a column that takes vectors of another length than these.
    pub fn must_fit(&self) -> Result<()> {
        match self.catalog.dimensions {
            Some(dimensions) if dimensions != DIMENSIONS as i64 => {
                Err(Error::Window(WindowError::OtherDimensions { dimensions, own: DIMENSIONS as i64 }))
            }
            _ => Ok(()),
        }
    }

    /// Adds the vector of a slice.
    pub fn add(&mut self, client: &mut SpiClient<'_>, bucket: i64, asset: &str, window: &Window) -> Result<()> {
        self.buckets.push(timestamp(bucket)?);
        self.assets.push(asset.to_owned());
        self.ticks.push(window.ticks);
        self.numbers.extend(window.vector);
        if self.buckets.len() >= MOST { self.flush(client) } else { Ok(()) }
    }

    /// Writes what is left. Returns how many rows were new or have changed.
    pub fn finish(mut self, client: &mut SpiClient<'_>) -> Result<i64> {
        self.flush(client)?;
        Ok(self.written)
    }

    fn flush(&mut self, client: &mut SpiClient<'_>) -> Result<()> {
        if self.buckets.is_empty() {
            return Ok(());
        }
        let (buckets, assets) = (std::mem::take(&mut self.buckets), std::mem::take(&mut self.assets));
        let keys: [DatumWithOid<'_>; 2] = [buckets.clone().into(), assets.clone().into()];
        let exchanges: Vec<String> = spi::fetch_planned(client, statement!("windows_exchanges"), &keys)?;
        let [of_buckets, of_assets] = keys;
        let args = [of_buckets, of_assets, exchanges.clone().into()];
        spi::execute_planned(client, statement!("windows_move"), &args)?;
        let args = [
            buckets.into(),
            assets.into(),
            exchanges.into(),
            std::mem::take(&mut self.ticks).into(),
            std::mem::take(&mut self.numbers).into(),
            (DIMENSIONS as i32).into(),
            FEATURE_VERSION.to_owned().into(),
        ];
        self.written +=
            spi::execute_planned(client, &self.catalog.name_vector(statement!("windows_write")), &args)? as i64;
        Ok(())
    }
}

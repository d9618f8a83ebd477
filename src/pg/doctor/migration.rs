//! What `migrate()` would say: it changes only tables of the extension's owner.

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::spi;

/// The row of `doctor_migration.sql`.
#[derive(Deserialize)]
struct Migration {
    /// Why `migrate()` refuses. `None` if it does not.
    #[serde(deserialize_with = "spi::nullable")]
    refusal: Option<String>,
    /// The statements that give all tables of another role to the extension's owner. `None` if there is no such table.
    #[serde(deserialize_with = "spi::nullable")]
    take: Option<String>,
    /// The statements that give these tables back.
    #[serde(deserialize_with = "spi::nullable")]
    give_back: Option<String>,
    /// The statements that give all tables to the owner of the ticks. `None` if it owns all of them.
    #[serde(deserialize_with = "spi::nullable")]
    one_owner: Option<String>,
}

fn read() -> Result<Migration> {
    Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_migration"), &[]))
}

/// Says whether `migrate()` refuses the tables.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "migration";
    let found = read()?;
    Ok(vec![match &found.refusal {
        None => Check::good(NAME, "migrate() finds nothing to refuse"),
        Some(why) => Check::known(NAME, format!("migrate() will refuse: {why}"), found.hint()),
    }])
}

/// Returns how to call `migrate()`.
pub fn migrate() -> Result<Hint> {
    Ok(read()?.hint())
}

/// Returns how to give all tables one owner. `None` if they have one.
pub fn one_owner() -> Result<Option<Hint>> {
    Ok(read()?.one_owner.map(Hint::run))
}

impl Migration {
    fn hint(&self) -> Hint {
        const MIGRATE: &str = "SELECT btc_ingest.migrate();";
        match (&self.take, &self.give_back) {
            (Some(take), Some(give_back)) => Hint::run(format!("{take} {MIGRATE} {give_back}"))
                .then("As a superuser, when an update needs migrate()."),
            _ => Hint::run(MIGRATE),
        }
    }
}

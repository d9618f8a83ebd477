//! The link of the vectors to the table, view or continuous aggregate of candles that they belong to: a foreign key, or
//! a constraint trigger where PostgreSQL has no foreign keys.

use pgrx::pg_sys;
use pgrx::spi::SpiClient;
use serde::Deserialize;

use crate::error::{Error, Result, WindowError};
use crate::pg::session::spi;
use crate::pg::session::target::{Target, as_owner};

/// The name of the constraint.
const NAME: &str = "btc_embeddings_reference";

/// What vectors are to be linked to.
pub struct Link<'a> {
    /// The table or view.
    pub target: pg_sys::Oid,
    /// Its column that has the bucket of a vector.
    pub column: &'a str,
    /// Its column that has the asset of a vector. `None` if only buckets are compared.
    pub asset_column: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Table,
    View,
    Aggregate,
    Other,
}

/// The row of `reference_target.sql`.
#[derive(Deserialize)]
struct Found {
    /// Qualified and quoted.
    name: String,
    kind: Kind,
    permanent: bool,
    itself: bool,
    owner: String,
    trusted: bool,
    #[serde(deserialize_with = "spi::nullable")]
    bucket_type: Option<String>,
    #[serde(deserialize_with = "spi::nullable")]
    asset_type: Option<String>,
    unique: bool,
}

/// The row of `reference_missing.sql`.
#[derive(Deserialize)]
struct Missing {
    count: i64,
    /// Bucket and asset.
    first: String,
}

/// The row of `reference_links.sql`.
#[derive(Deserialize)]
struct Made {
    target: String,
    statements: Vec<String>,
}

/// Links the vectors to a table or view, in the place of an earlier link. Returns what it has made.
pub fn link(link: &Link<'_>) -> Result<String> {
    as_owner(|client, target| {
        begin(client, target)?;
        let args = [link.target.into(), link.column.to_owned().into(), link.asset_column.map(ToOwned::to_owned).into()];
        let found: Option<Found> = spi::fetch(client, statement!("reference_target"), &args)?;
        let found = found.ok_or_else(|| bad(format!("there is no table or view with the oid {}", link.target)))?;
        must_suit(&found, link)?;
        must_have_all(client, &found, link)?;
        drop_link(client)?;
        make(client, &found, link)
    })
}

/// Drops the link. Returns what the vectors were linked to.
pub fn unlink() -> Result<String> {
    as_owner(|client, target| {
        begin(client, target)?;
        let dropped = drop_link(client)?;
        let dropped = dropped.ok_or_else(|| bad("signals.btc_embeddings is linked to nothing".into()))?;
        Ok(format!("signals.btc_embeddings is no longer linked to {dropped}"))
    })
}

/// Keeps vectors from being stored until the transaction ends.
fn begin(client: &mut SpiClient<'_>, target: &Target) -> Result<()> {
    spi::execute(client, "LOCK TABLE ONLY signals.btc_embeddings IN SHARE ROW EXCLUSIVE MODE", &[])?;
    target.must_still_hold(client)
}

fn drop_link(client: &mut SpiClient<'_>) -> Result<Option<String>> {
    let Some(made): Option<Made> = spi::fetch(client, statement!("reference_links"), &[])? else { return Ok(None) };
    made.statements.iter().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))?;
    Ok(Some(made.target))
}

/// Returns the first objection to a target.
fn must_suit(found: &Found, link: &Link<'_>) -> Result<()> {
    let Found { name, owner, .. } = found;
    if found.itself {
        return Err(bad("vectors cannot be linked to signals.btc_embeddings itself".into()));
    }
    if found.kind == Kind::Other || !found.permanent {
        return Err(bad(format!("{name} is no table, view or continuous aggregate that stays")));
    }
    if !found.trusted {
        return Err(bad(format!(
            "{name} belongs to \"{owner}\", and vectors can be linked to what belongs to the owner of the tables only"
        )));
    }
    must_be(name, link.column, found.bucket_type.as_deref(), "timestamp with time zone")?;
    if let Some(column) = link.asset_column {
        must_be(name, column, found.asset_type.as_deref(), "text")?;
    }
    if found.kind == Kind::Table && !found.unique {
        let columns = columns(link);
        return Err(bad(format!("the table {name} has no unique key over ({columns}), which a foreign key needs")));
    }
    Ok(())
}

fn must_be(name: &str, column: &str, found: Option<&str>, wanted: &str) -> Result<()> {
    match found {
        None => Err(bad(format!("{name} has no column \"{column}\""))),
        Some(found) if found != wanted => {
            Err(bad(format!("the column \"{column}\" of {name} has the type {found}, and must have {wanted}")))
        }
        Some(_) => Ok(()),
    }
}

/// Refuses a target that lacks a row of a stored vector.
fn must_have_all(client: &mut SpiClient<'_>, found: &Found, link: &Link<'_>) -> Result<()> {
    let mut matches = format!("t.{} = e.bucket", quoted(link.column));
    if let Some(column) = link.asset_column {
        matches.push_str(&format!(" AND t.{} = e.asset", quoted(column)));
    }
    let sql = statement!("reference_missing")
        .replace("{target}", &found.name)
        .replace("{matches}", &matches)
        .replace("{aggregate}", &(found.kind == Kind::Aggregate).to_string());
    let Some(Missing { count, first }) = spi::fetch(client, &sql, &[])? else { return Ok(()) };
    let (bucket, asset) = first.split_once(' ').unwrap_or((&first, ""));
    let first = format!("'{asset}' for {bucket}");
    Err(Error::Window(WindowError::MissingRow { target: found.name.clone(), count, first }))
}

fn make(client: &mut SpiClient<'_>, found: &Found, link: &Link<'_>) -> Result<String> {
    let name = &found.name;
    let (columns, own) = (columns(link), if link.asset_column.is_some() { "bucket, asset" } else { "bucket" });
    let (statements, what) = if found.kind == Kind::Table {
        let key = format!(
            "ALTER TABLE signals.btc_embeddings ADD CONSTRAINT {NAME} FOREIGN KEY ({own}) REFERENCES {name} ({columns})"
        );
        (vec![key], "foreign key")
    } else {
        let kind = if found.kind == Kind::Aggregate { "aggregate" } else { "view" };
        let arguments = [link.column, link.asset_column.unwrap_or_default(), kind].map(literal).join(", ");
        let trigger = format!(
            "CREATE CONSTRAINT TRIGGER {NAME} AFTER INSERT OR UPDATE OF bucket, asset ON signals.btc_embeddings \
             FROM {name} FOR EACH ROW EXECUTE FUNCTION signals.{NAME}({arguments})"
        );
        let function = statement!("reference_function").to_owned();
        // Another role could attach it to a table of its own.
        let revoke = format!("REVOKE ALL ON FUNCTION signals.{NAME}() FROM PUBLIC");
        (vec![function, revoke, trigger], "constraint trigger")
    };
    statements.iter().try_for_each(|sql| spi::execute(client, sql, &[]).map(drop))?;
    Ok(format!("{what}: signals.btc_embeddings ({own}) to {name} ({columns})"))
}

/// Returns the columns of the target as a list.
fn columns(link: &Link<'_>) -> String {
    std::iter::once(link.column).chain(link.asset_column).map(quoted).collect::<Vec<_>>().join(", ")
}

/// Returns an identifier in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn bad(what: String) -> Error {
    Error::Window(WindowError::Reference { what })
}

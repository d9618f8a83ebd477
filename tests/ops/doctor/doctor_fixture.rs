//! What the tests of doctor() share: its lines by name, and which of them fail.

use std::collections::BTreeMap;

use btc_ingest_kit::fixture::{ACCESS, SECRET};
use btc_ingest_kit::sql::execute;
pub use btc_ingest_kit::wait::SOON;
use postgres::Client;

/// One line of doctor().
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub ok: bool,
    pub detail: String,
    pub hint: String,
}

/// Returns all lines in the order in which doctor() returns them, called with these arguments.
#[track_caller]
pub fn lines(client: &mut Client, args: &str) -> Vec<(String, Check)> {
    let sql = format!("SELECT name, ok, detail, hint FROM btc_ingest.doctor({args})");
    let rows = client.query(&sql, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let line = |row: &postgres::Row| {
        let hint: Option<String> = row.get("hint");
        (row.get("name"), Check { ok: row.get("ok"), detail: row.get("detail"), hint: hint.unwrap_or_default() })
    };
    rows.iter().map(line).collect()
}

/// Returns all lines by name. If several lines have one name, the last one counts.
#[track_caller]
pub fn doctor(client: &mut Client) -> BTreeMap<String, Check> {
    let checks: BTreeMap<String, Check> = lines(client, "").into_iter().collect();
    let all = format!("{checks:?}");
    for secret in [SECRET, ACCESS, "not-what-the-cluster-has"] {
        assert!(!all.contains(secret), "{all}");
    }
    for (name, check) in &checks {
        assert!(check.ok || !check.hint.is_empty(), "{name} does not say what to do: {check:?}");
    }
    checks
}

/// Returns one line, as it is now.
#[track_caller]
pub fn check(client: &mut Client, name: &str) -> Check {
    doctor(client).remove(name).unwrap_or_else(|| panic!("doctor() has no line {name:?}"))
}

/// Returns the names of the lines that fail, but for the free space on the disk of this machine.
pub fn failing(checks: &BTreeMap<String, Check>) -> Vec<&str> {
    let failing = checks.iter().filter(|(name, check)| !check.ok && *name != "free disk");
    failing.map(|(name, _)| name.as_str()).collect()
}

/// Runs the statements of a hint, and the remark behind them, which is a comment.
#[track_caller]
pub fn follow(client: &mut Client, hint: &str) {
    assert!(hint.contains(';') && !hint.starts_with("--"), "{hint}");
    execute(client, hint);
}

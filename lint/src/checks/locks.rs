//! Advisory locks are taken, released and looked up in one file only. No statement of sql/ does it.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::tree::{Source, Tree};

/// What the functions begin with.
const NAMES: &[&str] = &["pg_advisory", "pg_try_advisory"];
/// Where the one file stands.
const HOME: &str = "src/pg/session";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let sources = || tree.sources.iter().filter(|source| source.is_in(&["sql", "src"]));
    let homes: BTreeSet<&str> = sources()
        .filter(|source| source.is_in(&[HOME]) && !places(source).is_empty())
        .map(|source| source.path.as_str())
        .collect();
    let mut findings = Vec::new();
    for source in sources().filter(|source| !homes.contains(source.path.as_str()) || homes.len() > 1) {
        let why = match homes.len() {
            _ if !homes.contains(source.path.as_str()) => format!("only one file of {HOME} may do this"),
            count => format!("{count} files of {HOME} do this, and one may"),
        };
        findings.extend(
            places(source)
                .into_iter()
                .map(|line| Finding::new(&source.path, line, format!("an advisory lock is named: {why}"))),
        );
    }
    findings
}

/// Returns the lines that name one of the functions, but not the comments of Rust.
fn places(source: &Source) -> Vec<usize> {
    let is_comment = |line: &str| source.is("rs") && line.trim_start().starts_with("//");
    let lines = source.lines().filter(|(_, line)| !is_comment(line));
    lines.filter(|(_, line)| NAMES.iter().any(|name| line.contains(name))).map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(|finding| format!("{}:{}", finding.file, finding.line)).collect()
    }

    #[test]
    fn one_file_of_the_session_may_take_them() {
        let home = ("src/pg/session/ffi/locks.rs", "call(pg_advisory_xact_lock_int8)");
        let others = [
            home,
            ("sql/a.sql", "SELECT\npg_try_advisory_lock(1)"),
            ("src/pg/queue/claim.rs", "// Not pg_advisory_lock.\nlet sql = \"SELECT pg_advisory_unlock_all()\";"),
            ("tests/load.rs", "pg_advisory_lock"),
        ];
        assert_eq!(places(&others), ["sql/a.sql:2", "src/pg/queue/claim.rs:2"]);
        assert!(places(&[home]).is_empty());
        let two = places(&[home, ("src/pg/session/locks.rs", "\"pg_try_advisory_lock\"")]);
        assert_eq!(two, ["src/pg/session/ffi/locks.rs:1", "src/pg/session/locks.rs:1"]);
    }
}

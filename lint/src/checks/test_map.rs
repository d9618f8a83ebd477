//! The test map has a row for each file of `src` and `sql`, and what its rows name exists.

use crate::finding::Finding;
use crate::markdown::{Kind, lines, spans};
use crate::tree::Tree;

const MAP: &str = "docs/work/test-map.md";
/// The table whose first column names what was changed.
const TABLE: &str = "| you have changed |";
/// Endings of the files that need a row.
const ENDINGS: &[&str] = &["rs", "sql"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.find(MAP) else { return Vec::new() };
    let (mut inside, mut covered, mut findings) = (false, Vec::new(), Vec::new());
    for (number, line, kind) in lines(&map.text) {
        inside = kind == Kind::Table && (inside || line.starts_with(TABLE));
        if !inside {
            continue;
        }
        let mut cells = line.split('|').skip(1);
        for path in changed(tree, cells.next().unwrap_or_default()) {
            if !tree.has(&path) {
                findings.push(Finding::new(MAP, number, format!("there is no {path}")));
            }
            covered.push(path);
        }
        for path in spans(cells.next().unwrap_or_default()).flat_map(run) {
            if !tree.has(&path) && !tree.has(&format!("{path}.rs")) {
                findings.push(Finding::new(MAP, number, format!("there is no {path}, whose tests are to run")));
            }
        }
    }
    let covers = |file: &str| covered.iter().any(|path| file.strip_prefix(path.as_str()).is_some_and(is_end));
    let files = tree.sources.iter().filter(|source| source.is_in(&["src", "sql"]));
    let missing = files.filter(|file| ENDINGS.iter().any(|ending| file.is(ending)) && !covers(&file.path));
    findings.extend(missing.map(|file| Finding::new(&file.path, 1, format!("{MAP} has no row for this file"))));
    findings
}

/// Returns the files and folders of a cell. After `folder`: and in the same cell, the names are those of files of the
/// folder, without their ending, or of folders in it.
fn changed(tree: &Tree, cell: &str) -> Vec<String> {
    let mut paths: Vec<String> = spans(cell).map(str::to_owned).collect();
    if cell.trim().starts_with('`') && cell.contains("`: `") {
        let folder = paths.remove(0);
        for path in &mut paths {
            let inside = format!("{folder}/{path}");
            *path = if tree.has(&inside) { inside } else { format!("{inside}.{}", ending(&folder)) };
        }
    }
    paths
}

fn ending(folder: &str) -> &'static str {
    if folder.starts_with("sql") { "sql" } else { "rs" }
}

/// Returns the modules whose tests a command runs: `core s3::`, or `blackbox queue worker:: sweep::`.
fn run(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split(' ').collect();
    let (folder, filters) = match words.as_slice() {
        ["core", filters @ ..] => ("src".to_owned(), filters),
        ["blackbox", binary, filters @ ..] => (format!("tests/{binary}"), filters),
        _ => return Vec::new(),
    };
    let module = |filter: &&str| format!("{folder}/{}", filter.trim_end_matches("::").replace("::", "/"));
    std::iter::once(folder.clone()).chain(filters.iter().map(module)).collect()
}

/// Returns whether a path ends here, at a folder or a file.
fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rows: &str) -> Vec<String> {
        let map = format!("`src/x`\n| you have changed | run |\n|---|---|\n{rows}\n\n| `other` | table |\n");
        let files = [
            ("src/pg/queue/claim.rs", ""),
            ("src/pg/queue/ffi/a.rs", ""),
            ("src/pg/queue/live.rs", ""),
            ("sql/load.sql", ""),
            ("tests/queue/worker.rs", ""),
            (MAP, &map),
        ];
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_name_folders_files_and_names_in_a_folder() {
        assert!(texts("| `src/pg`, `sql` | `core pg::queue::` |").is_empty());
        assert!(
            texts("| `src/pg/queue`: `claim`, `ffi`, `live` | `blackbox queue worker::` |\n| `sql`: `load` | |")
                .is_empty()
        );
    }

    #[test]
    fn a_file_without_a_row_is_found() {
        assert_eq!(
            texts("| `src/pg/queue`: `claim`, **`ffi`** | |"),
            [
                "sql/load.sql:1: docs/work/test-map.md has no row for this file",
                "src/pg/queue/live.rs:1: docs/work/test-map.md has no row for this file"
            ]
        );
    }

    #[test]
    fn a_row_that_names_nothing_is_found() {
        assert_eq!(
            texts("| `src`, `sql`, `gone` | `blackbox queue gone::` |\n| `src/pg/queue`: `lives` | |"),
            [
                "docs/work/test-map.md:4: there is no gone",
                "docs/work/test-map.md:4: there is no tests/queue/gone, whose tests are to run",
                "docs/work/test-map.md:5: there is no src/pg/queue/lives.rs"
            ]
        );
    }
}

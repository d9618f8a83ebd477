//! The checks, a file each.

mod circles;
mod file_length;
mod functions;
mod layers;
mod line_length;
mod links;
mod locks;
mod orphans;
mod paths;
mod sqlstates;
mod test_map;
mod test_names;
mod words;

use crate::finding::Finding;
use crate::tree::Tree;

/// A rule that the tree has to keep.
pub struct Check {
    /// As `--only` takes it.
    pub name: &'static str,
    /// What the rule says.
    pub about: &'static str,
    /// Returns the places that break the rule.
    pub run: fn(&Tree) -> Vec<Finding>,
}

/// All checks.
pub const CHECKS: &[Check] = &[
    Check { name: "line-length", about: "no line has more than 120 characters", run: line_length::check },
    Check { name: "file-length", about: "no Rust file has more than 500 lines", run: file_length::check },
    Check { name: "functions", about: "functions are short, flat and take few arguments", run: functions::check },
    Check { name: "circles", about: "no Rust files use one another in a circle", run: circles::check },
    Check { name: "layers", about: "no file of src uses one of a higher layer", run: layers::check },
    Check { name: "orphans", about: "each Rust file belongs to a crate", run: orphans::check },
    Check { name: "words", about: "roles are named: no pronoun stands for one", run: words::check },
    Check { name: "locks", about: "advisory locks are taken in one file only", run: locks::check },
    Check { name: "sqlstates", about: "SQLSTATEs are judged in one file only", run: sqlstates::check },
    Check { name: "links", about: "links in documents lead somewhere", run: links::check },
    Check { name: "paths", about: "files that documents name exist", run: paths::check },
    Check { name: "test-names", about: "tests that documents name exist", run: test_names::check },
    Check { name: "test-map", about: "the test map has a row for each file of src and sql", run: test_map::check },
];

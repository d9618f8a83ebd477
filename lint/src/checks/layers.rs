//! No file of src uses one of a higher layer.

use crate::finding::Finding;
use crate::imports::edges;
use crate::tree::Tree;

/// The layers from the lowest to the highest: a file or folder each. Those in one line may not use one another either.
const LAYERS: &[&[&str]] = &[
    &["src/error"],
    &["src/model"],
    &["src/s3", "src/decode", "src/tuple"],
    &["src/load"],
    &["src/pg/session/ffi"],
    &["src/pg/session"],
    &["src/pg/windows"],
    &["src/pg/load"],
    &["src/pg/quality"],
    &["src/pg/series"],
    &["src/pg/listing"],
    &["src/pg/queue"],
    &["src/pg/discovery"],
    &["src/pg/backfill"],
    &["src/pg/candles"],
    &["src/pg/retention"],
    &["src/pg/work"],
    &["src/pg/workers"],
    &["src/pg/doctor"],
    &["src/pg/api"],
    &["src/pg"],
    &["src"],
];
/// Folders whose loose files belong to no layer: the file that declares their modules, and tests.
const LOOSE: &[&str] = &["src/lib.rs", "src/pg/mod.rs", "src/pg/tests.rs"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| source.is("rs") && source.is_in(&["src"])) {
        let loose = matches!(layer(&source.path), Some((_, "src" | "src/pg")));
        if loose && !LOOSE.contains(&source.path.as_str()) {
            findings.push(Finding::new(&source.path, 1, "the file belongs to no layer of lint/src/checks/layers.rs"));
        }
    }
    for edge in edges(tree) {
        let Some((from, to)) = layer(&edge.from).zip(layer(&edge.to)) else { continue };
        if to.0 > from.0 || (to.0 == from.0 && to.1 != from.1) {
            let text = format!("{} uses {}, which is not below it: {} of {}", from.1, to.1, edge.path, edge.to);
            findings.push(Finding::new(&edge.from, edge.line, text));
        }
    }
    findings
}

/// Returns the height and the name of a file's layer, the one that names most of its path.
fn layer(path: &str) -> Option<(usize, &'static str)> {
    let holds = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
    let all = LAYERS.iter().enumerate().flat_map(|(height, names)| names.iter().map(move |name| (height, *name)));
    all.filter(|(_, name)| holds(name)).max_by_key(|(_, name)| name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = [("Cargo.toml", "")].iter().chain(files).copied().collect();
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_import_that_runs_up_or_aside_is_found() {
        let found = texts(&[
            ("src/lib.rs", "mod error; mod model; mod s3; mod decode;"),
            ("src/error.rs", "use crate::model::uri::Uri;"),
            ("src/model/mod.rs", "pub mod uri;"),
            ("src/model/uri.rs", "use crate::error::Error; pub struct Uri;"),
            ("src/s3/mod.rs", "use crate::model::uri::Uri;\nuse crate::decode::read;"),
            ("src/decode/mod.rs", "pub fn read() {}"),
        ]);
        assert_eq!(
            found,
            [
                "src/error.rs:1: src/error uses src/model, which is not below it: crate::model::uri::Uri of \
                 src/model/uri.rs",
                "src/s3/mod.rs:2: src/s3 uses src/decode, which is not below it: crate::decode::read of \
                 src/decode/mod.rs",
            ]
        );
    }

    #[test]
    fn a_folder_in_a_folder_has_its_own_layer() {
        let found = texts(&[
            ("src/lib.rs", "mod pg;"),
            ("src/pg/mod.rs", "mod session; mod load;"),
            ("src/pg/session/mod.rs", "pub mod ffi; pub mod guc; pub mod spi;"),
            ("src/pg/session/ffi/mod.rs", "use super::guc::f;"),
            ("src/pg/session/guc.rs", "use super::spi::g; pub fn f() {}"),
            ("src/pg/session/spi.rs", "use super::ffi; pub fn g() {}"),
            ("src/pg/load/mod.rs", "use crate::pg::session::spi::g;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("src/pg/session/ffi/mod.rs:1: src/pg/session/ffi uses src/pg/session"),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_outside_the_layers_is_found() {
        let found = texts(&[("src/lib.rs", ""), ("src/pg/mod.rs", ""), ("src/pg/loose.rs", "")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("src/pg/loose.rs:1"));
    }
}

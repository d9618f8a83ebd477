//! Links in documents lead somewhere, and no two headings of a document have the same anchor.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::markdown::{Kind, anchor, lines};
use crate::modules::normal;
use crate::tree::{Source, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let documents = || tree.sources.iter().filter(|source| source.is("md"));
    documents()
        .flat_map(|source| headings(source).1)
        .chain(documents().flat_map(|source| links(tree, source)))
        .collect()
}

/// Returns the anchors of a document and a finding for each heading that another one's anchor hides.
fn headings(source: &Source) -> (BTreeMap<String, usize>, Vec<Finding>) {
    let (mut anchors, mut findings) = (BTreeMap::new(), Vec::new());
    for (number, _, kind) in lines(&source.text) {
        let Kind::Heading(heading) = kind else { continue };
        if let Some(first) = anchors.insert(anchor(heading), number) {
            findings.push(Finding::new(&source.path, number, format!("“{heading}” is a heading in line {first} too")));
        }
    }
    (anchors, findings)
}

fn links(tree: &Tree, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line, kind) in lines(&source.text) {
        if matches!(kind, Kind::Code(_) | Kind::Fence) {
            continue;
        }
        for target in targets(line) {
            if let Some(why) = broken(tree, source, target) {
                findings.push(Finding::new(&source.path, number, format!("the link to {target} is broken: {why}")));
            }
        }
    }
    findings
}

/// Returns the targets of the links in a line, but not those in code.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    // Every second piece between backticks is code.
    for piece in line.split('`').step_by(2) {
        targets.extend(piece.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
        // `[name]: target`
        if let Some((_, target)) = piece.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            targets.push(target.trim());
        }
    }
    targets
}

fn broken(tree: &Tree, source: &Source, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if path.is_empty() { source.path.clone() } else { normal(&format!("{folder}/{path}")) };
    let is_folder = || tree.sources.iter().any(|source| source.is_in(&[&path]));
    match tree.find(&path) {
        None if path == "LICENSE" || is_folder() => None,
        None => Some(format!("there is no {path}")),
        Some(found) if !wanted.is_empty() && found.is("md") && !headings(found).0.contains_key(wanted) => {
            Some(format!("{path} has no heading #{wanted}"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_link_into_nothing_is_found() {
        let found = texts(&[
            (
                "README.md",
                "# One\n[a](docs/a.md#two-words), [b](docs/b.md)\n[c](#one) [d](#three) [e](src/) [f](https://x)",
            ),
            ("docs/a.md", "## Two words\n[up](../README.md#one) `[no](link)`\n```\n[no](link)\n```\n[x]: gone.md"),
            ("src/lib.rs", ""),
        ]);
        assert_eq!(
            found,
            [
                "README.md:2: the link to docs/b.md is broken: there is no docs/b.md",
                "README.md:3: the link to #three is broken: README.md has no heading #three",
                "docs/a.md:6: the link to gone.md is broken: there is no docs/gone.md",
            ]
        );
    }

    #[test]
    fn a_heading_that_stands_twice_is_found() {
        assert_eq!(texts(&[("a.md", "# A\n## b\n## B")]), ["a.md:3: “B” is a heading in line 2 too"]);
    }
}

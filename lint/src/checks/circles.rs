//! No Rust files use one another in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::finding::Finding;
use crate::imports::{Edge, edges};
use crate::tree::Tree;

pub fn check(tree: &Tree) -> Vec<Finding> {
    find(&edges(tree))
}

type Graph<'a> = BTreeMap<&'a str, Vec<&'a Edge>>;

/// Returns one finding for each set of files that all reach one another. It names the shortest circle among them.
fn find(edges: &[Edge]) -> Vec<Finding> {
    let mut graph = Graph::new();
    for edge in edges {
        graph.entry(&edge.from).or_default().push(edge);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|file| (*file, reach(&graph, file))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|files| files.contains(to));
    let mut done = BTreeSet::new();
    let mut findings = Vec::new();
    for file in graph.keys().filter(|file| reaches(file, file)) {
        if done.contains(file) {
            continue;
        }
        let set: BTreeSet<&str> = graph.keys().copied().filter(|to| reaches(file, to) && reaches(to, file)).collect();
        let circle = set.iter().filter_map(|file| circle(&graph, file)).min_by_key(Vec::len).unwrap_or_default();
        findings.extend(describe(&circle, &set));
        done.extend(set);
    }
    findings
}

fn reach<'a>(graph: &Graph<'a>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = vec![from];
    while let Some(file) = waiting.pop() {
        for edge in graph.get(file).into_iter().flatten() {
            if reached.insert(edge.to.as_str()) {
                waiting.push(&edge.to);
            }
        }
    }
    reached
}

/// Returns the edges of the shortest circle through a file.
fn circle<'a>(graph: &Graph<'a>, start: &str) -> Option<Vec<&'a Edge>> {
    let mut by: BTreeMap<&str, &'a Edge> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(file) = waiting.pop_front() {
        for edge in graph.get(file).into_iter().flatten() {
            if !by.contains_key(edge.to.as_str()) {
                by.insert(&edge.to, edge);
                waiting.push_back(&edge.to);
            }
        }
    }
    let mut circle = vec![*by.get(start)?];
    while circle.last().is_some_and(|edge| edge.from != start) {
        let from = &circle.last()?.from;
        circle.push(by.get(from.as_str())?);
    }
    circle.reverse();
    Some(circle)
}

fn describe(circle: &[&Edge], set: &BTreeSet<&str>) -> Option<Finding> {
    let first = circle.first()?;
    let steps: Vec<String> =
        circle.iter().map(|edge| format!("{}:{} uses {} of {}", edge.from, edge.line, edge.path, edge.to)).collect();
    let mut text = format!("a circle of files: {}", steps.join("; "));
    if set.len() > circle.len() {
        let files: Vec<&str> = set.iter().copied().collect();
        text += &format!("; {} files are in circles with these: {}", set.len(), files.join(", "));
    }
    Some(Finding::new(&first.from, first.line, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_with_the_lines_to_cut() {
        let findings = check(&Tree::of(&[
            ("Cargo.toml", ""),
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use crate::b::b;\npub fn a() { b() }"),
            ("src/b.rs", "\npub fn b() { super::c::c() }"),
            ("src/c.rs", "pub fn c() { crate::a::a(); crate::d::d() }"),
            ("src/d.rs", "pub fn d() {}"),
        ]));
        assert_eq!(findings.len(), 1);
        let text = findings[0].to_string();
        assert!(text.contains("src/b.rs:2 uses super::c::c of src/c.rs"), "{text}");
        assert!(!text.contains("src/d.rs"), "{text}");
    }

    #[test]
    fn a_parent_with_code_of_its_own_is_a_file_like_others() {
        let circle = |own: &str| {
            let parent = format!("mod child; pub use child::f; {own} pub const N: u8 = 1;");
            let files =
                [("Cargo.toml", ""), ("src/lib.rs", &parent), ("src/child.rs", "pub fn f() -> u8 { super::N }")];
            check(&Tree::of(&files)).len()
        };
        assert_eq!(circle(""), 0);
        assert_eq!(circle("fn g() { f(); }"), 1);
    }
}

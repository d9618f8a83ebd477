//! Tests that the documents of `docs/design` and `docs/work` name in a code span exist.

use std::collections::HashSet;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{ImplItemFn, ItemFn, ItemMacro};

use crate::finding::Finding;
use crate::markdown::{Kind, lines, spans};
use crate::tree::{Source, Tree};

/// The folders whose documents name tests.
const FOLDERS: &[&str] = &["docs/design", "docs/work"];
/// The words before the tests of a rule.
const PROVED: &str = "**Proved by**";
/// A name of so many words is that of a test, or of something else that stands in the source.
const WORDS: usize = 5;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut tests = Tests::default();
    tree.rust().for_each(|(_, file)| tests.visit_file(file));
    let documents = tree.sources.iter().filter(|source| source.is("md") && source.is_in(FOLDERS));
    documents.flat_map(|source| document(tree, &tests.0, source)).collect()
}

fn document(tree: &Tree, tests: &HashSet<String>, source: &Source) -> Vec<Finding> {
    let (mut proof, mut findings) = (false, Vec::new());
    for (number, line, kind) in lines(&source.text) {
        if matches!(kind, Kind::Code(_) | Kind::Fence) {
            continue;
        }
        // The tests of a rule go on in the indented lines below.
        proof = line.contains(PROVED) || (proof && line.starts_with(' '));
        for span in spans(line) {
            let known = tests.contains(span)
                || if proof { !is_name(span) || is_module(tree, span) } else { !is_long(span) || is_used(tree, span) };
            if !known {
                findings.push(Finding::new(&source.path, number, format!("there is no test {span}")));
            }
        }
    }
    findings
}

/// Returns whether a span can be the name of a test, or of a module of tests such as `load::cancel`.
fn is_name(span: &str) -> bool {
    span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
}

fn is_module(tree: &Tree, span: &str) -> bool {
    let module = format!("tests/{}", span.replace("::", "/"));
    span.contains("::") && (tree.has(&module) || tree.has(&format!("{module}.rs")))
}

fn is_long(span: &str) -> bool {
    is_name(span) && !span.contains(':') && span.split('_').count() >= WORDS
}

/// Returns whether a name stands in a file that is no document.
fn is_used(tree: &Tree, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let found = |text: &str| {
        text.match_indices(name)
            .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + name.len()..].starts_with(inside))
    };
    tree.sources.iter().filter(|source| !source.is("md")).any(|source| found(&source.text))
}

/// Collects the names of all functions that have the attribute `test` or `pg_test`, or of which `both_ways!` makes
/// tests.
#[derive(Default)]
struct Tests(HashSet<String>);

impl Tests {
    fn add(&mut self, attributes: &[syn::Attribute], name: &syn::Ident) {
        let is_test = |attribute: &syn::Attribute| {
            let last = attribute.path().segments.last();
            last.is_some_and(|last| last.ident == "test" || last.ident == "pg_test")
        };
        if attributes.iter().any(is_test) {
            self.0.insert(name.to_string());
        }
    }
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.add(&item.attrs, &item.sig.ident);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.add(&item.attrs, &item.sig.ident);
    }

    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.mac.path.is_ident("both_ways")
            && let Ok(names) = item.mac.parse_body_with(Punctuated::<syn::Ident, syn::Token![,]>::parse_terminated)
        {
            self.0.extend(names.iter().map(ToString::to_string));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "mod a { #[test] fn one_is_one() {} #[pg_test] fn two_is_two() {} fn helper() {} } \
                         both_ways!(three_is_three,);";

    fn texts(document: &str) -> Vec<String> {
        let files = [("tests/load/cancel.rs", TESTS), ("sql/a.sql", "a_b_c_d_idx"), ("docs/design/a.md", document)];
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_proof_of_a_rule_names_tests() {
        assert!(
            texts("- **Proved by**: `one_is_one`,\n  `two_is_two`, all of `load::cancel` by `f()`.\n- `other`")
                .is_empty()
        );
        assert_eq!(
            texts("- **Proved by**: `one_is_one`,\n  `helper`, `load::gone`."),
            ["docs/design/a.md:2: there is no test helper", "docs/design/a.md:2: there is no test load::gone"]
        );
    }

    #[test]
    fn a_long_name_is_that_of_a_test_or_stands_in_the_source() {
        assert!(texts("`one_is_one`, `a_b_c_d_idx`, `a_short_name`").is_empty());
        assert!(texts("- **Proved by**: `three_is_three`").is_empty());
        assert_eq!(texts("`a_b_c_d`, `b_c_d`\n\n`one_is_one_is_one`").len(), 1);
        assert_eq!(texts("`no_test_has_this_name`"), ["docs/design/a.md:1: there is no test no_test_has_this_name"]);
    }
}

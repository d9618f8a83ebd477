//! SQLSTATEs are compared in one file only, which says what kind of failure each is.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

use crate::finding::Finding;
use crate::modules::is_test;
use crate::tree::Tree;

/// The one file.
const HOME: &str = "src/error/verdict.rs";
/// Files that write SQLSTATEs without comparing them: the file, the SQLSTATE or `*` for all of them, and the reason.
const WRITTEN: &[(&str, &str, &str)] = &[
    ("src/error/facts.rs", "*", "gives each error its own"),
    ("src/pg/queue/attempt.rs", "57P02", "is recorded for an attempt without a result"),
    ("src/pg/workers/compatibility.rs", "TK011", "is what a worker reports of a library that does not fit the SQL"),
];
/// Classes that PostgreSQL's manual lists and that code here has compared with.
const CLASSES: &[&str] = &["08", "21", "22", "23", "25", "40", "42", "53", "54", "55", "57", "58", "XX", "TK"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, syntax) in tree.rust().filter(|(source, _)| source.is_in(&["src"])) {
        if source.path == HOME || source.path.contains("/tests") {
            continue;
        }
        let mut found = Vec::new();
        for item in syntax.items.iter().filter(|item| !is_test_module(item)) {
            scan(item.to_token_stream(), &mut found);
        }
        for (line, sqlstate) in found {
            if !is_written(&source.path, &sqlstate) {
                let text = format!("the SQLSTATE {sqlstate} is named, and only {HOME} may compare it");
                findings.push(Finding::new(&source.path, line, text));
            }
        }
    }
    findings
}

fn is_written(file: &str, sqlstate: &str) -> bool {
    WRITTEN.iter().any(|(written, which, _)| *written == file && (*which == "*" || *which == sqlstate))
}

fn is_test_module(item: &Item) -> bool {
    matches!(item, Item::Mod(module) if is_test(&module.attrs))
}

/// Finds literals that are a SQLSTATE or a class of them, with their lines.
fn scan(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => scan(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let inner = text.trim_matches('"');
                if text.starts_with('"') && is_sqlstate(inner) {
                    found.push((literal.span().start().line, inner.to_owned()));
                }
            }
            _ => {}
        }
    }
}

fn is_sqlstate(text: &str) -> bool {
    let Some(class) = text.get(..2).filter(|class| CLASSES.contains(class)) else { return false };
    text == class
        || (text.len() == 5
            && text.chars().all(|character| character.is_ascii_uppercase() || character.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).iter().map(|finding| format!("{}:{}", finding.file, finding.line)).collect()
    }

    #[test]
    fn one_file_may_compare_them() {
        let found = places(&[
            ("src/error/verdict.rs", "fn f(s: &str) -> bool { s.starts_with(\"53\") }"),
            ("src/error/facts.rs", "fn f() -> &'static str { \"57014\" }"),
            ("src/pg/queue/a.rs", "fn f(s: &str) -> bool {\ns == \"55P03\" || matches!(s, \"TK007\") }"),
            ("src/pg/queue/attempt.rs", "const A: &str = \"57P02\";\nfn f(s: &str) -> bool { s == \"40001\" }"),
            (
                "src/pg/queue/b.rs",
                "const A: &[&str] = &[\"40\"];\n#[cfg(test)] mod tests { const B: &str = \"57014\"; }",
            ),
            ("src/pg/queue/c.rs", "const A: &[&str] = &[\"400\", \"53 rows\", \"UTC\"];"),
        ]);
        assert_eq!(
            found,
            ["src/pg/queue/a.rs:2", "src/pg/queue/a.rs:2", "src/pg/queue/attempt.rs:2", "src/pg/queue/b.rs:1"]
        );
    }
}

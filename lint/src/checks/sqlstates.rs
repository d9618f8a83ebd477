//! SQLSTATEs are compared in one file only, which says what kind of failure each is.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

use crate::finding::Finding;
use crate::modules::is_test;
use crate::tree::Tree;

/// Files that write SQLSTATEs without comparing: the file and the reason.
const WRITE: &[(&str, &str)] = &[
    ("src/error.rs", "gives each error its own"),
    ("src/error/mod.rs", "gives each error its own"),
    ("src/error/sqlstate.rs", "gives each error its own"),
];
/// Classes that PostgreSQL's manual lists and that code here has compared with.
const CLASSES: &[&str] = &["08", "21", "22", "23", "25", "40", "42", "53", "54", "55", "57", "58", "XX", "TK"];
const HOME: &str = "src/pg/session";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut places = Vec::new();
    for (source, syntax) in tree.rust().filter(|(source, _)| source.is_in(&["src"])) {
        let exempt = WRITE.iter().any(|(file, _)| *file == source.path) || source.path.contains("/tests");
        for item in syntax.items.iter().filter(|item| !exempt && !is_test_module(item)) {
            let mut found = Vec::new();
            scan(item.to_token_stream(), &mut found);
            places.extend(found.into_iter().map(|(line, text)| (source.path.as_str(), line, text)));
        }
    }
    let homes: BTreeSet<&str> = places.iter().map(|(file, ..)| *file).filter(|file| file.starts_with(HOME)).collect();
    let bad = places.iter().filter(|(file, ..)| !homes.contains(file) || homes.len() > 1);
    bad.map(|(file, line, text)| {
        let text = format!("the SQLSTATE {text} is compared or written: only one file of {HOME} may, by a verdict");
        Finding::new(file, *line, text)
    })
    .collect()
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
                    found.push((literal.span().start().line, text));
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
        let home = ("src/pg/session/verdict.rs", "fn f(s: &str) -> bool { s.starts_with(\"53\") }");
        let found = places(&[
            home,
            ("src/error.rs", "fn f() -> &'static str { \"57014\" }"),
            ("src/pg/queue/a.rs", "fn f(s: &str) -> bool {\ns == \"55P03\" || matches!(s, \"TK007\") }"),
            (
                "src/pg/queue/b.rs",
                "const A: &[&str] = &[\"40\"];\n#[cfg(test)] mod tests { const B: &str = \"57014\"; }",
            ),
            ("src/pg/queue/c.rs", "const A: &[&str] = &[\"400\", \"53 rows\", \"UTC\"];"),
        ]);
        assert_eq!(found, ["src/pg/queue/a.rs:2", "src/pg/queue/a.rs:2", "src/pg/queue/b.rs:1"]);
        assert_eq!(places(&[home, ("src/pg/session/spi.rs", "const A: &str = \"57014\";")]).len(), 2);
    }
}

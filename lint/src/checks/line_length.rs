//! No line has more than 120 characters. In documents, what cannot be wrapped may be longer.

use crate::finding::Finding;
use crate::markdown::{self, Kind};
use crate::tree::{Source, Tree};

/// The longest line.
const MOST: usize = 120;

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources.iter().flat_map(|source| if source.is("md") { document(source) } else { code(source) }).collect()
}

fn code(source: &Source) -> Vec<Finding> {
    source.lines().filter_map(|(number, line)| finding(source, number, line)).collect()
}

fn document(source: &Source) -> Vec<Finding> {
    let lines = markdown::lines(&source.text).into_iter();
    lines.filter(|(_, line, kind)| wraps(line, *kind)).filter_map(|(at, line, _)| finding(source, at, line)).collect()
}

/// Returns whether a line of a document can be wrapped: not a row of a table, a bare link, or what a shell or a program
/// without a language prints. Code in a language can be.
fn wraps(line: &str, kind: Kind<'_>) -> bool {
    match kind {
        Kind::Table | Kind::Fence | Kind::Code("" | "sh" | "bash" | "console" | "text") => false,
        Kind::Code(_) | Kind::Heading(_) => true,
        Kind::Text => !is_link(line.trim_start_matches([' ', '-', '*', '>']).trim_end_matches(['.', ' '])),
    }
}

/// Returns whether a text is one link and nothing else: an address, `[words](target)` or `[name]: target`.
fn is_link(text: &str) -> bool {
    let ends = |rest: &str| rest.split_once(')').is_some_and(|(_, after)| after.is_empty());
    match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest.starts_with(": ") || rest.strip_prefix('(').is_some_and(ends),
        None => !text.contains(' '),
    }
}

fn finding(source: &Source, number: usize, line: &str) -> Option<Finding> {
    let length = line.chars().count();
    (length > MOST).then(|| Finding::new(&source.path, number, format!("{length} characters, more than {MOST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn characters_count_and_not_bytes() {
        assert!(lines("sql/a.sql", &"é".repeat(120)).is_empty());
        assert_eq!(lines("sql/a.sql", &format!("--\n{}", "é".repeat(121))), [2]);
        assert_eq!(lines("Makefile", &"x".repeat(121)), [1]);
    }

    #[test]
    fn documents_wrap_where_they_can() {
        let long = "word ".repeat(30);
        let text = format!(
            "{long}\n\n| {long} |\n\n```\n{long}\n```\n\n```sql\n{long}\n```\n\n- https://x/{}\n",
            "y".repeat(130)
        );
        assert_eq!(lines("docs/a.md", &text), [1, 10]);
    }

    #[test]
    fn a_link_alone_may_be_longer() {
        let target = "x".repeat(120);
        assert!(lines("a.md", &format!("- [some words]({target}).\n[name]: {target}\n")).is_empty());
        assert_eq!(lines("a.md", &format!("[words]({target}) and more\n")), [1]);
    }
}

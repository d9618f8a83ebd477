//! No Rust file has more than 500 lines.

use crate::finding::Finding;
use crate::tree::Tree;

/// The most lines of a file.
const MOST: usize = 500;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let rust = tree.sources.iter().filter(|source| source.is("rs"));
    let lengths = rust.map(|source| (source, source.text.lines().count()));
    lengths
        .filter(|(_, length)| *length > MOST)
        .map(|(source, length)| {
            Finding::new(&source.path, MOST + 1, format!("{length} lines, more than {MOST}: these are two files"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_after_the_last_is_one_too_many() {
        let (fits, long) = ("\n".repeat(500), "\n".repeat(501));
        let findings = check(&Tree::of(&[("src/a.rs", &fits), ("src/b.rs", &long), ("sql/c.sql", &long)]));
        assert_eq!(findings.iter().map(|finding| finding.file.as_str()).collect::<Vec<_>>(), ["src/b.rs"]);
    }
}

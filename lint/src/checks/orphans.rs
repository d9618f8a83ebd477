//! Each Rust file belongs to a crate. A file that no module declares is not compiled, and no check of modules sees it.

use crate::finding::Finding;
use crate::imports::orphans;
use crate::tree::Tree;

pub fn check(tree: &Tree) -> Vec<Finding> {
    orphans(tree).iter().map(|file| Finding::new(file, 1, "no module declares this file")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_declaration_is_found() {
        let files = [("Cargo.toml", ""), ("src/lib.rs", "#[cfg(test)] mod a;"), ("src/a.rs", ""), ("src/b.rs", "")];
        let findings = check(&Tree::of(&files));
        assert_eq!(findings.iter().map(|finding| finding.file.as_str()).collect::<Vec<_>>(), ["src/b.rs"]);
    }
}

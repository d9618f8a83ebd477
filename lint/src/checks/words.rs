//! A role is named (the caller, another session, a worker): no pronoun such as these stands for one.

use crate::finding::Finding;
use crate::tree::Tree;

/// The words, in lower case.
const WORDS: &[&str] =
    &["whoever", "whomever", "whatever", "somebody", "someone", "nobody", "anybody", "anyone", "everybody", "everyone"];
/// Files that may have one of them: the file, the word and the reason. `*` stands for all words.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("lint/src/checks/words.rs", "*", "lists the words"),
    ("docs/work/style.md", "*", "the glossary names the words that are not to be used"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        for (number, line) in source.lines() {
            for word in found(line) {
                if !is_allowed(&source.path, word) {
                    let text = format!("“{word}”: name the role or the thing that is meant");
                    findings.push(Finding::new(&source.path, number, text));
                }
            }
        }
    }
    findings
}

fn found(line: &str) -> impl Iterator<Item = &'static str> {
    line.split(|c: char| !c.is_alphabetic())
        .filter_map(|part| WORDS.iter().copied().find(|word| word.eq_ignore_ascii_case(part)))
}

fn is_allowed(file: &str, word: &str) -> bool {
    ALLOWED.iter().any(|(allowed, words, _)| *allowed == file && (*words == "*" || *words == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_found_in_code_documents_and_names() {
        let findings = check(&Tree::of(&[
            ("src/a.rs", "//! Whoever calls.\nfn somebody_else() {}\n// everyonesidea"),
            ("README.md", "It is nobody's.\n\nAnd whatever: anybody."),
            ("docs/work/style.md", "Not whoever."),
        ]));
        let places: Vec<_> = findings.iter().map(|finding| (finding.file.as_str(), finding.line)).collect();
        assert_eq!(places, [("README.md", 1), ("README.md", 3), ("README.md", 3), ("src/a.rs", 1), ("src/a.rs", 2)]);
    }
}

//! Files that a document names in a code span exist. `docs/work/style.md` says how documents shorten a path.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::markdown::spans_by_section;
use crate::tree::{Source, Tree};

/// Endings of the files that are looked for.
const ENDINGS: &[&str] = &["rs", "sql", "sh", "md", "py"];
/// Folders to which every path may be relative.
const BASES: &[&str] = &["", "src", "sql/queries"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources.iter().filter(|source| source.is("md")).flat_map(|source| document(tree, source)).collect()
}

fn document(tree: &Tree, source: &Source) -> Vec<Finding> {
    let own = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let always = BASES.iter().copied().chain([own]).map(str::to_owned);
    let always: BTreeSet<String> = always.collect();
    let (mut introduced, mut named, mut section) = (always.clone(), BTreeSet::new(), 0);
    let mut findings = Vec::new();
    for (number, at, span) in spans_by_section(&source.text) {
        if at != section {
            (section, named) = (at, BTreeSet::new());
        }
        for word in span.split(' ').filter(|word| is_path(word)) {
            let found = if is_file(word) {
                let bases = || introduced.iter().chain(&named);
                let file = bases().map(|base| join(base, word)).find(|file| tree.find(file).is_some());
                if file.is_none() {
                    findings.push(Finding::new(&source.path, number, format!("there is no {word}")));
                }
                file.and_then(|file| file.rsplit_once('/').map(|(folder, _)| folder.to_owned()))
            } else {
                always.iter().map(|base| join(base, word.trim_end_matches('/'))).find(|folder| tree.has(folder))
            };
            let folders = if section == 0 { &mut introduced } else { &mut named };
            folders.extend(found);
        }
    }
    findings
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") }
}

/// Returns whether a word can be a path of the repository.
fn is_path(word: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    !word.is_empty() && word.chars().all(known) && !word.starts_with(['/', '.', '-'])
}

/// Returns whether a path names a file that is looked for. A name in capitals, such as `X.sql`, stands for others.
fn is_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        ENDINGS.contains(&ending) && (ending == "md" || !stem.chars().any(|c| c.is_ascii_uppercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[
        ("src/pg/load/one.rs", ""),
        ("src/pg/load/sink.rs", ""),
        ("src/pg/queue/claim.rs", ""),
        ("sql/queue.sql", ""),
        ("sql/queries/live.sql", ""),
        ("scripts/install.sh", ""),
    ];

    fn texts(document: &str) -> Vec<String> {
        let files: Vec<_> = FILES.iter().copied().chain([("docs/a.md", document)]).collect();
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_are_relative_to_the_repository_or_to_src() {
        assert!(texts("`src/pg/load/one.rs`, `pg/load/one.rs`, `live.sql`, `scripts/install.sh --release`").is_empty());
        assert!(texts("`a.md`, `sql/queries/X.sql`, `b-OLD-NEW.sql`, `*.rs`, `../x.rs`\n```\n`no.rs`\n```").is_empty());
        let found = texts("`pg/load/two.rs`\n| `load/one.rs` | `gone.sh -x` |");
        let line = |number, path| format!("docs/a.md:{number}: there is no {path}");
        assert_eq!(found, [line(1, "pg/load/two.rs"), line(2, "load/one.rs"), line(2, "gone.sh")]);
    }

    #[test]
    fn a_name_alone_needs_its_folder_before_it() {
        assert!(texts("# A\n`pg/load/one.rs`, `sink.rs`").is_empty());
        assert!(texts("# A\nAbout `pg/load`.\n## B\n`sink.rs`\n## C\n`one.rs`").is_empty());
        assert!(texts("# A\n## B\n`sql/`: `queue.sql`").is_empty());
        assert_eq!(
            texts("# A\n## B\n`pg/load/one.rs`, `sink.rs`\n## C\n`sink.rs`"),
            ["docs/a.md:5: there is no sink.rs"]
        );
    }
}

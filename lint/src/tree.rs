//! The files of the source tree.

use std::io;
use std::path::Path;

use crate::finding::Finding;

/// Endings of files that people write here. Other files are data or generated.
const ENDINGS: &[&str] = &["rs", "sql", "md", "sh", "py", "toml", "control"];
/// Files without one of these endings that people write as well.
const NAMES: &[&str] = &["Makefile", "run", "Dockerfile", "Dockerfile.dev"];

/// One file of text.
pub struct Source {
    /// Path from the root of the tree, with `/` between its parts.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The syntax of a Rust file that can be parsed.
    pub syntax: Option<syn::File>,
    /// The message of the parser, and the line, of a Rust file that cannot be parsed.
    error: Option<(usize, String)>,
}

/// All files of text.
pub struct Tree {
    /// In the order of their paths.
    pub sources: Vec<Source>,
}

impl Source {
    /// Parses the text of a Rust file; takes the text of other files as it is.
    pub fn new(path: &str, text: String) -> Self {
        let parsed = path.ends_with(".rs").then(|| syn::parse_file(&text));
        let (syntax, error) = match parsed {
            None => (None, None),
            Some(Ok(file)) => (Some(file), None),
            Some(Err(error)) => (None, Some((error.span().start().line, error.to_string()))),
        };
        Self { path: path.to_owned(), text, syntax, error }
    }

    /// Returns whether the path has this ending, for example `rs`.
    pub fn is(&self, ending: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == ending)
    }

    /// Returns whether the file stands in one of these folders of the root.
    pub fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Returns the lines with their numbers, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

impl Tree {
    /// Reads all files of text below `root`, except build directories and hidden ones (`.ci` is read).
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut sources = Vec::new();
        collect(root, "", &mut sources)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { sources })
    }

    /// Makes a tree of files that a test plants.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, (*text).to_owned())).collect();
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Self { sources }
    }

    /// Returns the file at a path.
    pub fn find(&self, path: &str) -> Option<&Source> {
        self.position(path).map(|at| &self.sources[at])
    }

    /// Returns whether there is a file at a path, or a folder with files.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some() || self.sources.iter().any(|source| source.is_in(&[path]))
    }

    /// Returns the place of a file in `sources`.
    pub fn position(&self, path: &str) -> Option<usize> {
        self.sources.binary_search_by(|source| source.path.as_str().cmp(path)).ok()
    }

    /// Returns the Rust files that could be parsed.
    pub fn rust(&self) -> impl Iterator<Item = (&Source, &syn::File)> {
        self.sources.iter().filter_map(|source| source.syntax.as_ref().map(|syntax| (source, syntax)))
    }

    /// Returns a finding for each Rust file that cannot be parsed, as the checks pass over it.
    pub fn unparsed(&self) -> Vec<Finding> {
        let finding = |source: &Source| {
            let (line, why) = source.error.as_ref()?;
            Some(Finding::new(&source.path, *line, format!("this is no Rust that can be parsed: {why}")))
        };
        self.sources.iter().filter_map(finding).collect()
    }
}

fn collect(root: &Path, folder: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            let skipped = (name.starts_with('.') && name != ".ci") || name.starts_with("target");
            if !skipped {
                collect(root, &path, sources)?;
            }
        } else if is_text(&name) {
            sources.push(Source::new(&path, std::fs::read_to_string(root.join(&path))?));
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    NAMES.contains(&name) || name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_parsed_is_a_finding() {
        let tree = Tree::of(&[("src/good.rs", "fn f() {}"), ("src/bad.rs", "\nfn f( {}")]);
        let findings = tree.unparsed();
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].file.as_str(), findings[0].line), ("src/bad.rs", 2));
    }

    #[test]
    fn the_tree_of_this_project_is_found() {
        let tree = Tree::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
        for path in ["Makefile", "src/lib.rs", "lint/src/main.rs", ".ci/run", "README.md"] {
            assert!(tree.find(path).is_some(), "{path}");
        }
        assert!(tree.sources.iter().all(|source| !source.path.starts_with("target")));
    }
}

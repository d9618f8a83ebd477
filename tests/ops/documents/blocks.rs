//! Fenced blocks of a Markdown file.

use std::path::PathBuf;

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// What stands behind the opening fence, e.g. `sql` or `sql example`.
    pub info: String,
    /// What stands between the fences.
    pub text: String,
    /// The line of the opening fence, counted from 1.
    pub line: usize,
    /// The last line before the opening fence that is not empty.
    pub before: String,
}

/// Reads a file of the repository.
pub fn read(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns README and the pages for users, in a fixed order.
pub fn pages() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/use");
    let mut pages: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| format!("docs/use/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.push("README.md".to_owned());
    pages.sort();
    pages
}

/// Returns the blocks of a file in their order.
pub fn blocks(file: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = String::new();
    for (number, line) in read(file).lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let (info, before) = (info.trim().to_owned(), before.clone());
                open = Some(Block { info, text: String::new(), line: number + 1, before });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
        if !line.trim().is_empty() {
            before = line.trim().to_owned();
        }
    }
    blocks
}

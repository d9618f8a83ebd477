//! A place that breaks a rule.

use std::fmt;

/// A place that breaks a rule. The order is that of the files and lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the tree.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what the rule is.
    pub text: String,
}

impl Finding {
    /// Returns a finding at a line, counted from 1.
    pub fn new(file: &str, line: usize, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

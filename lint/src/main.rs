//! Checks the source tree for rules that neither the compiler nor clippy knows. Prints one line per finding, and exits
//! with 1 if there is one.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod finding;
mod imports;
mod markdown;
mod modules;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use checks::{CHECKS, Check};
use tree::Tree;

/// What the command line asks for.
struct Options {
    root: PathBuf,
    checks: Vec<&'static Check>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("btc-ingest-lint: {why}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    let tree = match Tree::read(&options.root) {
        Ok(tree) => tree,
        Err(why) => {
            eprintln!("btc-ingest-lint: {} cannot be read: {why}", options.root.display());
            return ExitCode::from(2);
        }
    };
    let mut findings = tree.unparsed();
    for check in &options.checks {
        findings.extend((check.run)(&tree));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} findings", findings.len());
    ExitCode::FAILURE
}

/// Reads the command line. Returns `None` if it only asks for help, which is then printed.
fn options() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;

    let mut root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut chosen = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("root") => root = PathBuf::from(parser.value()?),
            Long("only") => {
                for name in parser.value()?.string()?.split(',') {
                    let check = CHECKS.iter().find(|check| check.name == name);
                    chosen.push(check.ok_or_else(|| format!("there is no check {name:?}"))?);
                }
            }
            Long("help") | Short('h') => {
                help();
                return Ok(None);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let checks = if chosen.is_empty() { CHECKS.iter().collect() } else { chosen };
    Ok(Some(Options { root, checks }))
}

fn help() {
    println!("usage: cargo run -q -p btc_ingest_lint -- [--only CHECK,…] [--root DIRECTORY]\n\nThe checks:");
    for check in CHECKS {
        println!("  {:14}{}", check.name, check.about);
    }
}

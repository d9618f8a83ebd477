//! What the programs of the kit share: the command line is parsed by `lexopt`, a summary goes to standard output, an
//! error to standard error.

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;

use lexopt::{Parser, ValueExt};

/// Parses the command line, runs the program and returns its exit code. `parse` returns `None` if the usage is asked
/// for.
pub fn main<T>(
    usage: &str,
    parse: impl FnOnce(&mut Parser) -> Result<Option<T>, lexopt::Error>,
    run: impl FnOnce(T) -> Result<String, String>,
) -> ExitCode {
    let done = match parse(&mut Parser::from_env()) {
        Ok(Some(options)) => run(options),
        Ok(None) => Ok(usage.to_owned()),
        Err(error) => Err(format!("{error}\n{usage}")),
    };
    match done {
        Ok(summary) => {
            if !summary.is_empty() {
                println!("{summary}");
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the value of the option that was parsed last.
pub fn value<T>(parser: &mut Parser) -> Result<T, lexopt::Error>
where
    T: FromStr,
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    parser.value()?.parse()
}

/// Returns the error of an option that must be given.
pub fn missing(option: impl Display) -> lexopt::Error {
    format!("{option} is missing").into()
}

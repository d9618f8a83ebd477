//! The S3 server as a program of its own, for whoever needs one that outlives a test.

use std::io::Write;
use std::path::PathBuf;

use crate::s3::S3Server;

/// What `--help` says.
pub const USAGE: &str = "\
usage: btc-ingest-s3 --root DIR --access-key KEY --secret-key KEY [--port PORT] [--until-stdin-closes]
Serves the buckets in DIR over the S3 protocol on 127.0.0.1 until SIGTERM or SIGINT.";

#[derive(Debug, Default)]
struct Arguments {
    port: u16,
    root: PathBuf,
    access: String,
    secret: String,
    until_stdin_closes: bool,
}

/// Serves until told to stop; prints one line when ready. The error is for standard error.
pub fn run(args: impl Iterator<Item = String>) -> Result<(), String> {
    let args = parse(args)?;
    let server = S3Server::over(&args.root, args.port, &args.access, &args.secret)
        .map_err(|e| format!("cannot serve {}: {e}", args.root.display()))?;
    println!("listening on {}", server.endpoint());
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    if args.until_stdin_closes {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map_err(|e| e.to_string())?;
        return Ok(());
    }
    // Signals end the process by their default action: an object is in its place or it is not there.
    loop {
        std::thread::park();
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or(format!("{name} needs a value\n{USAGE}"));
        match name.as_str() {
            "--port" => parsed.port = value()?.parse().map_err(|_| "--port needs a number".to_owned())?,
            "--root" => parsed.root = value()?.into(),
            "--access-key" => parsed.access = value()?,
            "--secret-key" => parsed.secret = value()?,
            "--until-stdin-closes" => parsed.until_stdin_closes = true,
            "--help" | "-h" => return Err(USAGE.to_owned()),
            _ => return Err(format!("unknown argument {name}\n{USAGE}")),
        }
    }
    if parsed.root.as_os_str().is_empty() || parsed.access.is_empty() || parsed.secret.is_empty() {
        return Err(USAGE.to_owned());
    }
    Ok(parsed)
}

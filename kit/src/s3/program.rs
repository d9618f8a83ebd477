//! The S3 server as a program of its own, for a user who needs one that outlives a test.

use std::io::Write;
use std::path::PathBuf;

use lexopt::Parser;
use lexopt::prelude::{Long, Short};

use crate::program::{missing, value};
use crate::s3::S3Server;

/// The usage of the program.
pub const USAGE: &str = "\
usage: btc-ingest-s3 --root DIR --access-key KEY --secret-key KEY [--port PORT] [--tls-ca FILE]
       [--until-stdin-closes]
Serves the buckets in DIR over the S3 protocol on 127.0.0.1 until SIGTERM or SIGINT. With --tls-ca over TLS, as
127.0.0.1 and localhost; the authority of its certificate is made anew and written into FILE.";

/// The command line.
#[derive(Debug, Default)]
pub struct Arguments {
    port: u16,
    root: PathBuf,
    access: String,
    secret: String,
    tls_ca: Option<PathBuf>,
    until_stdin_closes: bool,
}

impl Arguments {
    /// Parses the command line. Returns `None` if it asks for the usage.
    pub fn parse(parser: &mut Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut parsed = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("port") => parsed.port = value(parser)?,
                Long("root") => parsed.root = parser.value()?.into(),
                Long("access-key") => parsed.access = value(parser)?,
                Long("secret-key") => parsed.secret = value(parser)?,
                Long("tls-ca") => parsed.tls_ca = Some(parser.value()?.into()),
                Long("until-stdin-closes") => parsed.until_stdin_closes = true,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        for (option, is_empty) in [
            ("--root", parsed.root.as_os_str().is_empty()),
            ("--access-key", parsed.access.is_empty()),
            ("--secret-key", parsed.secret.is_empty()),
        ] {
            if is_empty {
                return Err(missing(option));
            }
        }
        Ok(Some(parsed))
    }
}

/// Serves until a signal or the end of standard input; prints one line when ready.
pub fn serve(arguments: &Arguments) -> Result<(), String> {
    let root = &arguments.root;
    let (access, secret) = (arguments.access.as_str(), arguments.secret.as_str());
    let server = match &arguments.tls_ca {
        None => S3Server::over(root, arguments.port, access, secret),
        Some(_) => S3Server::https_over(root, arguments.port, access, secret),
    }
    .map_err(|e| format!("cannot serve {}: {e}", root.display()))?;
    if let Some(file) = &arguments.tls_ca {
        std::fs::copy(server.ca_file(), file).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    println!("listening on {}", server.endpoint());
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    if arguments.until_stdin_closes {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map_err(|e| e.to_string())?;
        return Ok(());
    }
    // Signals end the process by their default action: an object is either complete or absent.
    loop {
        std::thread::park();
    }
}

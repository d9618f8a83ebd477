//! `btc-ingest-demo`: `up` makes a cluster, an S3 server and an hour of trades and loads them; `down` takes it all away.
//! See `btc_ingest_tests::demo`.

use std::process::ExitCode;

use btc_ingest_tests::{demo, s3_program};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match args.next().as_deref() {
        Some("up") => demo::up(),
        Some("down") => demo::down(),
        // The demo starts itself as its S3 server, so that building this one program is enough.
        Some(demo::SERVE) => s3_program::run(args),
        _ => Err("usage: btc-ingest-demo up | down".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

//! S3: the allowed prefixes, the credentials, whether S3 answers, and whether its clock agrees with the
//! server's.

use super::check::{Check, Hint};
use crate::error::Result;
use crate::load::probe::{self, Probe};
use crate::model::uri::AllowedPrefixes;
use crate::pg::session::{ffi, guc};

/// Seconds between both clocks from which on a hint is given. S3 tells whole seconds, so a few are no
/// difference.
const NOTABLE: i64 = 60;
/// Seconds between both clocks from which on the check fails. AWS refuses a request that is signed 15 minutes
/// off.
const TOO_FAR: i64 = 300;

/// Checks the allowed prefixes, and asks S3 for each of them.
pub fn checks() -> Result<Vec<Check>> {
    let allowed = guc::allowed_prefixes();
    let mut checks = vec![allow_list(&allowed)];
    checks.extend(probed(&allowed.unwrap_or_default())?);
    Ok(checks)
}

fn allow_list(allowed: &Result<AllowedPrefixes>) -> Check {
    const NAME: &str = "allowed_prefixes";
    let hint = || {
        let example = "ALTER SYSTEM SET btc_ingest.allowed_prefixes = 's3://bucket/prefix'; SELECT pg_reload_conf();";
        Hint::know(format!("With your own bucket: {example}"))
    };
    match allowed {
        Err(error) => Check::bad(NAME, error.to_string(), hint()),
        Ok(list) if list.is_empty() => Check::bad(NAME, "empty, which denies every uri", hint()),
        Ok(_) => Check::good(NAME, guc::allowed_prefixes_text()),
    }
}

/// Asks S3, and checks credentials, region, each prefix and the clock.
fn probed(allowed: &AllowedPrefixes) -> Result<Vec<Check>> {
    let settings = guc::s3();
    let endpoint = if settings.endpoint.is_empty() { "AWS".to_owned() } else { settings.endpoint.clone() };
    let prefixes: Vec<(String, String)> =
        allowed.iter().map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_owned())).collect();
    let mut thread = ffi::Thread::start(1, move |reads, events| probe::run(&settings, &prefixes, reads, events))?;
    let Probe { credentials, region, prefixes, ahead } = thread.next()?.unwrap_or_default();
    let mut checks = Vec::new();
    match credentials {
        Some(Ok(source)) => checks.push(Check::good("AWS credentials", format!("from {source}"))),
        Some(Err(error)) => {
            let detail = error.detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}"));
            checks.push(Check::error("AWS credentials", detail, &error));
        }
        None => {}
    }
    checks.extend(region.map(|region| Check::good("S3 region", region)));
    for (uri, answer) in prefixes {
        checks.push(match answer {
            Ok(()) => Check::good("S3 reachable", format!("{uri} at {endpoint}")),
            Err(error) => Check::error("S3 reachable", format!("{uri} at {endpoint}: {error}"), &error),
        });
    }
    checks.extend(ahead.map(clock));
    Ok(checks)
}

/// Checks the clock. `ahead` is the number of seconds by which S3's clock is ahead of the server's.
fn clock(ahead: i64) -> Check {
    const NAME: &str = "clock";
    const HINT: &str = "Have the server's clock set by NTP (timedatectl set-ntp true, or chrony): S3 refuses requests \
         that are signed more than 15 minutes off (RequestTimeTooSkewed).";
    let apart = ahead.abs();
    let detail = match ahead {
        _ if apart <= 2 => "as S3's".to_owned(),
        0.. => format!("{apart} s behind S3's"),
        _ => format!("{apart} s ahead of S3's"),
    };
    if apart > TOO_FAR {
        Check::bad(NAME, detail, Hint::know(HINT))
    } else if apart > NOTABLE {
        Check::known(NAME, detail, Hint::know(HINT))
    } else {
        Check::good(NAME, detail)
    }
}

//! Checks for `doctor()` whether S3 can be reached.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::background::Events;
use crate::error::Result;
use crate::s3::answer::{explain, timeout};
use crate::s3::client::{Connection, connect};
use crate::s3::clock::Clock;
use crate::s3::config::S3Settings;
use crate::s3::reads::Io;

/// The time for all requests together. `doctor()` is to answer within five seconds, also if S3 does not answer.
const DEADLINE: Duration = Duration::from_secs(4);

/// Attempts per request at most. The pauses between more of them could outlast `DEADLINE`, and S3's own answer, which
/// tells more than a timeout, would be lost.
const ATTEMPTS: u32 = 2;

/// The results of the steps. Without credentials no further step follows.
#[derive(Debug, Default)]
pub struct Probe {
    /// The credentials' source, or why there are none.
    pub credentials: Option<Result<String>>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// Per allowed prefix: the uri and whether it can be listed.
    pub prefixes: Vec<(String, Result<()>)>,
    /// Seconds by which S3's clock is ahead of the server's, if S3 has answered.
    pub ahead: Option<i64>,
}

/// Finds credentials and lists one key under each prefix, under all prefixes at the same time. This is the work of a
/// `Background` thread.
pub fn run(s3: &S3Settings, prefixes: &[(String, String)], io: &Io, events: &Events<Probe>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    let mut probe = Probe::default();
    let connection = io.wait(async {
        let late = || Err(timeout(DEADLINE, "fetching credentials"));
        Ok(timeout_at(end, connect(s3)).await.unwrap_or_else(|_| late()))
    })?;
    match connection {
        Err(error) => probe.credentials = Some(Err(error)),
        Ok(connection) => {
            probe.credentials = Some(Ok(connection.credentials_from.clone()));
            probe.region = Some(connection.region.clone());
            let clock = Clock::default();
            probe.prefixes = io.wait(list_all(&connection, prefixes, &clock, end))?;
            probe.ahead = clock.ahead();
        }
    }
    events.send(probe)
}

/// Lists one key under each prefix. Returns the answers in the order of the prefixes.
async fn list_all(
    connection: &Connection,
    prefixes: &[(String, String)],
    clock: &Clock,
    end: Instant,
) -> Result<Vec<(String, Result<()>)>> {
    let mut listings = JoinSet::new();
    for (place, (bucket, prefix)) in prefixes.iter().cloned().enumerate() {
        let (connection, clock) = (connection.clone(), clock.clone());
        listings.spawn(async move {
            let answer = timeout_at(end, list(&connection, &bucket, &prefix, &clock)).await;
            let late = || Err(timeout(DEADLINE, "listing a key"));
            (place, format!("s3://{bucket}/{prefix}"), answer.unwrap_or_else(|_| late()))
        });
    }
    let mut answers = listings.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    Ok(answers.into_iter().map(|(_, uri, answer)| (uri, answer)).collect())
}

async fn list(connection: &Connection, bucket: &str, prefix: &str, clock: &Clock) -> Result<()> {
    let request = |client: &Client| {
        let list = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
        let attempts = connection.settings.max_attempts.clamp(1, ATTEMPTS);
        let retries = Config::builder().retry_config(RetryConfig::standard().with_max_attempts(attempts));
        list.customize().config_override(retries).interceptor(clock.clone()).send()
    };
    connection.send(request).await.map(drop).map_err(|error| explain(&error, connection, bucket))
}

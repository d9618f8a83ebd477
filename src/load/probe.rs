//! Checks for `doctor()` whether S3 can be reached.

use aws_sdk_s3::Client;

use super::background::Events;
use crate::error::Result;
use crate::s3::answer::explain;
use crate::s3::client::connect;
use crate::s3::clock::Clock;
use crate::s3::config::S3Settings;
use crate::s3::reads::Io;

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

/// Finds credentials and lists one key under each prefix. This is the work of a `Background` thread.
pub fn run(s3: &S3Settings, prefixes: &[(String, String)], io: &Io, events: &Events<Probe>) -> Result<()> {
    let mut probe = Probe::default();
    match io.wait(connect(s3)) {
        Err(error) => probe.credentials = Some(Err(error)),
        Ok(connection) => {
            probe.credentials = Some(Ok(connection.credentials_from.clone()));
            probe.region = Some(connection.region.clone());
            let clock = Clock::default();
            for (bucket, prefix) in prefixes {
                let answer = io.wait(async {
                    let request = |client: &Client| {
                        let list = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
                        list.customize().interceptor(clock.clone()).send()
                    };
                    connection.send(request).await.map(drop).map_err(|error| explain(&error, &connection, bucket))
                });
                probe.prefixes.push((format!("s3://{bucket}/{prefix}"), answer));
            }
            probe.ahead = clock.ahead();
        }
    }
    events.send(probe)
}

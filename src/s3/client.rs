//! The SDK's client, set up from the extension's settings and the AWS default chain.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{IdentityCache, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::codes::may_be_credentials;
use super::config::{S3Settings, bad, config_loader, http_client};
use super::credentials::{self, CurrentCredentials};
use crate::error::Result;

/// A client, with the region and the credentials' source that its set-up found.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The SDK's client.
    pub client: Client,
    /// The region that requests are signed for.
    pub region: String,
    /// The source of the credentials, e.g. `EnvironmentVariable` or `Imds`; never the secret.
    pub credentials_from: String,
    /// The settings that it was made with.
    pub settings: S3Settings,
    credentials: CurrentCredentials,
}

impl Connection {
    /// Returns the connection for another load, whose credentials are renewed as those of a new connection are.
    pub async fn reused(self) -> Self {
        self.credentials.allow_renewal().await;
        self
    }

    /// Sends a request. If S3 refuses its credentials and the source has others by now, sends it once more.
    pub async fn send<T, E, F>(
        &self,
        request: impl Fn(&Client) -> F,
    ) -> std::result::Result<T, SdkError<E, HttpResponse>>
    where
        E: ProvideErrorMetadata,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let used = self.credentials.get().await;
        let answer = request(&self.client).await;
        match (&answer, used) {
            (Err(error), Ok(used)) if may_be_credentials(error) && self.credentials.renew(&used).await => {
                request(&self.client).await
            }
            _ => answer,
        }
    }
}

/// Makes a client with credentials of the AWS default chain. They are fetched now, because an instance role's
/// credentials may have been rotated since the last load.
pub async fn connect(settings: &S3Settings) -> Result<Connection> {
    let http = http_client(settings)?;
    let mut loader = config_loader(settings, http.clone());
    if let Some(region) = explicit_region(settings) {
        loader = loader.region(Region::new(region));
    }
    let config = loader.load().await;
    let Some(region) = config.region().cloned() else {
        return Err(bad("no region is known: set btc_ingest.s3_region, or AWS_REGION in the server's environment"));
    };
    let first = credentials::first(&config).await?;
    let credentials_from = credentials::source_of(&first);
    let credentials = CurrentCredentials::new(first, settings, http, region.clone());
    let mut builder = aws_sdk_s3::config::Builder::from(&config)
        .credentials_provider(credentials.clone())
        // The SDK's cache would keep credentials that S3 refuses.
        .identity_cache(IdentityCache::no_cache())
        .force_path_style(settings.force_path_style);
    if !settings.endpoint.is_empty() {
        builder = builder.endpoint_url(&settings.endpoint);
    }
    let client = Client::from_conf(builder.build());
    Ok(Connection { client, region: region.to_string(), credentials_from, settings: settings.clone(), credentials })
}

/// Returns the region that the setting names. For a custom endpoint without any region it returns `us-east-1`, which
/// such servers accept. Returns `None` if the default chain is to find the region.
fn explicit_region(settings: &S3Settings) -> Option<String> {
    if !settings.region.is_empty() {
        return Some(settings.region.clone());
    }
    let inherited = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().any(|name| std::env::var_os(name).is_some());
    (!settings.endpoint.is_empty() && !inherited).then(|| "us-east-1".to_owned())
}

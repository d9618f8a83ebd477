//! The SDK's client, set up from the extension's settings and the AWS default chain.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::answer::may_be_credentials;
use super::body::Bounded;
use super::credentials::{self, CurrentCredentials};
use crate::error::{Error, Result};

/// The settings of connections to S3. An empty text means "not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// `btc_ingest.s3_endpoint`.
    pub endpoint: String,
    /// `btc_ingest.s3_region`.
    pub region: String,
    /// `btc_ingest.s3_force_path_style`.
    pub force_path_style: bool,
    /// `btc_ingest.s3_ca_file`.
    pub ca_file: String,
    /// `btc_ingest.aws_profile`.
    pub profile: String,
    /// `btc_ingest.s3_connect_timeout`.
    pub connect_timeout: Duration,
    /// `btc_ingest.s3_read_timeout`.
    pub read_timeout: Duration,
    /// `btc_ingest.s3_max_attempts`.
    pub max_attempts: u32,
}

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

/// Returns a loader of the AWS configuration: the settings, and the default chain for what they leave open.
pub fn config_loader(settings: &S3Settings, http: SharedHttpClient) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(settings.max_attempts.max(1)))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(settings.connect_timeout)
                .read_timeout(settings.read_timeout)
                // The SDK's read timeout covers an answer's head only. This limit also covers the body of a listing or
                // of a refusal, which may stall as well. It does not cover an object's body.
                .operation_attempt_timeout(settings.connect_timeout + settings.read_timeout)
                .build(),
        )
        // Reads of an object's body have a timeout of their own (`S3Object::append`), which follows the settings.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        // Only a request for a whole object asks for its checksum.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if settings.profile.is_empty() { loader } else { loader.profile_name(&settings.profile) }
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

fn http_client(settings: &S3Settings) -> Result<SharedHttpClient> {
    // Loading the system's root certificates takes milliseconds; an http endpoint does not need them.
    let plain = settings.endpoint.starts_with("http://");
    let mut trust = TrustStore::empty().with_native_roots(!plain);
    if !settings.ca_file.is_empty() {
        let named = |why: String| bad(&format!("btc_ingest.s3_ca_file \"{}\" {why}", settings.ca_file));
        let pem = std::fs::read(&settings.ca_file).map_err(|error| named(format!("cannot be read: {error}")))?;
        check_certificates(&pem).map_err(named)?;
        trust = trust.with_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| bad(&error.to_string()))?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let client = HttpBuilder::new().tls_provider(provider).tls_context(context).build_https();
    Ok(SharedHttpClient::new(Bounded(client)))
}

/// Checks the certificates first, because the SDK panics on certificates that it cannot parse.
fn check_certificates(pem: &[u8]) -> std::result::Result<(), String> {
    let unusable = |error: &dyn std::fmt::Display| format!("holds a certificate that cannot be used: {error}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err("holds no PEM certificate".into()) } else { Ok(()) }
}

fn bad(why: &str) -> Error {
    Error::BadS3Setting { why: why.into() }
}

//! The SDK's client, set up from the extension's settings and the AWS default chain.

use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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
}

/// Makes a client with credentials of the AWS default chain. They are fetched now, because an instance role's
/// credentials may have been rotated since the last load.
pub async fn connect(settings: &S3Settings) -> Result<Connection> {
    let region = explicit_region(settings);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(settings)?)
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
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    if !settings.profile.is_empty() {
        loader = loader.profile_name(&settings.profile);
    }
    let config = loader.load().await;

    let Some(region) = config.region().map(ToString::to_string) else {
        return Err(bad("no region is known: set btc_ingest.s3_region, or AWS_REGION in the server's environment"));
    };
    let (first, provider) = credentials(&config).await?;
    let credentials_from = source_of(&first);
    let mut builder = aws_sdk_s3::config::Builder::from(&config)
        .credentials_provider(Renewed { first, provider })
        .force_path_style(settings.force_path_style);
    if !settings.endpoint.is_empty() {
        builder = builder.endpoint_url(&settings.endpoint);
    }
    let client = Client::from_conf(builder.build());
    Ok(Connection { client, region, credentials_from, settings: settings.clone() })
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

/// The first credentials, which were fetched to see whether there are any, and the provider for later ones. A role's
/// credentials last for hours, and a worker may run for days.
#[derive(Debug)]
struct Renewed {
    first: Credentials,
    provider: SharedCredentialsProvider,
}

/// Credentials are renewed this long before they expire. The SDK's own margin is ten seconds.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let fresh = self.first.expiry().is_none_or(|end| SystemTime::now() + RENEW_BEFORE < end);
        if fresh {
            return future::ProvideCredentials::ready(Ok(self.first.clone()));
        }
        self.provider.provide_credentials()
    }
}

async fn credentials(config: &aws_config::SdkConfig) -> Result<(Credentials, SharedCredentialsProvider)> {
    let Some(provider) = config.credentials_provider() else {
        return Err(Error::NoCredentials { why: "The SDK was built without a credentials provider.".into() });
    };
    let first = provider.provide_credentials().await.map_err(|error| {
        use aws_credential_types::provider::error::CredentialsError as E;
        // The chain's own text can quote a profile's contents, so only the kind of the failure is reported.
        let why = match error {
            E::CredentialsNotLoaded(_) => {
                "The environment, the profile, the container and the instance metadata service have none."
            }
            E::ProviderTimedOut(_) => "A provider, probably the instance metadata service, did not answer in time.",
            E::InvalidConfiguration(_) => "The AWS configuration of the server's user, or the profile, is invalid.",
            _ => "A provider failed; it may be the instance metadata service or a role that cannot be assumed.",
        };
        Error::NoCredentials { why: why.into() }
    })?;
    Ok((first, provider))
}

/// Returns the provider's name. The SDK shows it in the debug output only, which has the access key but never the
/// secret.
fn source_of(credentials: &Credentials) -> String {
    let text = format!("{credentials:?}");
    let name = text.split("provider_name: \"").nth(1).and_then(|rest| rest.split('"').next());
    name.unwrap_or("unknown").to_owned()
}

fn http_client(settings: &S3Settings) -> Result<aws_sdk_s3::config::SharedHttpClient> {
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
    Ok(HttpBuilder::new().tls_provider(provider).tls_context(context).build_https())
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

//! The settings of connections to S3, and the AWS configuration and the HTTP client that follow from them.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::body::Bounded;
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
    /// `btc_ingest.s3_min_speed`, bytes per second; 0 for none.
    pub min_speed: u64,
    /// `btc_ingest.s3_max_attempts`.
    pub max_attempts: u32,
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

/// Makes the HTTP client, whose answers have bounded bodies.
pub fn http_client(settings: &S3Settings) -> Result<SharedHttpClient> {
    check_endpoint(&settings.endpoint)?;
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

/// Refuses an endpoint that is no URL of a server. The SDK notices it only at the first request, and does not say which
/// setting it has read.
fn check_endpoint(endpoint: &str) -> Result<()> {
    let server = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let (host, port) = server.map_or(("", None), |server| {
        let server = server.trim_end_matches('/');
        server.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or((server, None), |(h, p)| (h, Some(p)))
    });
    let host_fits =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c));
    if endpoint.is_empty() || host_fits && port.is_none_or(|port| port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    Err(bad(&format!("btc_ingest.s3_endpoint is \"{endpoint}\", which is no URL such as https://s3.example.com:9000")))
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

/// Returns the error for a setting that makes no client.
pub fn bad(why: &str) -> Error {
    Error::BadS3Setting { why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_by_the_name_of_its_setting() {
        for fine in ["", "http://127.0.0.1:9000", "https://s3.example.com", "https://minio:9000/", "http://[::1]:80"] {
            assert_eq!(check_endpoint(fine), Ok(()), "{fine}");
        }
        for garbage in ["s3.example.com", "ftp://host", "http://", "https://a b", "http://host:port", "http://h:99999"]
        {
            let error = check_endpoint(garbage).unwrap_err();
            assert_eq!(error.sqlstate(), "S3014");
            assert!(error.to_string().contains(&format!("btc_ingest.s3_endpoint is \"{garbage}\"")), "{error}");
        }
    }
}

//! A client of an S3 server for the tests' own use, over the AWS SDK and blocking.

use std::ops::Range;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;
use tokio::runtime::Runtime;

/// What HEAD says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The etag, quotes included.
    pub etag: String,
    /// The size in bytes.
    pub size: u64,
}

/// A client with one user's keys. Errors are the SDK's words, the server's code included.
#[derive(Debug)]
pub struct S3Client {
    runtime: Option<Runtime>,
    client: aws_sdk_s3::Client,
    endpoint: String,
}

impl S3Client {
    /// `ca`: the PEM certificate to trust, for an endpoint over TLS.
    pub fn new(endpoint: &str, access: &str, secret: &str, ca: Option<&str>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let http = match ca {
            None => aws_smithy_http_client::Builder::new().build_http(),
            Some(pem) => {
                let trust = TrustStore::empty().with_pem_certificate(pem);
                let context = TlsContext::builder().with_trust_store(trust).build().expect("a certificate");
                aws_smithy_http_client::Builder::new()
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .tls_context(context)
                    .build_https()
            }
        };
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::from_keys(access, secret, None))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .http_client(http)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        Self { runtime: Some(runtime), client, endpoint: endpoint.to_owned() }
    }

    /// Where it sends its requests.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, bucket: &str) -> Result<(), String> {
        self.wait(self.client.create_bucket().bucket(bucket).send()).map(drop)
    }

    /// Stores an object and returns its etag.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> Result<String, String> {
        let body = ByteStream::from(bytes.into());
        let stored = self.wait(self.client.put_object().bucket(bucket).key(key).body(body).send())?;
        Ok(stored.e_tag.unwrap_or_default())
    }

    /// Etag and size.
    pub fn head(&self, bucket: &str, key: &str) -> Result<Head, String> {
        let head = self.wait(self.client.head_object().bucket(bucket).key(key).send())?;
        let size = head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Head { etag: head.e_tag.unwrap_or_default(), size })
    }

    /// The whole object.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Bytes, String> {
        self.read(bucket, key, None)
    }

    /// Some bytes of an object.
    pub fn get_range(&self, bucket: &str, key: &str, range: Range<u64>) -> Result<Bytes, String> {
        self.read(bucket, key, Some(format!("bytes={}-{}", range.start, range.end - 1)))
    }

    /// Removes an object.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), String> {
        self.wait(self.client.delete_object().bucket(bucket).key(key).send()).map(drop)
    }

    /// The keys under a prefix, in order.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, String> {
        let list = self.wait(self.client.list_objects_v2().bucket(bucket).prefix(prefix).send())?;
        Ok(list.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect())
    }

    fn read(&self, bucket: &str, key: &str, range: Option<String>) -> Result<Bytes, String> {
        let object = self.wait(self.client.get_object().bucket(bucket).key(key).set_range(range).send())?;
        let body = self.runtime().block_on(object.body.collect());
        body.map(|body| body.into_bytes()).map_err(|e| e.to_string())
    }

    fn wait<T, E>(&self, call: impl Future<Output = Result<T, SdkError<E>>>) -> Result<T, String>
    where
        E: std::error::Error + 'static,
    {
        self.runtime().block_on(call).map_err(|e| DisplayErrorContext(&e).to_string())
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a client that was not dropped")
    }
}

impl Drop for S3Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

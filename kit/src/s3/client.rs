//! A client of an S3 server for the tests' own use, over the AWS SDK and blocking.

use std::ops::Range;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
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

/// What a listing is asked for; by default everything, up to 1000 keys.
#[derive(Debug, Clone, Default)]
pub struct Listing<'a> {
    /// What the keys begin with.
    pub prefix: &'a str,
    /// What ends a group of keys that is listed as one.
    pub delimiter: Option<&'a str>,
    /// The key after which the first page begins.
    pub start_after: Option<&'a str>,
    /// The page before's [`Page::next`].
    pub token: Option<&'a str>,
    /// How many keys and groups at most.
    pub max_keys: Option<i32>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys with what the listing says of them, in order.
    pub objects: Vec<(String, Head)>,
    /// The common prefixes, in order.
    pub groups: Vec<String>,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
}

/// A client with one user's keys. Errors are the SDK's words, the server's code included.
#[derive(Debug)]
pub struct S3Client {
    runtime: Option<Runtime>,
    client: aws_sdk_s3::Client,
    endpoint: String,
}

impl S3Client {
    /// Makes a client. `ca` is the PEM certificate to trust, for an endpoint over TLS.
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
            .credentials_provider(Credentials::new(access, secret, None, None, "test"))
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .http_client(http)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        Self { runtime: Some(runtime), client, endpoint: endpoint.to_owned() }
    }

    /// Returns the endpoint.
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

    /// Asks for etag and size.
    pub fn head(&self, bucket: &str, key: &str) -> Result<Head, String> {
        let head = self.wait(self.client.head_object().bucket(bucket).key(key).send())?;
        let size = head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Head { etag: head.e_tag.unwrap_or_default(), size })
    }

    /// Asks for etag and size, if the object still has this etag.
    pub fn head_if_match(&self, bucket: &str, key: &str, etag: &str) -> Result<(), String> {
        self.wait(self.client.head_object().bucket(bucket).key(key).if_match(etag).send()).map(drop)
    }

    /// Reads the whole object, if it still has this etag.
    pub fn get_if_match(&self, bucket: &str, key: &str, etag: &str) -> Result<Bytes, String> {
        self.read(self.client.get_object().bucket(bucket).key(key).if_match(etag))
    }

    /// Reads the whole object.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Bytes, String> {
        self.read(self.client.get_object().bucket(bucket).key(key))
    }

    /// Reads some bytes of an object.
    pub fn get_range(&self, bucket: &str, key: &str, range: Range<u64>) -> Result<Bytes, String> {
        let range = format!("bytes={}-{}", range.start, range.end - 1);
        self.read(self.client.get_object().bucket(bucket).key(key).range(range))
    }

    /// Removes an object.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), String> {
        self.wait(self.client.delete_object().bucket(bucket).key(key).send()).map(drop)
    }

    /// Removes many objects by one request.
    pub fn delete_all(&self, bucket: &str, keys: &[&str]) -> Result<(), String> {
        let object = |key: &&str| ObjectIdentifier::builder().key(*key).build().expect("an object with a key");
        let delete = Delete::builder().set_objects(Some(keys.iter().map(object).collect())).build();
        let delete = delete.expect("some objects");
        self.wait(self.client.delete_objects().bucket(bucket).delete(delete).send()).map(drop)
    }

    /// Copies an object within its bucket.
    pub fn copy(&self, bucket: &str, from: &str, to: &str) -> Result<(), String> {
        let source = format!("{bucket}/{from}");
        self.wait(self.client.copy_object().bucket(bucket).copy_source(source).key(to).send()).map(drop)
    }

    /// Stores an object part by part; each but the last must have 5 MiB at least.
    pub fn put_parts(&self, bucket: &str, key: &str, parts: &[Bytes]) -> Result<(), String> {
        let upload = self.wait(self.client.create_multipart_upload().bucket(bucket).key(key).send())?;
        let id = upload.upload_id.unwrap_or_default();
        let mut done = CompletedMultipartUpload::builder();
        for (number, bytes) in (1..).zip(parts) {
            let part = self.client.upload_part().bucket(bucket).key(key).upload_id(&id).part_number(number);
            let part = self.wait(part.body(ByteStream::from(bytes.clone())).send())?;
            done = done.parts(CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build());
        }
        let complete = self.client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
        self.wait(complete.multipart_upload(done.build()).send()).map(drop)
    }

    /// Reads one page of a listing.
    pub fn page(&self, bucket: &str, listing: &Listing<'_>) -> Result<Page, String> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let ask = self.client.list_objects_v2().bucket(bucket).prefix(listing.prefix);
        let ask = ask.set_delimiter(owned(listing.delimiter)).set_start_after(owned(listing.start_after));
        let ask = ask.set_continuation_token(owned(listing.token)).set_max_keys(listing.max_keys);
        let list = self.wait(ask.send())?;
        let objects = list.contents.unwrap_or_default().into_iter().map(|object| {
            let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            (object.key.unwrap_or_default(), Head { etag: object.e_tag.unwrap_or_default(), size })
        });
        let groups = list.common_prefixes.unwrap_or_default().into_iter().filter_map(|group| group.prefix);
        Ok(Page { objects: objects.collect(), groups: groups.collect(), next: list.next_continuation_token })
    }

    /// Lists the keys under a prefix, in order; only the first page of them.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, String> {
        let page = self.page(bucket, &Listing { prefix, ..Listing::default() })?;
        Ok(page.objects.into_iter().map(|(key, _)| key).collect())
    }

    fn read(&self, get: GetObjectFluentBuilder) -> Result<Bytes, String> {
        let object = self.wait(get.send())?;
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

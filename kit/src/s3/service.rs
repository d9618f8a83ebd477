//! The requests that the S3 server answers: listings from the index, reads under If-Match, all else by s3s-fs.

use bytes::Bytes;
use s3s::dto::*;
use s3s::{Body, S3, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::index::Stored;
use crate::s3::listing;
use crate::s3::store::{Answer, Store};

fn read(stored: &Stored, bytes: Bytes, range: Option<Range>) -> S3Result<GetObjectOutput> {
    let wanted = range.map(|range| range.check(stored.size)).transpose()?;
    let part = match &wanted {
        Some(part) => bytes.slice(part.start as usize..part.end as usize),
        None => bytes,
    };
    Ok(GetObjectOutput {
        content_length: i64::try_from(part.len()).ok(),
        content_range: wanted.map(|part| format!("bytes {}-{}/{}", part.start, part.end - 1, stored.size)),
        body: Some(Body::from(part).into()),
        e_tag: Some(stored.etag.clone()),
        last_modified: Some(stored.modified.clone()),
        ..GetObjectOutput::default()
    })
}

#[async_trait::async_trait]
impl S3 for Store {
    // ── what is answered here ───────────────────────────────────────────────────────────────────────────────────────

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        listing::answer(self.index(), req.input).map(S3Response::new)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let marker = req.input.marker.clone();
        let page = listing::answer(self.index(), req.input.into())?;
        // The older listing goes on by key.
        let next = page.next_continuation_token.as_deref().map(listing::key_of).transpose()?;
        let word = |text: String| listing::worded(page.encoding_type.as_ref(), text);
        Ok(S3Response::new(ListObjectsOutput {
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            delimiter: page.delimiter,
            marker: marker.map(word),
            next_marker: next.map(word),
            encoding_type: page.encoding_type,
            name: page.name,
            prefix: page.prefix,
            max_keys: page.max_keys,
            is_truncated: page.is_truncated,
            ..ListObjectsOutput::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let if_match = req.input.if_match.clone();
        if let Some((stored, bytes)) = self.index().in_memory(&req.input.bucket, &req.input.key) {
            self.compare(if_match.as_ref(), Some(&stored.etag))?;
            return read(&stored, bytes, req.input.range).map(S3Response::new);
        }
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let answer = match self.files().get_object(req).await {
            Err(e) if *e.code() == S3ErrorCode::InvalidRange => {
                // The condition goes before the range: a smaller version may not have it.
                self.compare(if_match.as_ref(), self.head(&bucket, &key).await?.e_tag.as_ref())?;
                return Err(e);
            }
            answer => answer?,
        };
        self.compare(if_match.as_ref(), answer.output.e_tag.as_ref())?;
        Ok(answer)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let if_match = req.input.if_match.clone();
        let answer = match self.index().in_memory(&req.input.bucket, &req.input.key) {
            None => self.files().head_object(req).await?,
            Some((stored, _)) => S3Response::new(HeadObjectOutput {
                content_length: i64::try_from(stored.size).ok(),
                e_tag: Some(stored.etag.clone()),
                last_modified: Some(stored.modified.clone()),
                ..HeadObjectOutput::default()
            }),
        };
        self.compare(if_match.as_ref(), answer.output.e_tag.as_ref())?;
        Ok(answer)
    }

    // ── what changes the index ──────────────────────────────────────────────────────────────────────────────────────

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let bucket = req.input.bucket.clone();
        let answer = self.files().create_bucket(req).await?;
        self.index().add_bucket(&bucket);
        Ok(answer)
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let bucket = req.input.bucket.clone();
        let answer = self.files().delete_bucket(req).await?;
        self.index().remove_bucket(&bucket);
        Ok(answer)
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut answer = self.changed(&bucket, &key, self.files().put_object(req).await).await?;
        if key.ends_with('/') {
            // The empty object by which consoles make a folder; s3s-fs makes a directory and lists nothing.
            let stored = Stored::in_memory(Bytes::new());
            answer.output.e_tag = Some(stored.etag.clone());
            self.index().set(&bucket, &key, Some(stored));
        }
        Ok(answer)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.must_be_file(&req.input.copy_source)?;
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.changed(&bucket, &key, self.files().copy_object(req).await).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.changed(&bucket, &key, self.files().complete_multipart_upload(req).await).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.changed(&bucket, &key, self.files().delete_object(req).await).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let bucket = req.input.bucket.clone();
        let keys: Vec<_> = req.input.delete.objects.iter().map(|object| object.key.clone()).collect();
        let mut answer = self.files().delete_objects(req).await;
        for key in &keys {
            answer = self.changed(&bucket, key, answer).await;
        }
        answer
    }

    // ── what s3s-fs does alone ──────────────────────────────────────────────────────────────────────────────────────

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        self.files().list_buckets(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.files().head_bucket(req).await
    }

    async fn get_bucket_location(&self, req: S3Request<GetBucketLocationInput>) -> Answer<GetBucketLocationOutput> {
        self.files().get_bucket_location(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.files().create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.files().upload_part(req).await
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        self.must_be_file(&req.input.copy_source)?;
        self.files().upload_part_copy(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.files().list_parts(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.files().abort_multipart_upload(req).await
    }
}

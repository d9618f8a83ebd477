//! Bodies and checksums.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::Response;

use crate::http::{Body, BoxError};

/// Returns a body that begins with this text and goes on with spaces until the client hangs up.
pub(super) fn endless(begin: &str) -> Body {
    let (mut sender, channel) = Channel::<Bytes, BoxError>::new(1);
    let begin = Bytes::copy_from_slice(begin.as_bytes());
    tokio::spawn(async move {
        let spaces = Bytes::from(vec![b' '; 64 << 10]);
        let mut next = begin;
        while sender.send_data(next).await.is_ok() {
            next = spaces.clone();
        }
    });
    channel.boxed()
}

/// The pause between two bytes of a dripping body.
const DRIP: Duration = Duration::from_millis(400);

/// Returns a body that comes a byte at a time, with pauses.
pub(super) fn dripping(bytes: Bytes) -> Body {
    let (mut sender, channel) = Channel::<Bytes, BoxError>::new(1);
    tokio::spawn(async move {
        for at in 0..bytes.len() {
            if sender.send_data(bytes.slice(at..=at)).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIP).await;
        }
    });
    channel.boxed()
}

/// Returns the body as one whose length is not known before its end.
pub(super) fn of_unknown_length(body: Body) -> Body {
    let (mut sender, channel) = Channel::<Bytes, BoxError>::new(1);
    tokio::spawn(async move {
        if let Ok(body) = body.collect().await {
            let _ = sender.send_data(body.to_bytes()).await;
        }
    });
    channel.boxed()
}

/// Answers a refusal whose body has no end.
pub(super) fn endless_refusal() -> Result<Response<Body>, BoxError> {
    let begin = "<Error><Code>AccessDenied</Code><Message>";
    Ok(Response::builder().status(403).header("content-type", "application/xml").body(endless(begin))?)
}

/// Returns the CRC32 of the bytes as S3's header has it: in base64.
pub(super) fn crc32(bytes: &[u8]) -> String {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    base64((!crc).to_be_bytes())
}

fn base64(bytes: [u8; 4]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u64::from(u32::from_be_bytes(bytes)) << 4;
    let digits = (0..6).rev().map(|place| char::from(DIGITS[(bits >> (6 * place) & 63) as usize]));
    digits.chain("==".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_what_s3_sends() {
        // As in the SDK's own tests.
        assert_eq!(crc32(b"Hello world"), "i9aeUg==");
    }
}

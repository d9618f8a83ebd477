//! Reads of objects.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response};

use super::answer::{crc32, dripping, endless, endless_refusal};
use super::deviation::Deviation;
use super::state::{State, etag_of};
use crate::http::{Body, BoxError, full};
use crate::s3::xml_error;

/// Answers a HEAD or a GET of an object.
pub(super) fn answer(
    state: &State,
    key: &str,
    bytes: &Bytes,
    request: &Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let deviation = state.deviation(key);
    let is_first = state.is_first_read(key);
    match deviation {
        Deviation::Refuses(status, code) => return Ok(xml_error(status, code, "This store refuses.")),
        Deviation::RefusesOnce(status, code) if is_first => return Ok(xml_error(status, code, "This store refuses.")),
        Deviation::EndlessObjectRefusal => return endless_refusal(),
        _ => {}
    }
    let etag = etag_of(bytes);
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let asked_version = request.uri().query().and_then(|query| query.split("versionId=").nth(1));
    let asked_version = asked_version.and_then(|rest| rest.split('&').next());
    if header("if-match").is_some_and(|wanted| wanted.trim_matches('"') != etag)
        || asked_version.is_some_and(|wanted| wanted != version_of(&etag))
    {
        return Ok(xml_error(412, "PreconditionFailed", "The object has changed."));
    }
    let wanted = header("range").filter(|_| deviation != Deviation::IgnoresRange).and_then(parsed);
    let mut response = match wanted {
        Some(wanted) => part(bytes, wanted, deviation)?,
        None => Response::builder().status(200).body(whole(bytes, deviation, is_first))?,
    };
    let headers = response.headers_mut();
    match deviation {
        Deviation::NoEtag => {}
        Deviation::VersionOnly => drop(headers.insert("x-amz-version-id", version_of(&etag).parse()?)),
        Deviation::WeakEtag => drop(headers.insert("etag", format!("W/\"{etag}\"").parse()?)),
        Deviation::StrangeEtag => drop(headers.insert("etag", HeaderValue::from_bytes(b"\"\xc3\xa9\"")?)),
        Deviation::LongEtag => drop(headers.insert("etag", format!("\"{}\"", "e".repeat(300)).parse()?)),
        _ => drop(headers.insert("etag", format!("\"{etag}\"").parse()?)),
    }
    if wanted_checksum(request) {
        let checksum = match deviation {
            Deviation::Checksum | Deviation::FlipsOnce => Some(crc32(bytes)),
            Deviation::WrongChecksum => Some(crc32(b"other bytes")),
            Deviation::CompositeChecksum => Some(format!("{}-2", crc32(b"of two parts"))),
            _ => None,
        };
        checksum.map(|checksum| headers.insert("x-amz-checksum-crc32", checksum.parse().unwrap()));
    }
    if *request.method() == Method::HEAD {
        response.headers_mut().insert("content-length", bytes.len().into());
        *response.body_mut() = full("");
    }
    Ok(response)
}

fn wanted_checksum(request: &Request<Incoming>) -> bool {
    request.headers().get("x-amz-checksum-mode").is_some_and(|mode| mode == "ENABLED")
}

fn version_of(etag: &str) -> String {
    format!("v{etag}")
}

fn whole(bytes: &Bytes, deviation: Deviation, is_first: bool) -> Body {
    match deviation {
        Deviation::EndlessObject => endless("PAR1"),
        Deviation::DrippingObject => dripping(bytes.clone()),
        Deviation::FlipsOnce if is_first => {
            let mut copy = BytesMut::from(&bytes[..]);
            let middle = copy.len() / 2;
            copy[middle] ^= 1;
            full(copy.freeze())
        }
        _ => full(bytes.clone()),
    }
}

/// Answers with a part of an object, or with what the deviation makes of it.
fn part(bytes: &Bytes, wanted: Range<usize>, deviation: Deviation) -> Result<Response<Body>, BoxError> {
    let size = bytes.len();
    if wanted.start >= size {
        return Ok(xml_error(416, "InvalidRange", "The requested range is not satisfiable."));
    }
    let mut given = wanted.start..wanted.end.min(size);
    if deviation == Deviation::ShiftedRange && given.len() > 1 {
        given = given.start + 1..(given.end + 1).min(size);
    }
    let range = match deviation {
        Deviation::NonsenseRange => "bytes 0-99/5".to_owned(),
        Deviation::WrongTotal => format!("bytes {}-{}/{}", given.start, given.end - 1, size + 1),
        _ => format!("bytes {}-{}/{size}", given.start, given.end - 1),
    };
    let body = match deviation {
        Deviation::EndlessObject => endless("PAR1"),
        Deviation::DrippingObject => dripping(bytes.slice(given)),
        _ => full(bytes.slice(given)),
    };
    Ok(Response::builder().status(206).header("content-range", range).body(body)?)
}

/// Parses `bytes=FIRST-LAST`.
fn parsed(range: &str) -> Option<Range<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
}

//! Pages of listings.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::Response;

use super::answer::{dripping, endless, endless_refusal};
use super::deviation::Deviation;
use super::state::{State, etag_of};
use crate::http::{Body, BoxError, full};

/// The keys of one page.
const PAGE: usize = 3;

/// A page before it is written.
#[derive(Debug, Default)]
struct Page {
    /// Key, size and ETag element of each key.
    keys: Vec<(String, String, String)>,
    truncated: bool,
    token: Option<String>,
}

/// Answers a request for a page.
pub(super) fn answer(state: &State, query: &HashMap<String, String>) -> Result<Response<Body>, BoxError> {
    let asked = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let prefix = asked("prefix");
    let deviation = state.deviation(prefix);
    let page = match deviation {
        Deviation::EndlessRefusal => return endless_refusal(),
        Deviation::EndlessListing => return xml(endless("<ListBucketResult>")),
        Deviation::HtmlPage => return xml(full("<html><body>Welcome to the proxy.</body></html>")),
        Deviation::CrowdedPage => {
            let keys = "<Contents/>".repeat(300_000);
            return xml(full(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>")));
        }
        _ => page(state, deviation, prefix, asked("continuation-token"), asked("start-after")),
    };
    let mut text = written(&page, deviation);
    if deviation == Deviation::TornPage {
        text.truncate(text.len() * 2 / 3);
    }
    let is_dripping = deviation == Deviation::DrippingPage;
    xml(if is_dripping { dripping(text.into()) } else { full(text) })
}

/// Makes a page. A token is `empty:` or `keys:` and the key after which its page begins.
fn page(state: &State, deviation: Deviation, prefix: &str, token: &str, start_after: &str) -> Page {
    let start_after = if deviation == Deviation::IgnoresStartAfter { "" } else { start_after };
    let (kind, after) = match token.split_once(':') {
        Some(_) if deviation == Deviation::IgnoresToken => ("keys", ""),
        Some(parts) => parts,
        None => (if deviation == Deviation::EmptyPages { "empty" } else { "keys" }, start_after),
    };
    let next = |kind: &str, after: &str| Page { keys: vec![], truncated: true, token: Some(format!("{kind}:{after}")) };
    match (deviation, kind) {
        (Deviation::SameToken, _) => return next("same", ""),
        (Deviation::EndlessPages, _) => return next("page", &number().to_string()),
        (Deviation::EmptyPages, "empty") => return next("keys", after),
        _ => {}
    }
    let objects = state.objects.lock().unwrap();
    let found: Vec<(&String, &Bytes)> =
        objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after).take(PAGE + 1).collect();
    let truncated = found.len() > PAGE;
    let shown = &found[..found.len().min(PAGE)];
    let following = if deviation == Deviation::EmptyPages { "empty" } else { "keys" };
    let token = match (deviation, shown.last()) {
        (Deviation::NoToken, _) => None,
        (Deviation::IgnoresToken, _) => Some(format!("keys:{}", number())),
        (_, Some((last, _))) if truncated => Some(format!("{following}:{last}")),
        _ => None,
    };
    let keys = shown.iter().map(|(key, bytes)| described(key, bytes, deviation)).collect();
    let mut page = Page { keys, truncated, token };
    match deviation {
        Deviation::Backwards => page.keys.reverse(),
        Deviation::ForeignKey => page.keys.insert(0, described("another/x.parquet", &Bytes::new(), deviation)),
        Deviation::ControlInKey if !truncated => {
            page.keys.push(described(&format!("{prefix}~&#1;.parquet"), &Bytes::new(), deviation));
        }
        Deviation::ZeroInKey => page.keys.insert(0, described(&format!("{prefix}&#0;"), &Bytes::new(), deviation)),
        Deviation::LongKey => {
            let key = format!("{prefix}{}", "0".repeat(2_000));
            page.keys.insert(0, described(&key, &Bytes::new(), deviation));
        }
        _ => {}
    }
    page
}

/// Returns a number that was not returned before.
fn number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::SeqCst)
}

fn described(key: &str, bytes: &Bytes, deviation: Deviation) -> (String, String, String) {
    let size = match deviation {
        Deviation::HugeSize => "<Size>9223372036854775808</Size>".to_owned(),
        Deviation::NegativeSize => "<Size>-1</Size>".to_owned(),
        Deviation::NoSize => String::new(),
        _ => format!("<Size>{}</Size>", bytes.len()),
    };
    let etag = etag_of(bytes);
    let etag = match deviation {
        Deviation::NoListEtag | Deviation::NoEtag | Deviation::VersionOnly => String::new(),
        Deviation::WeakListEtag | Deviation::WeakEtag => format!("<ETag>W/&quot;{etag}&quot;</ETag>"),
        Deviation::ZeroInListEtag => format!("<ETag>&quot;{etag}&#0;&quot;</ETag>"),
        Deviation::LongEtag => format!("<ETag>&quot;{}&quot;</ETag>", "e".repeat(300)),
        _ => format!("<ETag>&quot;{etag}&quot;</ETag>"),
    };
    (key.to_owned(), size, etag)
}

fn written(page: &Page, deviation: Deviation) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>landing</Name>");
    if deviation != Deviation::NoIsTruncated {
        write!(text, "<IsTruncated>{}</IsTruncated>", page.truncated).unwrap();
    }
    if let Some(token) = &page.token {
        write!(text, "<NextContinuationToken>{token}</NextContinuationToken>").unwrap();
    }
    for (key, size, etag) in &page.keys {
        write!(text, "<Contents><Key>{key}</Key>{etag}{size}<StorageClass>STANDARD</StorageClass></Contents>").unwrap();
    }
    text + "</ListBucketResult>"
}

fn xml(body: Body) -> Result<Response<Body>, BoxError> {
    Ok(Response::builder().status(200).header("content-type", "application/xml").body(body)?)
}

//! Listings of the keys under a prefix, page by page, as S3's protocol defines them (ListObjectsV2): within a listing
//! the store's continuation token leads to the next page, and the listing ends when the store says so.
//!
//! A store that does not follow the protocol could hide objects or be listed without end, so every page is checked.

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object;

use super::answer::explain;
use super::body::MAX_KEYS;
use super::client::Connection;
use super::head::{ObjectHead, strong};
use crate::error::{Error, Result};
use crate::model::text::printable;

/// Pages without a key that may follow each other.
const MAX_EMPTY_PAGES: usize = 1_000;
/// The longest continuation token, in bytes. It must fit into a request.
const MAX_TOKEN: usize = 4_096;
/// The longest key, in bytes, as S3 defines it.
const MAX_KEY: usize = 1_024;
/// How much of a text of the store is shown.
const SHOWN: usize = 200;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size and etag.
    pub head: ObjectHead,
}

/// A listing of the keys that begin with a prefix, in the order of the keys.
#[derive(Debug)]
pub struct Listing<'a> {
    connection: &'a Connection,
    bucket: &'a str,
    course: Course<'a>,
}

impl<'a> Listing<'a> {
    /// Prepares a listing of the keys after `after`.
    pub fn new(connection: &'a Connection, bucket: &'a str, prefix: &'a str, after: Option<String>) -> Self {
        Listing { connection, bucket, course: Course { prefix, last: after, token: None, empty_pages: 0 } }
    }

    /// Fetches the next page. Returns its objects, and whether another page follows.
    pub async fn next(&mut self) -> Result<(Vec<ListedObject>, bool)> {
        let Course { prefix, last, token, .. } = &self.course;
        let request = |client: &Client| {
            let list = client.list_objects_v2().bucket(self.bucket).max_keys(MAX_KEYS as i32);
            let list = list.set_prefix((!prefix.is_empty()).then(|| (*prefix).to_owned()));
            let list = match token {
                Some(token) => list.continuation_token(token),
                None => list.set_start_after(last.clone()),
            };
            list.send()
        };
        let answer = self.connection.send(request).await.map_err(|error| {
            match explain(&error, self.connection, self.bucket) {
                Error::BadAnswer { why } => Error::BadListing { why },
                other => other,
            }
        })?;
        self.course.take(answer)
    }

    /// Continues after `key`, which lies behind the keys that were found, instead of with the next page.
    pub fn skip_to(&mut self, key: String) {
        self.course.token = None;
        self.course.last = Some(key);
    }
}

/// Asks for one key of a prefix, which shows whether the prefix can be listed.
pub async fn first_key(connection: &Connection, bucket: &str, prefix: &str) -> Result<()> {
    let request = |client: &Client| {
        let list = client.list_objects_v2().bucket(bucket).max_keys(1);
        list.set_prefix((!prefix.is_empty()).then(|| prefix.to_owned())).send()
    };
    connection.send(request).await.map(drop).map_err(|error| explain(&error, connection, bucket))
}

/// How far a listing is, apart from the connection.
#[derive(Debug, Default)]
struct Course<'a> {
    prefix: &'a str,
    /// The last key that was found, or the one that the listing begins after.
    last: Option<String>,
    /// The token of the next page. Without one, that page is asked for by `last`.
    token: Option<String>,
    /// The pages without a key that came last.
    empty_pages: usize,
}

impl Course<'_> {
    /// Checks a page and goes on behind it. Returns its objects, and whether another page follows.
    fn take(&mut self, mut page: ListObjectsV2Output) -> Result<(Vec<ListedObject>, bool)> {
        let contents = page.contents.take().unwrap_or_default();
        if contents.len() > MAX_KEYS {
            return Err(bad(format!("a page has {} keys, and {MAX_KEYS} were asked for", contents.len())));
        }
        self.empty_pages = if contents.is_empty() { self.empty_pages + 1 } else { 0 };
        let objects: Vec<ListedObject> =
            contents.into_iter().map(|object| self.object(object)).collect::<Result<_>>()?;
        let is_truncated =
            page.is_truncated.ok_or_else(|| bad("a page does not say whether another one follows".into()))?;
        if is_truncated {
            self.advance(page.next_continuation_token)?;
        }
        Ok((objects, is_truncated))
    }

    /// Takes one object, whose key must come after the last one.
    fn object(&mut self, object: Object) -> Result<ListedObject> {
        let key = object.key.ok_or_else(|| bad("an object has no key".into()))?;
        let shown = || printable(&key, SHOWN);
        if key.len() > MAX_KEY {
            return Err(bad(format!("a key has {} bytes, and S3 allows {MAX_KEY}: \"{}\"", key.len(), shown())));
        }
        if key.contains('\0') {
            return Err(bad(format!("a key has a zero byte: \"{}\"", shown())));
        }
        if !key.starts_with(self.prefix) {
            return Err(bad(format!("the key \"{}\" does not begin with the prefix \"{}\"", shown(), self.prefix)));
        }
        if let Some(last) = self.last.as_ref().filter(|last| key <= **last) {
            let last = printable(last, SHOWN);
            return Err(bad(format!("the key \"{}\" does not come after \"{last}\"", shown())));
        }
        let size = object.size.ok_or_else(|| bad(format!("the key \"{}\" has no size", shown())))?;
        let size = u64::try_from(size).map_err(|_| bad(format!("the key \"{}\" has the size {size}", shown())))?;
        let etag = strong(object.e_tag.as_deref()).map_err(|error| match error {
            Error::BadAnswer { why } => bad(format!("the key \"{}\" cannot be told apart: {why}", shown())),
            other => other,
        })?;
        // A listing names no version ids.
        let etag = etag.ok_or_else(|| bad(format!("the key \"{}\" has no strong ETag", shown())))?;
        self.last = Some(key.clone());
        Ok(ListedObject { key, head: ObjectHead { size, etag } })
    }

    fn advance(&mut self, token: Option<String>) -> Result<()> {
        let token = token.filter(|token| !token.is_empty());
        let token =
            token.ok_or_else(|| bad("a page says that another one follows, and gives no token for it".into()))?;
        if token.len() > MAX_TOKEN {
            return Err(bad(format!("a continuation token has {} bytes", token.len())));
        }
        if self.token.as_ref() == Some(&token) {
            return Err(bad(
                "a page leads to itself: its continuation token is the one that it was asked for by".into()
            ));
        }
        if self.empty_pages >= MAX_EMPTY_PAGES {
            return Err(bad(format!("{MAX_EMPTY_PAGES} pages in a row have no key")));
        }
        self.token = Some(token);
        Ok(())
    }
}

fn bad(why: String) -> Error {
    Error::BadListing { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Object {
        Object::builder().key(key).size(1).e_tag("\"abc\"").build()
    }

    fn page(keys: &[&str], token: Option<&str>) -> ListObjectsV2Output {
        let page = ListObjectsV2Output::builder().set_contents(Some(keys.iter().map(|key| object(key)).collect()));
        page.is_truncated(token.is_some()).set_next_continuation_token(token.map(str::to_owned)).build()
    }

    fn course(after: Option<&str>) -> Course<'static> {
        Course { prefix: "p/", last: after.map(str::to_owned), ..Course::default() }
    }

    /// Returns why the last of these pages is refused.
    fn refused(after: Option<&str>, pages: Vec<ListObjectsV2Output>) -> String {
        let mut course = course(after);
        let mut pages = pages.into_iter();
        let last = pages.next_back().unwrap();
        pages.for_each(|page| drop(course.take(page).unwrap()));
        match course.take(last) {
            Err(Error::BadListing { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listing_follows_the_token_and_ends_when_the_store_says_so() {
        let mut course = course(Some("p/a"));
        assert_eq!(course.take(page(&["p/b", "p/c"], Some("1"))).unwrap().0.len(), 2);
        // A page without a key is not the end.
        assert!(course.take(page(&[], Some("2"))).unwrap().1);
        assert_eq!(course.token.as_deref(), Some("2"));
        let (objects, more) = course.take(page(&["p/d"], None)).unwrap();
        assert_eq!((objects[0].key.as_str(), more), ("p/d", false));
        assert_eq!(course.last.as_deref(), Some("p/d"));
    }

    #[test]
    fn a_listing_must_advance() {
        let back = "does not come after";
        assert!(refused(Some("p/b"), vec![page(&["p/a"], None)]).contains(back));
        assert!(refused(Some("p/b"), vec![page(&["p/b"], None)]).contains(back));
        assert!(refused(None, vec![page(&["p/b", "p/a"], None)]).contains(back));
        assert!(refused(None, vec![page(&["p/b"], Some("1")), page(&["p/b"], Some("2"))]).contains(back));
        assert!(refused(None, vec![page(&[], Some("1")), page(&[], Some("1"))]).contains("leads to itself"));
        let endless = (0..=MAX_EMPTY_PAGES).map(|n| page(&[], Some(&n.to_string()))).take(MAX_EMPTY_PAGES).collect();
        assert!(refused(None, endless).contains("pages in a row"));
        let unsaid = ListObjectsV2Output::builder().build();
        assert!(refused(None, vec![unsaid]).contains("does not say"));
        let no_token = ListObjectsV2Output::builder().is_truncated(true).build();
        assert!(refused(None, vec![no_token]).contains("no token"));
        assert!(refused(None, vec![page(&[], Some(&"t".repeat(MAX_TOKEN + 1)))]).contains("token"));
    }

    #[test]
    fn a_page_that_contradicts_the_request_is_refused() {
        let alone = |object| ListObjectsV2Output::builder().contents(object).is_truncated(false).build();
        assert!(refused(None, vec![page(&["q/a"], None)]).contains("does not begin with the prefix"));
        assert!(refused(None, vec![page(&["p/a\0b"], None)]).contains("p/a\\u{0}b"));
        assert!(refused(None, vec![page(&[&format!("p/{}", "k".repeat(MAX_KEY))], None)]).contains("S3 allows"));
        let key = || Object::builder().key("p/a").size(1);
        assert!(refused(None, vec![alone(Object::builder().build())]).contains("no key"));
        assert!(refused(None, vec![alone(key().size(-1).build())]).contains("the size -1"));
        assert!(refused(None, vec![alone(Object::builder().key("p/a").build())]).contains("no size"));
        assert!(refused(None, vec![alone(key().build())]).contains("no strong ETag"));
        assert!(refused(None, vec![alone(key().e_tag("W/\"a\"").build())]).contains("no strong ETag"));
        assert!(refused(None, vec![alone(key().e_tag("\"a\0\"").build())]).contains("a\\u{0}"));
        let keys: Vec<String> = (0..=MAX_KEYS).map(|n| format!("p/{n:05}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert!(refused(None, vec![page(&keys, None)]).contains("1001 keys"));
    }

    #[test]
    fn a_listing_that_skips_goes_on_after_the_key() {
        let mut course = course(None);
        course.take(page(&["p/a"], Some("1"))).unwrap();
        (course.token, course.last) = (None, Some("p/m".into()));
        assert_eq!(course.take(page(&["p/n"], None)).unwrap().0.len(), 1);
        assert!(matches!(course.take(page(&["p/b"], None)), Err(Error::BadListing { .. })));
    }
}

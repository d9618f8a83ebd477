//! Listings of the S3 server.

use super::*;

/// All pages of a listing: keys with what is said of them, groups, and how many pages it took.
fn pages(client: &S3Client, listing: &Listing<'_>) -> (Vec<(String, Head)>, Vec<String>, usize) {
    let (mut objects, mut groups, mut count) = (Vec::new(), Vec::new(), 0);
    let mut token = None;
    loop {
        let page = client.page("landing", &Listing { token: token.as_deref(), ..listing.clone() }).unwrap();
        objects.extend(page.objects);
        groups.extend(page.groups);
        count += 1;
        token = page.next;
        if token.is_none() {
            return (objects, groups, count);
        }
    }
}

fn keys(client: &S3Client, listing: &Listing<'_>) -> Vec<String> {
    pages(client, listing).0.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_listing_carries_etags_and_sizes() {
    let server = server();
    let client = server.client();
    server.put("landing", "a", "one");
    server.put("landing", "a", "three");
    client.copy("landing", "a", "b").unwrap();
    client.put_parts("landing", "c", &[vec![7_u8; 5 << 20].into(), "end".into()]).unwrap();
    server.put("landing", "d/", "");
    server.put_copies("landing", ["d/e".to_owned()].into_iter(), "copy");
    let (objects, ..) = pages(client, &Listing::default());
    let heads = ["a", "b", "c", "d/", "d/e"].map(|key| (key.to_owned(), client.head("landing", key).unwrap()));
    assert_eq!(objects, heads);
    assert_eq!(heads.each_ref().map(|(_, head)| head.size), [5, 5, (5 << 20) + 3, 0, 4]);
    assert!(heads[2].1.etag.ends_with("-2\""), "{heads:?}");
    assert!(client.page("elsewhere", &Listing::default()).unwrap_err().contains("NoSuchBucket"));
}

#[test]
fn two_hundred_thousand_keys_are_listed_page_by_page() {
    let server = server();
    server.put("landing", "a", "before");
    server.put("landing", "z", "behind");
    let key = |n: u32| format!("many/{:03}/{n:06}", n / 1000);
    server.put_copies("landing", (0..200_000).map(key), "0123456789");
    let client = server.client();
    let start = Instant::now();
    let (objects, _, count) = pages(client, &Listing { prefix: "many/", ..Listing::default() });
    // Some seconds, where a walk of all keys for every page would take hours.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!((objects.len(), count), (200_000, 200));
    let head = Head { etag: server.etag("landing", &key(123_456)), size: 10 };
    assert!((0..).zip(&objects).all(|(n, object)| *object == (key(n), head.clone())));
    let (none, groups, count) = pages(client, &Listing { prefix: "many/", delimiter: Some("/"), ..Listing::default() });
    assert_eq!((none.len(), groups.len(), count, groups[199].as_str()), (0, 200, 1, "many/199/"));

    let last = key(199_999);
    assert_eq!(client.get("landing", &last).unwrap(), "0123456789");
    assert_eq!(client.get_range("landing", &last, 2..5).unwrap(), "234");
    assert_eq!(client.get_if_match("landing", &last, &head.etag).unwrap(), "0123456789");
    assert!(client.get_range("landing", &last, 10..11).unwrap_err().contains("InvalidRange"));
    // A copy is the object that a put of the same bytes would make, and can be replaced.
    server.put("landing", "put", "0123456789");
    assert_eq!(server.etag("landing", "put"), head.etag);
    server.put("landing", &last, "new");
    assert_eq!(client.get("landing", &last).unwrap(), "new");
    assert_eq!(client.list("landing", &last).unwrap(), [last]);
}

#[test]
fn a_deleted_key_is_not_listed() {
    let server = server();
    let client = server.client();
    for key in ["a", "b/1", "b/2", "c"] {
        server.put("landing", key, "one");
    }
    server.put_copies("landing", ["b/3".to_owned(), "b/4".to_owned()].into_iter(), "copy");
    server.delete("landing", "a");
    server.delete("landing", "b/3");
    server.delete("landing", "never there");
    assert_eq!(client.list("landing", "").unwrap(), ["b/1", "b/2", "b/4", "c"]);
    assert!(client.get("landing", "b/3").unwrap_err().contains("NoSuchKey"));
    client.delete_all("landing", &["b/1", "b/4", "never there"]).unwrap();
    assert_eq!(client.list("landing", "").unwrap(), ["b/2", "c"]);
}

#[test]
fn a_listing_starts_after_a_key_and_has_no_more_than_max_keys_on_a_page() {
    let server = server();
    let client = server.client();
    for key in ["a", "b", "b/1", "b/2", "ü/1", "x + %41&<>"] {
        server.put_copies("landing", [key.to_owned()].into_iter(), "one");
    }
    let all = Listing::default();
    let sorted = ["a", "b", "b/1", "b/2", "x + %41&<>", "ü/1"];
    assert_eq!(keys(client, &all), sorted);
    // Also after a key that is not there, and before all that a prefix leaves.
    for (start, from) in [("", 0), ("a", 1), ("b/1", 3), ("b/1x", 3), ("c", 4), ("ü/1", 6), ("\u{10ffff}", 6)] {
        assert_eq!(keys(client, &Listing { start_after: Some(start), ..all.clone() }), sorted[from..], "{start}");
    }
    assert_eq!(keys(client, &Listing { start_after: Some("a"), prefix: "b/", ..all.clone() }), sorted[2..4]);
    assert_eq!(keys(client, &Listing { start_after: Some("c"), prefix: "b/", ..all.clone() }), sorted[..0]);
    for size in 1..=7 {
        let listing = Listing { max_keys: Some(size), start_after: Some("a"), ..all.clone() };
        let (objects, _, count) = pages(client, &listing);
        assert_eq!((objects.len(), count), (5, 5_usize.div_ceil(size as usize)), "{size}");
    }
    let none = client.page("landing", &Listing { max_keys: Some(0), ..all.clone() }).unwrap();
    assert_eq!((none.objects.len(), none.next), (0, None));
    // A token is no key.
    assert!(client.page("landing", &Listing { token: Some("b/1"), ..all }).unwrap_err().contains("InvalidArgument"));
}

#[test]
fn keys_with_a_delimiter_are_listed_as_groups_and_never_twice() {
    let server = server();
    let client = server.client();
    let all = ["a", "b/1", "b/2/x", "b/2/y", "b/3", "b0", "c/1", "d"];
    server.put_copies("landing", all.into_iter().map(str::to_owned), "one");
    for max_keys in [None, Some(1), Some(2), Some(3)] {
        let listing = Listing { delimiter: Some("/"), max_keys, ..Listing::default() };
        let (objects, groups, _) = pages(client, &listing);
        assert_eq!(objects.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b0", "d"], "{max_keys:?}");
        assert_eq!(groups, ["b/", "c/"], "{max_keys:?}");
        let (objects, groups, _) = pages(client, &Listing { prefix: "b/", ..listing });
        assert_eq!(objects.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b/1", "b/3"], "{max_keys:?}");
        assert_eq!(groups, ["b/2/"], "{max_keys:?}");
    }
}

#[test]
fn a_server_that_starts_again_lists_the_files_it_finds() {
    let root = tempfile::tempdir().unwrap();
    let listed = |make: bool| {
        let server = S3Server::over(root.path(), 0, "ACCESS", "secret").unwrap();
        if make {
            server.create_bucket("landing");
            server.put("landing", "a/b/c", "one");
            server.put("landing", "d", "three");
            server.client().put_parts("landing", "e", &["parts".into()]).unwrap();
        }
        pages(server.client(), &Listing::default()).0
    };
    let before = listed(true);
    assert_eq!(before.len(), 3);
    assert_eq!(listed(false), before);
}

#[test]
fn a_read_of_another_version_is_refused_unless_if_match_is_ignored() {
    let server = server();
    let user = user(&server.endpoint());
    server.put("landing", "file", "one");
    server.put_copies("landing", ["copy".to_owned()].into_iter(), "one");
    let etag = server.etag("landing", "file");
    for key in ["file", "copy"] {
        assert_eq!(user.get_if_match("landing", key, &etag).unwrap(), "one");
        assert_eq!(user.get_if_match("landing", key, "*").unwrap(), "one");
        user.head_if_match("landing", key, &etag).unwrap();
        let other = "\"0123456789abcdef\"";
        assert!(user.get_if_match("landing", key, other).unwrap_err().contains("PreconditionFailed"));
        user.head_if_match("landing", key, other).unwrap_err();
        server.ignore_if_match(true);
        assert_eq!(user.get_if_match("landing", key, other).unwrap(), "one");
        user.head_if_match("landing", key, other).unwrap();
        server.ignore_if_match(false);
    }
}

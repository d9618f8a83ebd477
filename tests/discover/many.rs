//! A hundred thousand keys under a watched prefix: how long it takes to list them, what memory that takes, and how
//! few requests the next listing needs.

use std::time::{Duration, Instant};

use btc_ingest_kit::ParquetFile;
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::BUCKET;
use btc_ingest_kit::process::{MemoryWatch, memory};
use btc_ingest_kit::rows::{START, ticks};
use btc_ingest_kit::ticks::{BUCKET_US, slice_key, time_us};

use crate::discover_fixture::{DiscoveryFixture, Folder, PATTERN};

const KEYS: i64 = 100_000;
const ASSETS: i64 = 4;
const MOST_MEMORY: u64 = 64 << 20;
const MOST_TIME: Duration = Duration::from_secs(15);

/// Keys of several assets, all of them the same small object, and no worker to load them.
fn site_with_many() -> DiscoveryFixture {
    let fixture = DiscoveryFixture::start(&[("btc_ingest.workers", "0")]);
    let key = |n: i64| {
        let asset = format!("ASSET{}", n % ASSETS);
        slice_key("many/Binance", &asset, time_us(START) - (n / ASSETS) * BUCKET_US)
    };
    fixture.s3.put_copies(BUCKET, (0..KEYS).map(key), ParquetFile::new().bytes(&ticks(1, 1)));
    fixture
}

/// Returns the start-after of every listing so far that has one, decoded as far as keys need it.
fn starts(fixture: &DiscoveryFixture) -> Vec<Option<String>> {
    let lists = fixture.proxy.requests().into_iter().filter(|seen| seen.path.contains("list-type"));
    let start = |path: &str| {
        let text = path.split(['?', '&']).find_map(|part| part.strip_prefix("start-after="))?;
        Some(text.replace("%2F", "/"))
    };
    lists.map(|seen| start(&seen.path)).collect()
}

fn registered(folder: &mut Folder<'_>) -> String {
    folder
        .text("SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE status = 'pending')) FROM ingestion.objects", &[])
}

#[test]
fn a_hundred_thousand_keys_are_registered_by_the_worker_and_only_new_ones_are_listed_afterwards() {
    let fixture = site_with_many();
    let mut folder = fixture.folder();
    let pattern = format!("s3://{BUCKET}/many/{PATTERN}");
    let pid = fixture.scheduler();
    let before = memory(pid).unwrap().total();
    let watch = MemoryWatch::start(pid);
    let began = Instant::now();
    folder.watch(&pattern, r#"{"interval": "2 s", "full_interval": "1 day"}"#);
    btc_ingest_kit::wait_until("the first listing", Duration::from_secs(120), || {
        folder.watched(&pattern, "last_full_at IS NOT NULL") == "t"
    });
    let took = began.elapsed();
    let grown = watch.peak().total().saturating_sub(before);
    println!("the worker registered {KEYS} keys in {took:?}, its memory grew by {} MB", grown >> 20);
    assert_eq!(registered(&mut folder), format!("{KEYS} {KEYS}"));
    assert!(took < MOST_TIME, "{took:?}");
    assert!(grown < MOST_MEMORY, "{grown}");
    assert_eq!(starts(&fixture).len() as i64, KEYS / 1000);

    // Later listings jump from asset to asset, and read only the last pages.
    let moments: Vec<_> = (0..ASSETS)
        .map(|n| {
            let key = slice_key("many/Binance", &format!("ASSET{n}"), time_us(START));
            Some(key.trim_end_matches("Z.parquet").to_owned())
        })
        .collect();
    fixture.proxy.forget();
    folder.wait_for_listings(&pattern, 1);
    let found = starts(&fixture);
    assert_eq!(found[..=ASSETS as usize], [vec![None], moments].concat(), "{found:#?}");
    let new = slice_key("many/Binance", "ASSET2", time_us(START) + BUCKET_US);
    fixture.s3.put(BUCKET, &new, ParquetFile::new().bytes(&ticks(1, 1)));
    folder.wait_for(&format!("s3://{BUCKET}/{new}"), "pending");
}

#[test]
fn a_hundred_thousand_keys_are_registered_by_a_session_and_known_the_next_time() {
    let fixture = site_with_many();
    let mut folder = fixture.folder();
    // Without times in the pattern: everything is listed every time.
    let prefix = format!("s3://{BUCKET}/many/");
    let pid = backend_pid(&mut folder.client);
    let before = memory(pid).unwrap().total();
    for (what, counts) in
        [("registered", format!("{KEYS} {KEYS} 0 0 0 0")), ("known", format!("{KEYS} 0 0 {KEYS} 0 0"))]
    {
        let watch = MemoryWatch::start(pid);
        let began = Instant::now();
        assert_eq!(folder.discover(&prefix), counts);
        let (took, grown) = (began.elapsed(), watch.peak().total().saturating_sub(before));
        println!("a session: {KEYS} keys {what} in {took:?}, its memory grew by {} MB", grown >> 20);
        assert!(took < MOST_TIME, "{took:?}");
        assert!(grown < MOST_MEMORY, "{grown}");
    }
}

//! A store that trickles: it holds up one attempt for a bounded time, and nothing else.

use std::sync::OnceLock;
use std::time::Instant;

use btc_ingest_kit::Deviation;
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::backfill::call;
use btc_ingest_kit::fixture::load;
use btc_ingest_kit::sql::{text, wait_until_true_within};

use super::hostile_fixture::{DATABASE, Folder, HostileFixture, Listed, OBJECTS, SOON, checked};
use super::*;

/// A cluster that is patient for a second.
fn shared() -> &'static HostileFixture {
    static SHARED: OnceLock<HostileFixture> = OnceLock::new();
    SHARED.get_or_init(|| HostileFixture::start(&[("btc_ingest.s3_read_timeout", "1s")]))
}

fn register(client: &mut Client, folder: &Folder) {
    let sql = "SELECT registered_new FROM btc_ingest.discover($1)";
    assert_eq!(client.query_one(sql, &[&folder.prefix()]).unwrap().get::<_, i64>(0), OBJECTS as i64);
}

#[test]
fn a_body_that_trickles_is_an_error_by_hand_also_if_all_of_its_bytes_come_in_time() {
    let fixture = shared();
    fixture.within_memory(|| {
        let db = TestDb::with_extension(&fixture.cluster);
        let folder = fixture.folder("hand", 0, Deviation::DrippingObject);
        let mut client = db.client();
        let began = Instant::now();
        let refusal = load(&mut client, &folder.uris[0], "").map_err(Refusal::from).unwrap_err();
        assert_eq!(checked(&refusal), "S3023", "{refusal:?}");
        assert!(refusal.hint.contains("s3_min_speed"), "{refusal:?}");
        // Two attempts of a second each, and the pause between them.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        folder.must_hold(&mut client, "trickling", false);
    });
}

#[test]
fn bodies_that_trickle_hold_up_neither_loader_for_long_and_are_counted() {
    let fixture = shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        let slow = fixture.folder("live", 0, Deviation::DrippingObject);
        let good = fixture.folder("live", 1, Deviation::None);
        register(&mut client, &slow);
        register(&mut client, &good);
        let is = |folder: &Folder, status: &str| {
            format!(
                "SELECT count(*) = {OBJECTS} FROM ingestion.objects
              WHERE starts_with(s3_uri, '{}') AND status = '{status}'",
                folder.prefix()
            )
        };
        wait_until_true_within(&mut client, "the good ones", SOON, &is(&good, "loaded"));
        wait_until_true_within(&mut client, "the slow ones", SOON, &is(&slow, "quarantined"));
        slow.must_be(&mut client, "slow", Listed::Quarantined("S3023"));
        good.must_be(&mut client, "good", Listed::Loaded);
        let attempts =
            format!("SELECT min(attempts) FROM ingestion.objects WHERE starts_with(s3_uri, '{}')", slow.prefix());
        assert_eq!(client.query_one(&attempts, &[]).unwrap().get::<_, i32>(0), 2);
    });
}

#[test]
fn a_backfill_counts_objects_that_trickle_and_ends() {
    let fixture = shared();
    fixture.within_memory(|| {
        let db = TestDb::with_extension(&fixture.cluster);
        let folder = fixture.folder("filled", 0, Deviation::DrippingObject);
        let called = call(&db.connection_string(), &[folder.prefix()], "");
        assert!(called.refusal.is_none(), "{called:#?}");
        folder.must_be(&mut db.client(), "a backfill", Listed::Quarantined("S3023"));
    });
}

#[test]
fn a_page_that_trickles_ends_the_listing_of_discover_and_of_a_watch() {
    let fixture = shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        let folder = fixture.folder("pages", 0, Deviation::DrippingPage);
        let sql = "SELECT registered_new FROM btc_ingest.discover($1)";
        let refusal = client.query_one(sql, &[&folder.prefix()]).map_err(Refusal::from).unwrap_err();
        assert_eq!(checked(&refusal), "S3008", "{refusal:?}");

        client.query_one(r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#, &[&folder.prefix()]).unwrap();
        let of_the_watch = format!("FROM btc_ingest.watches WHERE prefix = '{}'", folder.prefix());
        let ended = format!("SELECT last_listed_at IS NOT NULL {of_the_watch}");
        wait_until_true_within(&mut client, "the end of the listing", SOON, &ended);
        assert_eq!(text(&mut client, &format!("SELECT sqlstate {of_the_watch}")), "S3008");
    });
}

#[test]
fn listings_that_take_long_give_their_places_to_others_and_find_everything() {
    let fixture = shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        // As many as run at the same time, each with twenty pages of half a second.
        let slow: Vec<String> = (0..4).map(|number| format!("long{number}")).collect();
        let watch = |client: &mut Client, folder: &str| {
            let prefix = format!("s3://{BUCKET}/{folder}/");
            client.query_one(r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#, &[&prefix]).unwrap();
        };
        for folder in &slow {
            fixture.store.deviate(folder, Deviation::SlowPages);
            (0..60).for_each(|n| fixture.store.put(&format!("{folder}/{n:02}.parquet"), &b"no ticks"[..]));
            watch(&mut client, folder);
        }
        let listed = |folder: &str| format!("FROM btc_ingest.watches WHERE prefix = 's3://{BUCKET}/{folder}/'");
        let good = fixture.folder("short", 0, Deviation::None);
        client.query_one(r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#, &[&good.prefix()]).unwrap();
        let ended = format!("SELECT last_listed_at IS NOT NULL {}", listed("short0"));
        wait_until_true_within(&mut client, "the short listing", SOON, &ended);
        let unfinished = format!(
            "SELECT count(*) FROM btc_ingest.watches WHERE prefix LIKE 's3://{BUCKET}/long%' AND last_listed_at IS NULL"
        );
        assert_ne!(client.query_one(&unfinished, &[]).unwrap().get::<_, i64>(0), 0, "it waited for the long ones");
        for folder in &slow {
            let ended = format!("SELECT last_listed_at IS NOT NULL {}", listed(folder));
            wait_until_true_within(&mut client, "a long listing", 2 * SOON, &ended);
            assert_eq!(text(&mut client, &format!("SELECT coalesce(sqlstate, 'none') {}", listed(folder))), "none");
            let found = format!("SELECT count(*) FROM ingestion.objects WHERE s3_uri LIKE 's3://{BUCKET}/{folder}/%'");
            assert_eq!(client.query_one(&found, &[]).unwrap().get::<_, i64>(0), 60, "{folder}");
        }
    });
}

#[test]
fn doctor_names_a_load_that_does_not_move() {
    let fixture = shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        let folder = fixture.folder("named", 0, Deviation::DrippingObject);
        let mut other = fixture.cluster.client(DATABASE);
        let (pid, uri) = (backend_pid(&mut other), folder.uris[0].clone());
        let loading = std::thread::spawn(move || {
            other.batch_execute("SET btc_ingest.s3_min_speed = 0").unwrap();
            load(&mut other, &uri, "").map_err(Refusal::from).unwrap_err().sqlstate
        });
        let found = "SELECT NOT ok AND detail LIKE '%load of ' || $1 || ' by process ' || $2 || '%' AND hint <> ''
                   FROM btc_ingest.doctor() WHERE name = 'loads and listings'";
        let args: [&(dyn postgres::types::ToSql + Sync); 2] = [&folder.uris[0], &pid.to_string()];
        let deadline = Instant::now() + SOON;
        while !client.query_one(found, &args).unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "doctor() does not name the load");
        }
        client.execute(&format!("SELECT pg_cancel_backend({pid})"), &[]).unwrap();
        assert_eq!(loading.join().unwrap(), "57014");
    });
}

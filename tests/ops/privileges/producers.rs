//! What a producer, who is a loader, may do to the registry and to backfills.

use btc_ingest_kit::sql::{execute, text};

use super::*;

const UPSERT: &str = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, metadata)
    VALUES ('2024-08-08T12:00:00Z', 'A', 's3://landing/a', 1, '{}')
    ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri, metadata = excluded.metadata";

#[test]
fn a_producer_writes_its_own_columns_only() {
    let db = ServerFixture::shared().db();
    let mut loader = db.client_as(&user(&db, "producer", &["btc_ingest_loader"]));
    execute(&mut loader, UPSERT);
    execute(&mut db.client(), "UPDATE landing.raw_blobs_5m SET status = 'loaded', loaded_at = now()");
    execute(&mut loader, UPSERT);
    let row = "SELECT concat_ws(' ', status, loaded_at, queued_at) FROM landing.raw_blobs_5m";
    assert_eq!(text(&mut loader, row), "pending");
    execute(&mut loader, "UPDATE landing.raw_blobs_5m SET ingested_tick_span = NULL, created_at = now()");
    for column in ["status", "loaded_at", "queued_at", "registered_at"] {
        denied(&mut loader, &format!("UPDATE landing.raw_blobs_5m SET {column} = DEFAULT"));
        denied(
            &mut loader,
            &format!(
                "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, {column})
                 VALUES ('2024-08-08T12:00:00Z', 'B', 's3://landing/b', DEFAULT)"
            ),
        );
    }
    // A later migrate() leaves it so.
    execute(&mut db.client(), "GRANT UPDATE ON landing.raw_blobs_5m TO btc_ingest_loader; SELECT btc_ingest.migrate()");
    denied(&mut loader, "UPDATE landing.raw_blobs_5m SET status = 'loaded'");
}

#[test]
fn a_producer_locks_no_table() {
    let db = ServerFixture::shared().db();
    let mut loader = db.client_as(&user(&db, "producer", &["btc_ingest_loader"]));
    for table in TABLES {
        for mode in ["ACCESS EXCLUSIVE", "SHARE", "ROW EXCLUSIVE"] {
            denied(&mut loader, &format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"));
            loader.batch_execute("ROLLBACK").unwrap();
        }
    }
}

#[test]
fn a_loader_cancels_its_own_backfill_and_no_other() {
    let db = ServerFixture::shared().db();
    let [ann, bob] = ["ann", "bob"].map(|name| user(&db, name, &["btc_ingest_loader"]));
    let boss = user(&db, "boss", &["btc_ingest_admin"]);
    let begin = |user: &str| {
        let mut client = db.client_as(user);
        let prefix = format!("ARRAY['s3://landing/{user}/']");
        let sql =
            format!("SELECT backfill::text FROM btc_ingest_internal.start_backfill({prefix}, NULL, NULL, 1, 'object')");
        text(&mut client, &sql)
    };
    let cancel = |user: &str, id: &str| {
        let mut client = db.client_as(user);
        let row = client.query_one(&format!("SELECT btc_ingest.cancel_backfill({id})"), &[]);
        row.map(|row| row.get::<_, String>(0)).map_err(Refusal::from)
    };
    let (of_ann, of_bob) = (begin(&ann), begin(&bob));
    let refusal = cancel(&bob, &of_ann).unwrap_err();
    assert_eq!(refusal.sqlstate, "TK020", "{refusal:?}");
    assert!(refusal.message.contains(&ann), "{refusal:?}");
    assert_eq!(
        text(&mut db.client(), &format!("SELECT status FROM ingestion.backfills WHERE id = {of_ann}")),
        "pending"
    );
    assert!(cancel(&ann, &of_ann).unwrap().contains("is cancelled"));
    assert!(cancel(&boss, &of_bob).unwrap().contains("is cancelled"));
}

#[test]
fn a_backfill_takes_no_more_workers_than_the_setting_allows() {
    let db = ServerFixture::shared().db();
    let mut loader = db.client_as(&user(&db, "producer", &["btc_ingest_loader"]));
    let call = |parallel: i32| format!("CALL btc_ingest.backfill(ARRAY['s3://landing/none/'], parallel => {parallel})");
    let refusal = Refusal::from(loader.batch_execute(&call(5)).unwrap_err());
    assert_eq!(refusal.sqlstate, "TK013", "{refusal:?}");
    assert!(refusal.message.contains("btc_ingest.max_backfill_workers is 4"), "{refusal:?}");
    loader.batch_execute("SET btc_ingest.max_backfill_workers = 64").unwrap_err();
    loader.batch_execute(&call(4)).unwrap();
}

//! Who may change which setting.

use super::*;

#[test]
fn settings_that_reach_the_network_or_take_memory_are_the_superusers() {
    let db = ServerFixture::shared().db();
    let mut loader = db.client_as(&user(&db, "setter", &["btc_ingest_loader"]));
    // Loads the library.
    refused(&mut loader, "", "", "S3001");
    let sql = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND context = 'superuser' ORDER BY 1";
    let closed = column(&mut loader, sql);
    assert_eq!(
        closed,
        [
            "btc_ingest.allowed_prefixes",
            "btc_ingest.aws_profile",
            "btc_ingest.chunk_time_interval",
            "btc_ingest.embed_on_load",
            "btc_ingest.log_loads",
            "btc_ingest.max_object_size",
            "btc_ingest.memory_limit",
            "btc_ingest.retention_proof",
            "btc_ingest.s3_ca_file",
            "btc_ingest.s3_connect_timeout",
            "btc_ingest.s3_endpoint",
            "btc_ingest.s3_force_path_style",
            "btc_ingest.s3_idle_timeout",
            "btc_ingest.s3_max_attempts",
            "btc_ingest.s3_min_speed",
            "btc_ingest.s3_read_timeout",
            "btc_ingest.s3_region",
        ]
    );
    for name in &closed {
        denied(&mut loader, &format!("SET {name} TO DEFAULT"));
        denied(&mut loader, &format!("SELECT set_config('{name}', '1', false)"));
    }
    let error = loader.batch_execute("SET btc_ingest.memory_limt = '1GB'").unwrap_err();
    assert_eq!(Refusal::from(error).sqlstate, "42602", "a misspelt name");
    // Only the configuration can set what workers read: no session can.
    let sql = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND context NOT IN ('user', 'superuser')
                ORDER BY 1";
    let names = [
        "database",
        "embedding_index_upkeep",
        "history_retention",
        "max_attempts",
        "max_backfill_workers",
        "poll_interval",
        "queue_order",
        "retry_backoff",
        "retry_backoff_max",
        "workers",
    ]
    .map(|name| format!("btc_ingest.{name}"));
    assert_eq!(column(&mut loader, sql), names);
    for name in names {
        let error = loader.batch_execute(&format!("SET {name} TO DEFAULT")).unwrap_err();
        assert_eq!(Refusal::from(error).sqlstate, "55P02", "{name}");
    }
    loader.batch_execute("SET btc_ingest.max_kept_rejects = 5; SET btc_ingest.max_conflict_fraction = 0.5").unwrap();
}

#[test]
fn what_was_set_before_the_library_was_loaded_does_not_count() {
    let server = ServerFixture::shared();
    let db = server.db();
    let silence = SilentEndpoint::new();
    let (uri, _) = object("placeholder");
    let loader = user(&db, "early", &["btc_ingest_loader"]);
    let attack = |client: &mut Client| {
        let refusal = refused(client, "s3://elsewhere/x.parquet", "", "S3002");
        assert_eq!(refusal.detail, format!("Allowed are: s3://{BUCKET}."));
        // Uses the server's own endpoint.
        loaded(client, &uri, "force => true");
        let sql = "SELECT current_setting('btc_ingest.memory_limit') = '64MB'";
        assert!(truth(client, sql));
    };

    let mut client = db.client_as(&loader);
    let early = format!(
        "SET btc_ingest.allowed_prefixes = 's3://elsewhere'; SET btc_ingest.s3_endpoint = '{}';
         SET btc_ingest.memory_limit = '1TB'",
        silence.endpoint()
    );
    client.batch_execute(&early).unwrap();
    assert!(truth(&mut client, "SELECT current_setting('btc_ingest.allowed_prefixes') = 's3://elsewhere'"));
    attack(&mut client);

    // The same holds within the transaction that loads, and for the connection's options.
    let mut client = db.client_as(&loader);
    client.batch_execute("BEGIN; SET LOCAL btc_ingest.allowed_prefixes = 's3://elsewhere'").unwrap();
    refused(&mut client, "s3://elsewhere/x.parquet", "", "S3002");
    let options = format!(
        "{} options='-c btc_ingest.allowed_prefixes=s3://elsewhere -c btc_ingest.s3_endpoint={}'",
        server.cluster.connection_string_as(db.name(), &loader),
        silence.endpoint()
    );
    // PostgreSQL drops the file's value of a setting that the connection's options name: the session is allowed less.
    let mut client = Client::connect(&options, postgres::NoTls).unwrap();
    refused(&mut client, "s3://elsewhere/x.parquet", "", "S3002");

    // Nor may the role keep it for its next sessions.
    let mut client = db.client_as(&loader);
    denied(&mut client, &format!("ALTER ROLE {loader} SET btc_ingest.allowed_prefixes = 's3://elsewhere'"));
    attack(&mut db.client_as(&loader));
    silence.must_be_unused();
}

#[test]
fn a_loaders_session_cannot_bend_what_is_stored() {
    let db = ServerFixture::shared().db();
    let (uri, sums) = object("bent");
    let mut loader = db.client_as(&user(&db, "bender", &["btc_ingest_loader"]));
    loader
        .batch_execute(
            "SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard';
             SET search_path = pg_temp; SET extra_float_digits = -15; SET row_security = off;
             SET default_transaction_isolation = 'serializable';
             CREATE TEMP TABLE incoming_ticks (bucket_5m timestamptz, symbol text, trade_id bigint, price numeric);
             INSERT INTO incoming_ticks VALUES (now(), 'FORGED', 1, 1);
             CREATE TEMP TABLE btc_ticks (LIKE incoming_ticks);
             CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$",
        )
        .unwrap();
    loaded(&mut loader, &uri, "");
    stored(&mut db.client()).must_be(&sums, "from a bent session");
    let sql = "SELECT bool_and(bucket_5m = date_bin('5 minutes', event_time, 'epoch') AND symbol = 'BTCUSDT'
                               AND ingested_at > now() - interval '1 hour') FROM market_data.btc_ticks";
    assert!(truth(&mut db.client(), sql));
}

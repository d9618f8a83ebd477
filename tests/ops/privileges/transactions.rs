//! Loads in the transactions of other roles, and as jobs of TimescaleDB.

use super::*;

#[test]
fn a_read_only_transaction_is_refused_before_s3_is_asked() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mut client = silent_session(&silence, &db);
    for begin in ["BEGIN READ ONLY", "BEGIN; SET TRANSACTION READ ONLY"] {
        client.batch_execute(begin).unwrap();
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "25006");
        assert!(refusal.message.contains("read-only"), "{refusal:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    silence.must_be_unused();
}

#[test]
fn a_load_while_timescaledb_restores_is_refused_before_s3_is_asked() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mut client = silent_session(&silence, &db);
    client.batch_execute("SET timescaledb.restoring = on").unwrap();
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "TK007");
    assert!(refusal.hint.contains("timescaledb_post_restore()"), "{refusal:?}");
    client.batch_execute("SET timescaledb.restoring = off; SELECT timescaledb_pre_restore()").unwrap();
    refused(&mut silent_session(&silence, &db), "s3://landing/x.parquet", "", "TK007");
    silence.must_be_unused();

    client.batch_execute("SELECT timescaledb_post_restore()").unwrap();
    let (uri, sums) = object("restored");
    loaded(&mut db.client(), &uri, "");
    stored(&mut db.client()).must_be(&sums, "after the restore");
}

#[test]
fn no_load_makes_the_root_of_the_hypertable_grow() {
    let db = ServerFixture::shared().db();
    let proxy = FaultProxy::before(&ServerFixture::shared().s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    let size = "SELECT pg_relation_size('market_data.btc_ticks') + pg_relation_size('market_data.btc_ticks', 'fsm')";
    let mut root = || client.query_one(size, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(root(), 0);
    let (uri, sums) = object("root");
    for args in ["", "force => true", r#"options => '{"symbol": "OTHER"}'"#] {
        loaded(&mut client, &uri, args);
        assert_eq!(client.query_one(size, &[]).unwrap().get::<_, i64>(0), 0, "{args}");
    }
    let rows: i64 = client.query_one("SELECT count(*) FROM market_data.btc_ticks", &[]).unwrap().get(0);
    assert_eq!(rows as u64, 2 * sums.rows);
}

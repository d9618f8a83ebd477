//! Slices of trades that an exchange really sent, registered in any order and loaded by workers.

use btc_ingest_kit::fixture::{BUCKET, server};
use btc_ingest_kit::real_files::{RealFile, must_hold_wholes, test_data};
use btc_ingest_kit::ticks::{Random, bucket_of};

use crate::outage_fixture::{builder, client, start, upsert, wait_until_loaded};

#[test]
fn real_slices_registered_in_any_order_end_with_the_sums_of_the_whole() {
    let Some(data) = test_data() else { return };
    let (wholes, parts): (Vec<_>, Vec<_>) = RealFile::all(&data).into_iter().partition(RealFile::is_whole);
    let s3 = server();
    let cluster = start(builder(&s3.endpoint()));
    let mut client = client(&cluster);
    for (name, order) in orders(&parts) {
        let mut producer = cluster.client(crate::outage_fixture::DATABASE);
        for part in &order {
            let uri = s3.put(BUCKET, &format!("{name}/{}", part.name()), part.bytes());
            upsert(&mut producer, bucket_of(part.number("min_trade_time") * 1000), part.symbol(), &uri);
        }
        wait_until_loaded(&mut client, parts.len());
        must_hold_wholes(&mut client, &wholes, &name);
        client
            .batch_execute(
                "TRUNCATE market_data.btc_ticks, landing.raw_blobs_5m, ingestion.objects, ingestion.object_slices",
            )
            .unwrap();
    }
}

fn orders(parts: &[RealFile]) -> Vec<(String, Vec<RealFile>)> {
    let mut forward = parts.to_vec();
    forward.sort_by_key(|part| part.number("min_trade_time"));
    let backward = forward.iter().rev().cloned().collect();
    let mut orders = vec![("forward".to_owned(), forward.clone()), ("backward".to_owned(), backward)];
    for seed in 1..=2 {
        let (mut random, mut order) = (Random(seed), forward.clone());
        order.sort_by_cached_key(|_| random.bits());
        orders.push((format!("random-{seed}"), order));
    }
    orders
}

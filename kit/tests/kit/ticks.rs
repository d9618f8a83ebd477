//! Generated ticks as Parquet.

use super::*;

#[test]
fn sums_are_what_postgresql_computes() {
    let db = TestDb::new(cluster());
    let ticks = Generator::new(3, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slice();
    let mut client = db.client();
    client.batch_execute("CREATE TABLE t (id bigint, price numeric(18,8), quantity numeric(24,12))").unwrap();
    let mut copy = client.copy_in("COPY t FROM STDIN").unwrap();
    for tick in &ticks {
        use btc_ingest_kit::ticks::decimal_text;
        use std::io::Write;
        let (price, quantity) = (decimal_text(tick.price.into(), 8, 8), decimal_text(tick.quantity, 12, 8));
        writeln!(copy, "{}\t{price}\t{quantity}", tick.trade_id).unwrap();
    }
    copy.finish().unwrap();
    let row = client.query_one("SELECT count(*), min(id), max(id), sum(price * quantity)::text FROM t", &[]).unwrap();
    let sums = Sums::of(&ticks);
    assert_eq!(row.get::<_, i64>(0) as u64, sums.rows);
    assert_eq!((row.get(1), row.get(2)), (sums.first_id, sums.last_id));
    assert_eq!(row.get::<_, String>(3), sums.amount_text());
}

#[test]
fn every_physical_shape_is_written_and_read_again() {
    let ticks = Generator::new(4, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slice();
    let usual = ParquetFile::new();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let shapes = [
        usual.clone(),
        usual.clone().v2().plain().codec(Compression::UNCOMPRESSED),
        usual.clone().codec(Compression::ZSTD(Default::default())).row_group_rows(1000).page_rows(100),
        usual.clone().codec(Compression::LZ4_RAW).text(dictionary).without_statistics(),
        usual.clone().time(Time::Stamp(TimeUnit::Millisecond, false)).number(Number::Decimal(38, 18)),
        usual.clone().time(Time::Stamp(TimeUnit::Nanosecond, true)).price(Number::Decimal(18, 8)),
        usual.clone().time(Time::Stamp(TimeUnit::Second, true)).quantity(Number::Wide(60, 12)),
        usual.clone().time(Time::Int(TimeUnit::Millisecond)).number(Number::Double).order_id(Id::Null),
        usual.clone().time(Time::Text).order_id(Id::Text).text(DataType::LargeUtf8).without_arrow_schema(),
        usual.clone().without("trade_time").rename("price", "p").null("quantity", &[3]).order(&["p", "symbol"]),
    ];
    for shape in shapes {
        let bytes = shape.bytes(&ticks);
        assert_eq!(bytes, shape.bytes(&ticks), "writing is deterministic");
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(1 << 20).build().unwrap();
        let read: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|batch| batch.num_rows()).sum::<usize>(), ticks.len());
        let written = shape.batch(&ticks);
        assert_eq!(read[0].num_columns(), written.num_columns());
        if read.len() == 1 && read[0].schema().fields() == written.schema().fields() {
            assert_eq!(read[0].columns(), written.columns());
        }
    }
}

//! `prices_at`, `markouts` and `bars`.

use btc_ingest_kit::rows::{but, ticks, ticks_of};
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{Random, time_us};

use crate::answers_fixture::{AnswersFixture, NOON, generated};

/// What a probe per time finds. `$times` is an array.
fn probed(times: &str, tolerance: &str) -> String {
    format!(
        "SELECT concat_ws('|', q.at, t.event_time, t.trade_id, t.price, q.at - t.event_time)
           FROM unnest({times}) AS q (at)
           LEFT JOIN LATERAL (SELECT * FROM market_data.btc_ticks t
                               WHERE t.symbol = 'BTCUSDT' AND t.event_time <= q.at AND t.price IS NOT NULL
                                 {tolerance}
                               ORDER BY t.event_time DESC, t.trade_id DESC LIMIT 1) AS t ON true
          ORDER BY q.at"
    )
}

/// Compares lines, and shows those that differ first.
#[track_caller]
fn must_be(found: &[String], wanted: &[String]) {
    let differing: Vec<_> = found.iter().zip(wanted).filter(|(found, wanted)| found != wanted).take(3).collect();
    assert!(differing.is_empty() && found.len() == wanted.len(), "{} of {}: {differing:#?}", found.len(), wanted.len());
}

#[test]
fn prices_are_those_that_a_probe_per_time_finds() {
    let mut fixture = AnswersFixture::new();
    let all = generated("BTCUSDT", 5, 6);
    fixture.load("btc", &all);
    fixture.load("eth", &ticks_of("ETHUSDT", 1, 50));
    // A tick far before, one without a price, and a bucket without ticks.
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price)
         VALUES ('2024-07-01Z', '2024-07-01Z', 'BTCUSDT', 1, 5), ('2024-08-08 12:10Z', '2024-08-08 12:10:00.5Z',
                 'BTCUSDT', 2, NULL);
         DELETE FROM market_data.btc_ticks WHERE bucket_5m = '2024-08-08 12:15Z'",
    );
    // Times of trades, times between trades, the same time twice, and times far from any trade, in no order.
    let mut random = Random(7);
    let start = time_us(NOON);
    let mut times: Vec<i64> = (0..500).map(|_| start - 60_000_000 + random.below(2_000_000_000) as i64).collect();
    times.extend(all.iter().step_by(17).map(|tick| tick.event_time_us));
    times.extend([start - 90_000_000_000, start + 90_000_000_000, times[0], times[0]]);
    times.extend((0..5).map(|n| start - 4_000_000_000_000 + n * 400_000_000));
    let list: Vec<String> = times.iter().map(ToString::to_string).collect();
    let times = format!(
        "ARRAY(SELECT 'epoch'::timestamptz + us * interval '1 microsecond' FROM unnest('{{{}}}'::bigint[]) AS us)",
        list.join(",")
    );
    let shown = "SELECT concat_ws('|', at, event_time, trade_id, price, age) FROM btc_ingest.prices_at('BTCUSDT',";
    let found = fixture.texts(&format!("{shown} {times})"));
    assert_eq!(found.len(), list.len());
    let wanted = fixture.texts(&probed(&times, ""));
    must_be(&found, &wanted);
    let found = fixture.texts(&format!("{shown} {times}, '700 milliseconds')"));
    let wanted = fixture.texts(&probed(&times, "AND t.event_time >= q.at - interval '700 milliseconds'"));
    must_be(&found, &wanted);
    let answered = |lines: &[String]| lines.iter().filter(|line| line.contains('|')).count();
    assert!((50..found.len() - 50).contains(&answered(&found)), "{}", answered(&found));
}

#[test]
fn of_trades_at_one_time_the_one_with_the_highest_id_counts() {
    let mut fixture = AnswersFixture::new();
    let mut some = ticks(1, 6);
    for place in 2..5 {
        some[place].event_time_us = some[2].event_time_us;
    }
    some.swap(2, 4);
    fixture.load("a", &some);
    let at = |seconds: &str| {
        format!(
            "SELECT string_agg(coalesce(trade_id::text, 'null'), ' ' ORDER BY at) FROM btc_ingest.prices_at('BTCUSDT',
                 ARRAY['2024-08-08 12:00:00Z', '2024-08-08 12:00:{seconds}Z', 'infinity', '-infinity']::timestamptz[])"
        )
    };
    assert_eq!(fixture.text(&at("02.000001")), "null null 5 6");
    assert_eq!(fixture.text(&at("02")), "null null 2 6");
    let none = "SELECT count(*) FROM btc_ingest.prices_at('BTCUSDT', '{}')";
    assert_eq!(fixture.number(none), 0);
}

#[test]
fn markouts_are_the_prices_after_each_trade_as_far_as_the_ticks_reach() {
    let mut fixture = AnswersFixture::new();
    fixture.load("btc", &generated("BTCUSDT", 8, 2));
    let asked = "'2024-08-08 12:02Z', '2024-08-08 12:08Z',
                 ARRAY['1 second', '250 milliseconds', '1 minute', '10 minutes']::interval[]";
    let found = fixture.texts(&format!(
        "SELECT concat_ws('|', event_time, trade_id, price, quantity, is_market_maker, horizon, later_price)
           FROM btc_ingest.markouts('BTCUSDT', {asked})"
    ));
    let wanted = fixture.texts(
        "SELECT concat_ws('|', t.event_time, t.trade_id, t.price, t.quantity, t.is_market_maker, h.horizon, l.price)
           FROM market_data.btc_ticks t
          CROSS JOIN unnest(ARRAY['1 second', '250 milliseconds', '1 minute', '10 minutes']::interval[])
                WITH ORDINALITY AS h (horizon, place)
           LEFT JOIN LATERAL (SELECT n.price FROM market_data.btc_ticks n
                               WHERE n.event_time <= t.event_time + h.horizon
                                 AND (SELECT max(event_time) FROM market_data.btc_ticks) >= t.event_time + h.horizon
                               ORDER BY n.event_time DESC, n.trade_id DESC LIMIT 1) AS l ON true
          WHERE t.event_time >= '2024-08-08 12:02Z' AND t.event_time < '2024-08-08 12:08Z'
          ORDER BY t.event_time, t.trade_id, h.place",
    );
    assert!(wanted.len() > 2000, "{}", wanted.len());
    assert!(wanted.iter().any(|line| line.ends_with("|00:10:00")), "none is out of reach");
    must_be(&found, &wanted);

    // A gap in trading: the ticks reach on behind it, so the price is known within it.
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price)
         VALUES ('2024-08-08 14:00Z', '2024-08-08 14:00Z', 'BTCUSDT', 9000000, 1)",
    );
    let reached = format!("SELECT count(*) FROM btc_ingest.markouts('BTCUSDT', {asked}) WHERE later_price IS NULL");
    assert_eq!(fixture.number(&reached), 0);
}

/// Compares bars with those of a recursive statement, which goes from trade to trade.
#[track_caller]
fn must_be_bars(fixture: &mut AnswersFixture, kind: &str, size: &str, measure: &str) {
    let range = "'2024-08-08 12:00Z', '2024-08-08 12:10Z'";
    let found = fixture.texts(&format!(
        "SELECT concat_ws('|', first_trade_id, last_trade_id, opened_at, closed_at, open, high, low, close, volume,
                          quote_volume, trades, trim_scale(taker_buy_volume), trim_scale(taker_buy_quote_volume),
                          complete)
           FROM btc_ingest.bars('BTCUSDT', {range}, '{kind}', {size})"
    ));
    let wanted = fixture.texts(&format!(
        "WITH RECURSIVE ordered AS MATERIALIZED (
             SELECT row_number() OVER (ORDER BY event_time, trade_id) AS place, * FROM market_data.btc_ticks
              WHERE symbol = 'BTCUSDT' AND event_time >= '2024-08-08 12:00Z' AND event_time < '2024-08-08 12:10Z'
         ), numbered (place, bar, amount) AS (
             SELECT place, 1::bigint, ({measure})::numeric FROM ordered WHERE place = 1
             UNION ALL
             SELECT o.place, n.bar + (n.amount >= {size})::integer,
                    CASE WHEN n.amount >= {size} THEN 0 ELSE n.amount END + ({measure})
               FROM numbered n JOIN ordered o ON o.place = n.place + 1
         )
         SELECT concat_ws('|', (array_agg(trade_id ORDER BY place))[1], (array_agg(trade_id ORDER BY place DESC))[1],
                          min(event_time), max(event_time), (array_agg(price ORDER BY place))[1], max(price),
                          min(price),
                          (array_agg(price ORDER BY place DESC))[1], sum(quantity), sum(price * quantity), count(*),
                          trim_scale(coalesce(sum(quantity) FILTER (WHERE NOT is_market_maker), 0)),
                          trim_scale(coalesce(sum(price * quantity) FILTER (WHERE NOT is_market_maker), 0)),
                          max(amount) >= {size})
           FROM numbered JOIN ordered USING (place) GROUP BY bar ORDER BY bar"
    ));
    assert!(wanted.len() > 20, "{kind}: {}", wanted.len());
    must_be(&found, &wanted);
}

#[test]
fn bars_are_those_of_a_walk_from_trade_to_trade() {
    let mut fixture = AnswersFixture::new();
    fixture.load("btc", &generated("BTCUSDT", 9, 3));
    must_be_bars(&mut fixture, "tick", "37", "1");
    must_be_bars(&mut fixture, "volume", "0.03", "quantity");
    must_be_bars(&mut fixture, "value", "1800.5", "price * quantity");
}

#[test]
fn bars_that_are_continued_behind_each_bar_are_those_of_one_call() {
    let mut fixture = AnswersFixture::new();
    fixture.load("btc", &generated("BTCUSDT", 10, 2));
    for (kind, size) in [("tick", "50"), ("volume", "0.03"), ("value", "1800")] {
        let bars = |from: &str| {
            format!("SELECT b.* FROM btc_ingest.bars('BTCUSDT', {from}, '2024-08-08 12:10Z', '{kind}', {size}{{}}) b")
        };
        let whole = bars("'2024-08-08 12:00Z'").replace("{}", "");
        fixture.run(&format!("DROP TABLE IF EXISTS whole; CREATE TEMPORARY TABLE whole AS {whole}"));
        let ends = "SELECT format('''%s''', closed_at) || '/' || last_trade_id FROM whole WHERE complete
                     ORDER BY last_trade_id";
        let ends = fixture.texts(ends);
        assert!(ends.len() > 15, "{kind}: {}", ends.len());
        for end in ends {
            let (time, id) = end.split_once('/').unwrap();
            let rest = bars(time).replace("{}", &format!(", after => {id}"));
            let differing = format!(
                "SELECT count(*) FROM (SELECT * FROM whole WHERE first_trade_id > {id}) AS w
                   FULL JOIN ({rest}) AS r USING (first_trade_id) WHERE w IS DISTINCT FROM r"
            );
            // Rows of different types are not comparable as a whole, so their texts are.
            let differing = differing.replace("w IS DISTINCT FROM r", "w::text IS DISTINCT FROM r::text");
            assert_eq!(fixture.number(&differing), 0, "{kind} behind {end}");
        }
    }
}

#[test]
fn trades_that_wait_for_their_horizons_take_no_more_memory_than_allowed() {
    let mut fixture = AnswersFixture::new();
    let ticks = generated("BTCUSDT", 7, 10);
    fixture.load("a", &ticks);
    fixture.run("SET btc_ingest.memory_limit = '8MB'");
    let markouts = |unit: &str| {
        format!(
            "SELECT count(*) FROM btc_ingest.markouts('BTCUSDT', '2024-08-08 12:00Z', '2024-08-08 13:00Z',
                 ARRAY(SELECT n * interval '1 {unit}' FROM generate_series(1, 32) AS n))"
        )
    };
    let refusal = fixture.refused(&markouts("minute"), "TK031");
    assert!(refusal.message.contains("wait for the longest horizon"), "{refusal:?}");
    // Few of as many trades wait at a time.
    assert_eq!(fixture.number(&markouts("second")), 32 * ticks.len() as i64);
    fixture.run("SET btc_ingest.memory_limit = '64MB'");
    assert_eq!(fixture.number(&markouts("minute")), 32 * ticks.len() as i64);
}

#[test]
fn what_is_asked_wrongly_is_refused_with_the_reason() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &ticks(1, 5));
    fixture.load("b", &[but(&ticks_of("ETHUSDT", 1, 1)[0], |tick| tick.price = 1)]);
    let day = "'2024-08-08Z', '2024-08-09Z'";
    for (call, sqlstate, why) in [
        (format!("bars('X', {day}, 'tick', 10)"), "TK030", "no tick of 'X' is stored"),
        ("bars('BTCUSDT', '2024-08-09Z', '2024-08-08Z', 'tick', 10)".into(), "TK031", "must begin before it ends"),
        ("bars('BTCUSDT', NULL, '2024-08-08Z', 'tick', 10)".into(), "TK031", "must not be null"),
        (format!("bars(NULL, {day}, 'tick', 10)"), "TK031", "symbol must not be null"),
        (format!("bars('BTCUSDT', {day}, 'dollar', 10)"), "TK031", "kind must be tick, volume or value"),
        (format!("bars('BTCUSDT', {day}, 'tick', 0)"), "TK031", "size must be greater than 0"),
        (format!("bars('BTCUSDT', {day}, 'volume', -1)"), "TK031", "size must be greater than 0"),
        (format!("bars('BTCUSDT', {day}, 'tick', 1.5)"), "TK031", "size must be a number with at most 0"),
        (format!("bars('BTCUSDT', {day}, 'value', 'NaN')"), "TK031", "size must be a number"),
        (format!("bars('BTCUSDT', {day}, 'tick', NULL)"), "TK031", "size must not be null"),
        ("prices_at('X', ARRAY[now()])".into(), "TK030", "no tick of 'X' is stored"),
        ("prices_at('BTCUSDT', ARRAY[now(), NULL])".into(), "TK031", "must not have a null"),
        ("prices_at('BTCUSDT', ARRAY[now()], '-1 second')".into(), "TK031", "tolerance must not be negative"),
        ("prices_at('BTCUSDT', ARRAY[now()], '1 month')".into(), "TK031", "tolerance must have no months"),
        (format!("markouts('X', {day}, '{{1 second}}')"), "TK030", "no tick of 'X' is stored"),
        (format!("markouts('BTCUSDT', {day}, '{{}}')"), "TK031", "horizons must be 1 to 32"),
        (format!("markouts('BTCUSDT', {day}, '{{0 seconds}}')"), "TK031", "longer than 0"),
        (format!("markouts('BTCUSDT', {day}, '{{25 hours}}')"), "TK031", "at most 24 hours"),
        (format!("markouts('BTCUSDT', {day}, ARRAY[NULL]::interval[])"), "TK031", "must not have a null"),
    ] {
        let refusal = fixture.refused(&format!("SELECT * FROM btc_ingest.{call}"), sqlstate);
        assert!(refusal.message.contains(why) && !refusal.hint.is_empty(), "{call}: {refusal:?}");
    }
    // A range without ticks of a known symbol has no bars.
    let empty = "SELECT count(*) FROM btc_ingest.bars('BTCUSDT', '2023-08-08Z', '2023-08-09Z', 'tick', 10)";
    assert_eq!(fixture.number(empty), 0);
}

//! A store that does not follow S3's protocol: every deviation of the kit's store × every way in which objects are
//! loaded. Each time everything is loaded exactly, or one error says what is wrong. Memory stays within the limit.

use std::sync::OnceLock;

use btc_ingest_kit::Deviation;
use btc_ingest_kit::fixture::backfill::call;
use btc_ingest_kit::fixture::{load, stored_where};
use btc_ingest_kit::rows::{START, ticks_of};
use btc_ingest_kit::sql::{text, wait_until_true_within};
use btc_ingest_kit::ticks::slice_key;
use btc_ingest_kit::wait::wait_for;

use super::hostile_fixture::{DATABASE, Folder, HostileFixture, Listed, OBJECTS, SOON, checked};
use super::*;

/// Waits until no object of the folder waits for an attempt.
fn wait_until_no_object_waits(folder: &Folder, client: &mut Client, what: &str) {
    wait_for(what, SOON, || {
        let statuses = folder.statuses(client);
        let waits = ["pending", "failed", "loading"].iter().any(|status| statuses.contains(status));
        (!waits).then_some(())
    });
}

/// A deviation, the SQLSTATE of a load by hand (empty: it succeeds), and what becomes of listed objects.
type Case = (Deviation, &'static str, Listed);

fn cases() -> Vec<Case> {
    use Deviation as D;
    use Listed::{Loaded, Quarantined, Refused};
    let mut cases = vec![
        (D::None, "", Loaded),
        (D::EmptyPages, "", Loaded),
        (D::IgnoresStartAfter, "", Loaded),
        (D::ControlInKey, "", Loaded),
        (D::LongEtag, "S3021", Refused("S3016")),
        (D::NoEtag, "S3020", Refused("S3016")),
        (D::WeakEtag, "S3020", Refused("S3016")),
        (D::VersionOnly, "", Refused("S3016")),
        (D::StrangeEtag, "S3021", Quarantined("S3021")),
        (D::IgnoresRange, "", Loaded),
        (D::Http10, "", Loaded),
        // A listed object is read as a whole, and without a range.
        (D::ShiftedRange, "S3021", Loaded),
        (D::WrongTotal, "S3021", Loaded),
        (D::NonsenseRange, "S3021", Loaded),
        (D::EndlessObject, "S3021", Quarantined("S3021")),
        (D::EndlessObjectRefusal, "S3021", Quarantined("S3021")),
        (D::Checksum, "", Loaded),
        (D::CompositeChecksum, "", Loaded),
        (D::FlipsOnce, "", Loaded),
        // A load by hand asks for a range, of which S3 gives no checksum.
        (D::WrongChecksum, "", Quarantined("S3022")),
        (D::Refuses(403, "InvalidObjectState"), "S3019", Quarantined("S3019")),
        (D::Refuses(403, "RequestTimeTooSkewed"), "S3018", Quarantined("S3018")),
        (D::Refuses(400, "ExpiredToken"), "S3017", Quarantined("S3017")),
        (D::RefusesOnce(400, "RequestTimeout"), "", Loaded),
        (D::RefusesOnce(400, "ThrottlingException"), "", Loaded),
        (D::RefusesOnce(400, "TokenRefreshRequired"), "S3017", Loaded),
        (D::RefusesOnce(409, "OperationAborted"), "S3009", Loaded),
    ];
    let listings = [
        D::IgnoresToken,
        D::SameToken,
        D::EndlessPages,
        D::NoToken,
        D::NoIsTruncated,
        D::Backwards,
        D::ForeignKey,
        D::CrowdedPage,
        D::EndlessListing,
        D::EndlessRefusal,
        D::HugeSize,
        D::NegativeSize,
        D::NoSize,
        D::NoListEtag,
        D::WeakListEtag,
        D::ZeroInListEtag,
        D::ZeroInKey,
        D::LongKey,
        D::TornPage,
        D::HtmlPage,
    ];
    cases.extend(listings.map(|deviation| (deviation, "", Refused("S3016"))));
    cases
}

fn shared() -> &'static HostileFixture {
    static SHARED: OnceLock<HostileFixture> = OnceLock::new();
    SHARED.get_or_init(|| HostileFixture::start(&[]))
}

#[test]
fn a_load_by_hand_is_exact_or_one_clear_error() {
    let fixture = shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, sqlstate, _)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("hand", number, deviation);
            let what = format!("{deviation:?}");
            for uri in &folder.uris {
                match load(&mut client, uri, "").map_err(Refusal::from) {
                    Ok(_) => assert_eq!(sqlstate, "", "{what}"),
                    Err(refusal) => assert_eq!(checked(&refusal), sqlstate, "{what}: {refusal:?}"),
                }
            }
            folder.must_hold(&mut client, &what, sqlstate.is_empty());
        }
    });
}

#[test]
fn what_discover_finds_is_all_or_one_clear_error() {
    let fixture = shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, _, expected)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("found", number, deviation);
            let what = format!("{deviation:?}");
            let sql = "SELECT registered_new FROM btc_ingest.discover($1)";
            match (client.query_one(sql, &[&folder.prefix()]).map_err(Refusal::from), expected) {
                (Err(refusal), Listed::Refused(sqlstate)) => {
                    assert_eq!(checked(&refusal), sqlstate, "{what}: {refusal:?}");
                }
                (Ok(row), Listed::Loaded | Listed::Quarantined(_)) => {
                    assert_eq!(row.get::<_, i64>(0), OBJECTS as i64, "{what}");
                }
                (result, _) => panic!("{what}: {result:?}"),
            }
            wait_for(&what, SOON, || {
                client.batch_execute("SELECT btc_ingest.sweep()").unwrap();
                let statuses = folder.statuses(&mut client);
                (!statuses.contains("pending") && !statuses.contains("failed")).then_some(())
            });
            folder.must_be(&mut client, &what, expected);
        }
    });
}

#[test]
fn what_a_watch_finds_is_all_or_one_clear_error() {
    let fixture = shared();
    fixture.within_memory(|| {
        let mut client = fixture.cluster.client(DATABASE);
        let cases = cases().into_iter().enumerate();
        let cases: Vec<(Folder, Case)> =
            cases.map(|(number, case)| (fixture.folder("watched", number, case.0), case)).collect();
        for (folder, _) in &cases {
            let sql = r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#;
            client.query_one(sql, &[&folder.prefix()]).unwrap();
        }
        for (folder, (deviation, _, expected)) in &cases {
            let (what, prefix) = (format!("{deviation:?}"), folder.prefix());
            let listed = format!("last_listed_at IS NOT NULL FROM btc_ingest.watches WHERE prefix = '{prefix}'");
            wait_until_true_within(&mut client, &format!("{what}: a listing"), SOON, &format!("SELECT {listed}"));
            let sqlstate = format!("SELECT sqlstate FROM btc_ingest.watches WHERE prefix = '{prefix}'");
            let sqlstate = text(&mut client, &sqlstate);
            match expected {
                Listed::Refused(expected) => assert_eq!(sqlstate, *expected, "{what}"),
                _ => assert_eq!(sqlstate, "null", "{what}"),
            }
            wait_until_no_object_waits(folder, &mut client, &what);
            folder.must_be(&mut client, &what, *expected);
        }
    });
}

#[test]
fn what_a_backfill_loads_is_all_or_one_clear_error() {
    let fixture = shared();
    let db = TestDb::with_extension(&fixture.cluster);
    fixture.within_memory(|| {
        let mut client = db.client();
        for (number, (deviation, _, expected)) in cases().into_iter().enumerate() {
            let folder = fixture.folder("filled", number, deviation);
            let what = format!("{deviation:?}");
            let called = call(&db.connection_string(), &[folder.prefix()], "");
            match (&called.refusal, expected) {
                (Some(refusal), Listed::Refused(sqlstate)) => {
                    assert_eq!(checked(refusal), sqlstate, "{what}: {refusal:?}");
                }
                (None, Listed::Loaded | Listed::Quarantined(_)) => {}
                _ => panic!("{what}: {called:#?}"),
            }
            folder.must_be(&mut client, &what, expected);
        }
    });
}

#[test]
fn a_watch_over_a_store_that_ignores_start_after_finds_all_or_says_so() {
    let fixture = HostileFixture::start(&[]);
    let mut client = fixture.cluster.client(DATABASE);
    let folder = fixture.folder("jump", 0, Deviation::IgnoresStartAfter);
    // The next listing goes from a day before to the last day that was listed, which this store does not do.
    let yesterday = time_us(START) - 86_400_000_000;
    let early = ticks_of(&folder.symbol, 1_000_000, 10);
    fixture.store.put(
        &slice_key(&format!("{}/Binance", folder.name), &folder.symbol, yesterday),
        ParquetFile::new().bytes(&early),
    );
    let prefix = format!("{}Binance/{{asset}}/{{yyyy}}/{{mm}}/{{dd}}/", folder.prefix());
    client.query_one(r#"SELECT btc_ingest.watch($1, '{"interval": "1h"}')"#, &[&prefix]).unwrap();
    let of = |column: &str| format!("SELECT {column} FROM btc_ingest.watches WHERE prefix = '{prefix}'");
    wait_until_true_within(&mut client, "the first listing", SOON, &of("last_listed_at IS NOT NULL"));
    assert_eq!(text(&mut client, &of("coalesce(sqlstate, 'none')")), "none");
    wait_until_no_object_waits(&folder, &mut client, "the first listing");
    assert_eq!(folder.statuses(&mut client), "loaded");

    let before = text(&mut client, &of("last_listed_at::text"));
    client.query_one(r#"SELECT btc_ingest.watch($1, '{"interval": "1s"}')"#, &[&prefix]).unwrap();
    let listed = of(&format!("last_listed_at > '{before}'"));
    wait_until_true_within(&mut client, "the second listing", SOON, &listed);
    assert_eq!(text(&mut client, &of("coalesce(sqlstate, 'none')")), "S3016");
    let said = text(&mut client, &of("message"));
    assert!(said.contains("does not come after"), "{said}");
    let said = text(&mut client, "SELECT string_agg(detail, ' ') FROM btc_ingest.doctor() WHERE name = 'watches'");
    assert!(said.contains(&prefix) && said.contains("S3016"), "{said}");
    assert_eq!(folder.statuses(&mut client), "loaded");
    let all = [folder.ticks.clone(), early].concat();
    stored_where(&mut client, &format!("symbol = '{}'", folder.symbol)).must_be(&Sums::of(&all), "both listings");
}

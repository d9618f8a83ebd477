//! The producer: registers slices in transactions of its own, a few at a time, and knows nothing of what loads them.

use super::actors::Stage;
use super::objects::{Objects, Registration};
use super::session::Session;
use super::soak_fixture::{BUCKET, SoakFixture};
use crate::ticks::{Random, time_text};

/// Rows of the largest transaction.
const MOST: u64 = 40;
/// The part of the time after which all objects are registered.
const PART: f64 = 0.9;

/// The INSERT of a producer: only the documented columns.
const UPSERT: &str = "
    INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)
    ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";

/// Registers everything in its order, spread over the time of the soak.
pub fn produce(fixture: &SoakFixture, objects: &Objects, stage: &Stage) {
    let mut session = fixture.session();
    let mut random = Random(stage.seed());
    let all = &objects.registrations;
    let mut done = 0;
    while done < all.len() && stage.wait_for_part(PART * done as f64 / all.len() as f64) {
        let some = &all[done..all.len().min(done + 1 + random.below(MOST) as usize)];
        if let Err(error) = register(fixture, &mut session, some) {
            stage.report_error(&format!("a producer's transaction has failed: {error}"));
        }
        done += some.len();
    }
}

/// Registers some objects in one transaction, which begins again if the server is killed in it.
fn register(fixture: &SoakFixture, session: &mut Session, some: &[Registration]) -> Result<(), String> {
    for (key, bytes) in some.iter().filter_map(|registration| registration.replaced.as_ref()) {
        fixture.s3.put(BUCKET, key, bytes.clone());
    }
    session.run(|client| {
        let mut transaction = client.transaction()?;
        let sql = transaction.prepare(UPSERT)?;
        for Registration { bucket_us, asset, uri, .. } in some {
            transaction.execute(&sql, &[&time_text(*bucket_us, "%Y-%m-%d %H:%M:%S+00"), asset, uri])?;
        }
        transaction.commit()
    })
}

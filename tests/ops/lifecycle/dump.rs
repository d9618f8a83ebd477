//! Dump and restore.

use super::*;

#[test]
fn a_dump_in_custom_format_restores_by_timescales_procedure() {
    let db = ServerFixture::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&db, "c", &uris[0], "custom format");
}

#[test]
fn a_plain_dump_restores_by_timescales_procedure() {
    let db = ServerFixture::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&db, "p", &uris[0], "plain format");
}

#[test]
fn a_dump_of_a_restored_database_restores_too() {
    let db = ServerFixture::shared().db();
    let (_, uris) = filled(&db);
    must_survive_a_dump(&copy(&db), "c", &uris[0], "second generation");
}

#[test]
fn a_database_whose_extension_was_created_again_survives_a_dump() {
    let db = ServerFixture::shared().db();
    let (_, uris) = filled(&db);
    let mut client = db.client();
    let before = shape(&mut client);
    execute(&mut client, "DROP EXTENSION btc_ingest");
    execute(&mut client, INSTALL);
    must_be_equal(&shape(&mut client), &before, "after DROP and CREATE");
    must_survive_a_dump(&db, "c", &uris[0], "created again");
}

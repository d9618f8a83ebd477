//! infra/database/migrations/001_init.sql makes what CREATE EXTENSION makes.

use std::path::Path;

use btc_ingest_kit::command::{client_program, run};

use super::*;

const FILE: &str = include_str!("../../../infra/database/migrations/001_init.sql");

/// What the extension adds to tables that stand already: grants, triggers, and members of its own.
fn without_the_extension(shape: Vec<String>) -> Vec<String> {
    let added = [
        "grant ",
        "member ",
        "CREATE TRIGGER registry_",
        "CREATE TRIGGER slices_",
        "CREATE TRIGGER retention_",
        "CREATE TRIGGER staged_for_lease",
        "schema btc_ingest",
        "function ",
    ];
    shape.into_iter().filter(|line| !added.iter().any(|start| line.starts_with(start))).collect()
}

#[test]
fn the_migration_file_is_what_its_script_prints() {
    let db = TestDb::new(&ServerFixture::shared().cluster);
    db.psql("CREATE EXTENSION timescaledb; CREATE EXTENSION vector;").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib/print_init.sql");
    let mut psql = client_program("psql");
    let printed = run(psql.args(["-XqAt", "-d", &db.connection_string(), "-f"]).arg(script)).unwrap();
    assert!(
        printed.trim_end() == FILE.trim_end(),
        "run scripts/print_migration.sh: the tables have changed:\n{printed}"
    );
}

#[test]
fn the_migration_file_makes_the_tables_of_create_extension_which_adopts_them() {
    let fixture = ServerFixture::shared();
    let wanted = shape(&mut fixture.db().client());
    let db = TestDb::new(&fixture.cluster);
    db.psql(FILE).unwrap();
    let mut client = db.client();
    must_be_equal(
        &without_the_extension(shape(&mut client)),
        &without_the_extension(wanted.clone()),
        "by the file alone",
    );
    client.batch_execute("CREATE EXTENSION btc_ingest").unwrap();
    must_be_equal(&shape(&mut client), &wanted, "after CREATE EXTENSION");
}

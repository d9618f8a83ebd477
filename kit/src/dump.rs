//! pg_dump and pg_restore, by the procedure that TimescaleDB asks for.

use std::path::Path;

use crate::cluster::TestDb;
use crate::command::{client_program, run};

/// Dumps a whole database in one of pg_dump's formats, `c` or `p`.
pub fn dump(db: &TestDb<'_>, format: &str, file: &Path) {
    let mut command = client_program("pg_dump");
    run(command.args(["-F", format, "-f"]).arg(file).args(["-d", &db.connection_string()]))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Restores a dump into an empty database.
pub fn restore(db: &TestDb<'_>, format: &str, file: &Path) {
    db.psql("CREATE EXTENSION timescaledb; SELECT timescaledb_pre_restore();").unwrap();
    let connection = db.connection_string();
    let mut command = if format == "c" {
        let mut command = client_program("pg_restore");
        command.args(["--exit-on-error", "-d", &connection]);
        command
    } else {
        let mut command = client_program("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-f"]);
        command
    };
    run(command.arg(file)).unwrap_or_else(|error| panic!("{error}"));
    db.psql("SELECT timescaledb_post_restore();").unwrap();
}

/// Makes a new database from a database's dump in custom format.
pub fn copy<'a>(db: &TestDb<'a>) -> TestDb<'a> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = scratch.path().join("dump");
    dump(db, "c", &file);
    let copy = TestDb::new(db.cluster());
    restore(&copy, "c", &file);
    copy
}

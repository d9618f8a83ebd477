//! `ALTER EXTENSION btc_ingest UPDATE` by the script that `scripts/update_script.py` prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use btc_ingest_kit::command::{run, share_dir};

use super::*;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/update_script.py");
/// The version that the test makes. The library does not know it, so no worker touches a database that has it.
const NEXT: &str = "next";

/// What the next version changes: what it replaces, and by what.
const CHANGES: [(&str, &str); 5] = [
    // A column of a table.
    (
        "    ('ingestion.object_slices', 's3_uri',",
        "    ('ingestion.objects', 'priority', 'integer', 'NOT NULL DEFAULT 0', true, 'Higher ones are loaded first'),
    ('ingestion.object_slices', 's3_uri',",
    ),
    // A column of a function's result, over which there is a view.
    ("groups bigint, sqlstate text, message text)", "groups bigint, sqlstate text, message text, tries bigint)"),
    ("w.state #>> '{last, problem, message}'\n", "w.state #>> '{last, problem, message}', 3::bigint\n"),
    // A function's body.
    ("'May read the status of btc_ingest and call doctor(); reads no tick'", "'May read; the status''s ; $1 -- too'"),
    // A new function.
    (
        "SELECT btc_ingest_internal.fix_settings();\n",
        "CREATE FUNCTION btc_ingest.of_the_next(a text DEFAULT 'x, y)', OUT b text, OUT c integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT a, 7 $$;
COMMENT ON FUNCTION btc_ingest.of_the_next(text) IS 'New; in the next version';
REVOKE ALL ON FUNCTION btc_ingest.of_the_next(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest.of_the_next(text) TO btc_ingest_reader;
SELECT btc_ingest_internal.fix_settings();
",
    ),
];

/// The files of the next version in the server's directory, which end with this.
struct NextVersion(Vec<PathBuf>);

impl NextVersion {
    /// Returns `None` if this user may not write into the server's directory.
    fn install() -> Option<Self> {
        let directory = share_dir().join("extension");
        let version = env!("CARGO_PKG_VERSION");
        let today = directory.join(format!("btc_ingest--{version}.sql"));
        let mut text = fs::read_to_string(&today).unwrap();
        for (from, to) in CHANGES {
            assert!(text.contains(from), "the next version is to change this, which is no longer there: {from}");
            text = text.replacen(from, to, 1);
        }
        let next = directory.join(format!("btc_ingest--{NEXT}.sql"));
        let update = directory.join(format!("btc_ingest--{version}--{NEXT}.sql"));
        let files = Self(vec![next.clone(), update.clone()]);
        match fs::write(&next, text) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: this user may not write into {}", directory.display());
                return None;
            }
            written => written.unwrap(),
        }
        fs::write(&update, printed(&today, &next)).unwrap();
        Some(files)
    }
}

impl Drop for NextVersion {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = fs::remove_file(file);
        }
    }
}

fn printed(old: &Path, new: &Path) -> String {
    run(Command::new(PROGRAM).arg(old).arg(new)).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns every function, view and type of the extension with its text, comment and settings.
fn objects(client: &mut Client) -> Vec<String> {
    texts(
        client,
        "SELECT concat_ws(' | ', p.oid::regprocedure, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'))
           FROM pg_proc p WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
         UNION ALL
         SELECT concat_ws(' | ', c.oid::regclass, pg_get_viewdef(c.oid), obj_description(c.oid, 'pg_class'), (
                    SELECT string_agg(concat_ws(' ', attname, col_description(attrelid, attnum)), ', ' ORDER BY attnum)
                      FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0))
           FROM pg_class c WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind = 'v'
         UNION ALL
         SELECT concat_ws(' ', 'view grant', c.oid::regclass, g.grantee::regrole, g.privilege_type)
           FROM pg_class c, aclexplode(c.relacl) g
          WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind = 'v'
         ORDER BY 1",
    )
}

#[test]
fn an_update_makes_what_a_fresh_install_of_the_next_version_makes_and_keeps_the_ticks() {
    let Some(_files) = NextVersion::install() else { return };
    let server = ServerFixture::shared();
    let fresh = TestDb::new(&server.cluster);
    fresh.psql(&format!("CREATE EXTENSION btc_ingest VERSION '{NEXT}' CASCADE")).unwrap();
    let db = server.db();
    let mut client = db.client();
    filled(&db);
    let rows = |client: &mut Client| texts(client, "SELECT t::text FROM market_data.btc_ticks t ORDER BY 1");
    let before = rows(&mut client);
    execute(&mut client, &format!("ALTER EXTENSION btc_ingest UPDATE TO '{NEXT}'"));
    let mut of_fresh = fresh.client();
    must_be_equal(&objects(&mut client), &objects(&mut of_fresh), "functions and views");
    let tables = |client: &mut Client| -> Vec<String> {
        // Chunks are the ticks' own.
        shape(client).into_iter().filter(|line| !line.contains("_hyper_")).collect()
    };
    must_be_equal(&tables(&mut client), &tables(&mut of_fresh), "tables");
    assert!(rows(&mut client) == before && before.len() > 4_000, "the ticks stay as they are");
    assert_eq!(texts(&mut client, "SELECT b || c FROM btc_ingest.of_the_next()"), ["x, y)7"]);
    assert_eq!(texts(&mut client, "SELECT count(tries)::text FROM btc_ingest.watches"), ["0"]);
}

#[test]
fn an_update_to_the_same_version_changes_no_object() {
    let today = share_dir().join("extension").join(format!("btc_ingest--{}.sql", env!("CARGO_PKG_VERSION")));
    let script = printed(&today, &today);
    assert!(!script.contains("CREATE") && !script.contains("DROP"), "{script}");
}

#[test]
fn a_change_that_needs_a_decision_is_refused() {
    let today = share_dir().join("extension").join(format!("btc_ingest--{}.sql", env!("CARGO_PKG_VERSION")));
    let scratch = tempfile::tempdir().unwrap();
    let next = scratch.path().join("next.sql");
    let text = fs::read_to_string(&today).unwrap();
    fs::write(
        &next,
        text.replacen("CREATE TYPE btc_ingest.load_report AS (", "CREATE TYPE btc_ingest.load_report AS (a int,", 1),
    )
    .unwrap();
    let error = run(Command::new(PROGRAM).arg(&today).arg(&next)).unwrap_err().to_string();
    assert!(error.contains("this change must be written by hand: CREATE TYPE btc_ingest.load_report"), "{error}");
}

//! The reference pages against the server: functions, views, settings and their defaults.

use std::collections::{BTreeMap, BTreeSet};

use btc_ingest_kit::ServerFixture;
use btc_ingest_kit::sql::texts;

use super::blocks::{blocks, read};

const REFERENCE: &str = "docs/use/reference.md";

/// Returns the names that have a section of their own.
fn sections() -> BTreeSet<String> {
    read(REFERENCE).lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
}

fn server_texts(sql: &str) -> Vec<String> {
    let db = ServerFixture::shared().db();
    texts(&mut db.client(), sql)
}

#[test]
fn every_public_function_view_and_type_has_a_section_and_no_section_is_about_nothing() {
    let names = "SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'btc_ingest'::regnamespace
                  UNION SELECT c.relname::text FROM pg_class c
                         WHERE c.relnamespace = 'btc_ingest'::regnamespace AND c.relkind IN ('v', 'c')";
    let known: BTreeSet<String> = server_texts(names).into_iter().collect();
    let sections = sections();
    assert_eq!(known.difference(&sections).collect::<Vec<_>>(), Vec::<&String>::new(), "without a section");
    // The tables have one section together.
    let unknown: Vec<_> = sections.difference(&known).filter(|name| *name != "Tables").collect();
    assert_eq!(unknown, Vec::<&String>::new(), "sections about nothing");
}

#[test]
fn every_signature_in_the_reference_is_the_servers() {
    // Arguments as PostgreSQL writes them, with types in the short form that the reference uses.
    let signatures = "SELECT format('%s(%s)', p.proname, pg_get_function_arguments(p.oid)) FROM pg_proc p
                       WHERE p.pronamespace = 'btc_ingest'::regnamespace ORDER BY p.proname";
    let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in blocks(REFERENCE).into_iter().filter(|block| block.info == "text" && block.text.contains('(')) {
        let name = block.text.split('(').next().unwrap().trim().to_owned();
        written.entry(name).or_default().push(plain(&block.text));
    }
    let mut wrong = Vec::new();
    for signature in server_texts(signatures) {
        let name = signature.split('(').next().unwrap();
        let expected = plain(&signature);
        match written.get(name) {
            Some(texts) if texts.iter().any(|text| text.starts_with(&expected)) => {}
            found => wrong.push(format!("{expected}\n  reference: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Brings a signature into one form: one space between words, short names of types, no casts in defaults.
fn plain(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(").replace(" )", ")");
    for (long, short) in [
        ("timestamp with time zone", "timestamptz"),
        ("::text[]", ""),
        ("::text", ""),
        ("::jsonb", ""),
        ("::integer", ""),
        ("::bigint", ""),
        ("::interval", ""),
        ("::timestamptz", ""),
        ("IN ", ""),
        ("\"", ""),
        ("'24:00:00'", "'24 hours'"),
    ] {
        text = text.replace(long, short);
    }
    text
}

#[test]
fn every_setting_stands_in_the_table_with_its_default() {
    let settings = "SELECT format('%s|%s|%s', name, reset_val, coalesce(unit, '')) FROM pg_settings
                     WHERE name LIKE 'btc\\_ingest.%' ORDER BY name";
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    client.batch_execute("LOAD 'btc_ingest'").unwrap();
    let known: BTreeSet<String> =
        texts(&mut client, settings).iter().map(|row| row.split('|').next().unwrap().to_owned()).collect();
    let rows = read("docs/use/settings.md");
    let written: BTreeMap<&str, &str> = rows
        .lines()
        .filter_map(|line| line.strip_prefix("| `btc_ingest."))
        .map(|row| row.split_once("` | ").unwrap())
        .collect();
    let documented: BTreeSet<String> = written.keys().map(|name| format!("btc_ingest.{name}")).collect();
    assert_eq!(documented, known);
    // boot_val is the default of the library; a test's own settings do not change it.
    for row in
        texts(&mut client, "SELECT format('%s|%s', name, boot_val) FROM pg_settings WHERE name LIKE 'btc\\_ingest.%'")
    {
        let (name, default) = row.split_once('|').unwrap();
        let documented = written[name.trim_start_matches("btc_ingest.")].split(" |").next().unwrap().replace('`', "");
        if documented == "empty" {
            assert_eq!(default, "", "{name}");
            continue;
        }
        let set = format!("SET LOCAL {name} = '{documented}'");
        let shown = format!("SELECT setting FROM pg_settings WHERE name = '{name}'");
        let in_units = client
            .batch_execute(&format!("BEGIN; {set}"))
            .map(|()| texts(&mut client, &shown)[0].clone())
            .unwrap_or_else(|_| seconds_or_number(&documented));
        client.batch_execute("ROLLBACK").unwrap();
        assert_eq!(in_units, default, "{name}: the document says {documented}");
    }
}

/// Converts a documented default of a setting that no session can change into the unit of the setting.
fn seconds_or_number(text: &str) -> String {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1_000,
        "h" => 3_600_000,
        "d" => 24 * 60,
        _ => return text.to_owned(),
    };
    (number.parse::<i64>().unwrap() * factor).to_string()
}

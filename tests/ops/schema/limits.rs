//! The limits for producers stand in three statements, which run with the privileges of different roles.

/// Returns the CASE that begins with the limit of a uri, without its layout and the name of its row.
fn limits(file: &str, row: &str) -> String {
    let path = format!("{}/../sql/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").replace(&format!("{row}."), "");
    let begin = text.find("CASE WHEN octet_length(s3_uri)").unwrap_or_else(|| panic!("{path} has no limits"));
    let end = text[begin..].find(" END").unwrap_or_else(|| panic!("{path}: the limits have no end"));
    text[begin..begin + end].to_owned()
}

#[test]
fn the_limits_for_producers_are_the_same_wherever_they_are_checked() {
    let limits_of_a_call = limits("queries/registry_fault.sql", "p");
    assert!(limits_of_a_call.matches(" THEN ").count() >= 14, "{limits_of_a_call}");
    assert_eq!(limits("queries/enqueue_find.sql", "p"), limits_of_a_call);
    assert_eq!(limits("migrate.sql", "NEW"), limits_of_a_call);
}

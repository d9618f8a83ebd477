//! The environment variables by which a run of the tests is changed: docs/work/build.md lists them.

/// Checks every index and table when the database of a test goes: see [`crate::amcheck`].
const AMCHECK: &str = "BTC_INGEST_TEST_AMCHECK";
/// Settings of every cluster, as `name=value;name=value`.
const SETTINGS: &str = "BTC_INGEST_TEST_SETTINGS";
/// The first seed of a test that tries random cases.
const SEED: &str = "BTC_INGEST_TEST_SEED";
/// How many random cases such a test tries.
const CASES: &str = "BTC_INGEST_TEST_CASES";
/// How many processes a test kills that kills at random moments.
const KILLS: &str = "BTC_INGEST_TEST_KILLS";

/// Returns whether databases are checked when they go.
pub fn amcheck() -> bool {
    std::env::var_os(AMCHECK).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns the settings that the environment gives to every cluster. What a test sets itself wins.
pub fn settings() -> Vec<(String, String)> {
    parse(&std::env::var(SETTINGS).unwrap_or_default())
}

/// Returns the seeds that a test tries: `usual` many from 1 on, or what the environment says.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let first = number(SEED).unwrap_or(1);
    // A seed alone repeats one case.
    let cases = number(CASES).unwrap_or(if number(SEED).is_some() { 1 } else { usual });
    first..first + cases
}

/// Returns how many processes a test kills: `usual` many, or what the environment says.
pub fn kills(usual: usize) -> usize {
    number(KILLS).map_or(usual, |kills| kills as usize)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

fn parse(text: &str) -> Vec<(String, String)> {
    let settings = text.split(';').map(str::trim).filter(|setting| !setting.is_empty());
    settings
        .map(|setting| {
            let (name, value) =
                setting.split_once('=').unwrap_or_else(|| panic!("{SETTINGS}: {setting:?} is not name=value"));
            (name.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_names_and_values() {
        assert_eq!(parse(""), []);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse("a.b=c; work_mem = 4MB;"), [pair("a.b", "c"), pair("work_mem", "4MB")]);
        assert!(std::panic::catch_unwind(|| parse("a.b")).is_err());
    }
}

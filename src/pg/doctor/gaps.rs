//! Gaps in the trade ids.

use super::Check;
use super::check::Hint;
use crate::error::Result;
use crate::pg::quality::gaps;
use crate::pg::session::guc;

/// Compares the number of open gaps with `btc_ingest.max_open_gaps`.
pub fn checks() -> Result<Vec<Check>> {
    const NAME: &str = "gaps";
    let (open, missing) = gaps::open()?;
    if open == 0 {
        return Ok(vec![Check::good(NAME, "none is open")]);
    }
    let detail = format!("{open} gaps are open, {missing} trade ids are missing");
    let hint = Hint::run("SELECT * FROM btc_ingest.gaps WHERE state = 'open';").then(
        "Load what is missing, give a reason by explain_gap(), or declare ids that are no sequence by declare_asset().",
    );
    Ok(vec![if open > guc::max_open_gaps() {
        Check::bad(NAME, detail, hint)
    } else {
        Check::known(NAME, detail, hint)
    }])
}

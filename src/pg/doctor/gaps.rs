//! Gaps in the trade ids.

use super::Check;
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
    let hint = "SELECT * FROM btc_ingest.gaps WHERE state = 'open'; load what is missing, or \
                SELECT btc_ingest.explain_gap(asset, first_trade_id, last_trade_id, reason); ids that are no sequence: \
                SELECT btc_ingest.declare_asset(asset, false);";
    Ok(vec![if open > guc::max_open_gaps() {
        Check::bad(NAME, detail, hint)
    } else {
        Check::known(NAME, detail, hint)
    }])
}

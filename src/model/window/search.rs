//! How much of an index a search reads.

/// Returns how many candidates a search of hnsw for `k` neighbours keeps, by how many rows there are. More rows need
/// more for the same part of the nearest: 60 of 100,000 rows, 114 of a million, and 200 of an unknown number.
pub fn hnsw_candidates(k: i32, rows: Option<f64>) -> i32 {
    let by_rows = rows.map_or(200.0, |rows| 16.0 * (rows.max(1.0).log2() - 12.86));
    k.saturating_mul(4).max(by_rows.ceil() as i32).clamp(40, 1_000)
}

#[cfg(test)]
mod tests {
    use super::hnsw_candidates;

    #[test]
    fn a_search_keeps_more_candidates_for_more_neighbours_and_of_more_rows() {
        assert_eq!(hnsw_candidates(10, None), 200);
        assert_eq!(hnsw_candidates(10, Some(0.0)), 40);
        assert_eq!(hnsw_candidates(10, Some(100_000.0)), 60);
        assert_eq!(hnsw_candidates(10, Some(1_000_000.0)), 114);
        assert_eq!(hnsw_candidates(50, Some(1_000_000.0)), 200);
        assert_eq!(hnsw_candidates(10_000, Some(1_000_000.0)), 1_000);
    }
}

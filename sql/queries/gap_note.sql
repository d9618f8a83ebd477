-- Notes the reason for holes. What is explained again gets the new reason. $1: assets, $2 and $3: first and last trade
-- ids, $4: reason.
INSERT INTO ingestion.gap_notes AS n (asset, first_trade_id, last_trade_id, kind, reason, noted_by, noted_at)
SELECT h.*, 'explained', $4, session_user, clock_timestamp()
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS h
ON CONFLICT (asset, first_trade_id, last_trade_id, kind) DO UPDATE
   SET reason = excluded.reason, noted_by = excluded.noted_by, noted_at = excluded.noted_at

-- Deletes what was staged under tokens that lease no unit any more.
WITH slices AS (
    DELETE FROM ingestion.staged_slices s
     WHERE NOT EXISTS (SELECT FROM ingestion.work_units u WHERE u.token = s.token AND u.state = 'leased')
)
DELETE FROM ingestion.staged_candles c
 WHERE NOT EXISTS (SELECT FROM ingestion.work_units u WHERE u.token = c.token AND u.state = 'leased')

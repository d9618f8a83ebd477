-- Adds a window to a verification. $1: verification, $2: end of the window, $3: whether it was the last one, $4:
-- slices, $5: stored ticks, $6: different slices, $7: unproven slices.
UPDATE ingestion.verifications
   SET verified_to = $2, status = CASE WHEN $3 THEN 'done' ELSE status END, slices = slices + $4, ticks = ticks + $5,
       different = different + $6, unproven = unproven + $7, updated_at = clock_timestamp(),
       finished_at = CASE WHEN $3 THEN clock_timestamp() END
 WHERE id = $1

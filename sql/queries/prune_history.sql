-- Deletes old rows of the history. $1: age in minutes, $2: rows at most.
DELETE FROM ingestion.load_history
 WHERE id IN (SELECT h.id FROM ingestion.load_history h
               WHERE h.started_at < now() - $1 * interval '1 minute' ORDER BY h.started_at LIMIT $2)

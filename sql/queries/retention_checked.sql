-- Records what was found of a chunk that is due to be dropped. A proof that is older than a day, of another chunk, or
-- of one that was held back begins anew. $1 and $2: start and end (exclusive) of the chunk, $3: policy, $4: the last
-- object that was found in S3 (null: none in this step), $5: how many were found in this step, $6: whether all are
-- found, $7: what holds the chunk back (null: nothing), $8: digest of all objects that were found, in their order.
INSERT INTO ops.retention_checks AS k
       (chunk_from, chunk_to, job_name, proven_to, objects, proven_at, held_by, held_since, found)
VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN clock_timestamp() END, $7,
        CASE WHEN $7::text IS NOT NULL THEN clock_timestamp() END, $8)
ON CONFLICT (chunk_from) DO UPDATE
   SET chunk_to = excluded.chunk_to, job_name = excluded.job_name,
       proof_began = CASE WHEN k.chunk_to = excluded.chunk_to AND k.proof_began > clock_timestamp() - interval '1 day'
                           AND $7::text IS NULL AND k.held_by IS NULL
                          THEN k.proof_began ELSE clock_timestamp() END,
       proven_to = CASE WHEN $7::text IS NOT NULL THEN NULL ELSE coalesce($4, k.proven_to) END,
       objects = CASE WHEN $7::text IS NOT NULL THEN 0
                      WHEN k.chunk_to = excluded.chunk_to AND k.proof_began > clock_timestamp() - interval '1 day'
                      THEN k.objects + excluded.objects ELSE excluded.objects END,
       found = excluded.found, proven_at = excluded.proven_at, held_by = excluded.held_by,
       held_since = CASE WHEN $7::text IS NOT NULL THEN coalesce(k.held_since, excluded.held_since) END,
       checked_at = clock_timestamp()

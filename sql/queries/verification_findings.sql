-- Records slices that are not equal to their objects. $1: verification, $2: buckets, $3: what was found of each.
INSERT INTO ingestion.verification_findings (verification, bucket_5m, outcome, missing, extra, differing, missing_ids,
                                             extra_ids, differing_ids, problem)
SELECT $1, s.bucket_5m, f.*
  FROM unnest($2::timestamptz[], $3::jsonb[]) AS s (bucket_5m, found)
 CROSS JOIN LATERAL jsonb_to_record(s.found)
       AS f (outcome text, missing bigint, extra bigint, differing bigint, missing_ids bigint[], extra_ids bigint[],
             differing_ids bigint[], problem text)

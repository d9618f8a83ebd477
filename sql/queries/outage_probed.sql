-- Records that a prefix still cannot be listed. The pause until the next look doubles. $1: prefix, $2 and $3: the first
-- and the longest pause in milliseconds.
UPDATE ingestion.outages
   SET probes = probes + 1, probed_at = clock_timestamp(),
       next_probe_at = clock_timestamp() + least($3, $2 * 2 ^ least(probes, 30)) * interval '1 millisecond'
 WHERE prefix = $1 AND ended_at IS NULL

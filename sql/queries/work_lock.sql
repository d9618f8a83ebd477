-- Locks the unit that a token leases, or that was finished with it. $1: token.
SELECT json_build_object('before', u.state = 'finished', 'unit', u.id, 'slices', u.slices, 'candles', u.candles,
                         'vectors', u.vectors)::text
  FROM ingestion.work_units u WHERE u.token = $1 AND u.state IN ('leased', 'finished')
   FOR UPDATE

-- The nearest windows. {vector}: the schema of pgvector. $1: numbers of the vector, $2: feature version, $3: how many
-- rows; the conditions have the arguments that follow.
SELECT e.bucket, e.exchange, e.asset, e.feature_vector OPERATOR({vector}.<->) $1::real[]::{vector}.vector,
       e.label_snapshot::text
  FROM signals.btc_embeddings e
 WHERE e.feature_version = $2 AND e.feature_vector IS NOT NULL
   -- {conditions}
 ORDER BY e.feature_vector OPERATOR({vector}.<->) $1::real[]::{vector}.vector
 LIMIT $3

-- Whether a feature version has vectors. It also loads pgvector's library, whose settings follow. {vector}: the schema
-- of pgvector. $1: the version.
SELECT (EXISTS (SELECT FROM signals.btc_embeddings e WHERE e.feature_version = $1)
        AND '[0]'::{vector}.vector IS NOT NULL)::text

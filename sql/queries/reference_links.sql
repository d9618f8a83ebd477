-- The link that reference_embeddings() has made: its target and whether it is a foreign key, and the statements that
-- drop it; null if there is none. It reads catalogs only.
SELECT json_build_object(
    'target', CASE k.contype WHEN 'f' THEN k.confrelid ELSE t.tgconstrrelid END::regclass,
    'statements', CASE k.contype
        WHEN 'f' THEN json_build_array(format('ALTER TABLE signals.btc_embeddings DROP CONSTRAINT %I', k.conname))
        ELSE json_build_array(format('DROP TRIGGER %I ON signals.btc_embeddings', k.conname),
                              'DROP FUNCTION IF EXISTS signals.btc_embeddings_reference()') END)::text
  FROM pg_constraint k LEFT JOIN pg_trigger t ON t.tgconstraint = k.oid AND NOT t.tgisinternal
 WHERE k.conrelid = to_regclass('signals.btc_embeddings') AND k.conname = 'btc_embeddings_reference'
   AND k.contype IN ('f', 't')

-- What migrate() would refuse, and the statements around it that lend it the tables of another role. It runs as the
-- extension's owner, as migrate() does.
WITH ours AS (
    SELECT t.name, c.relowner, pg_get_userbyid(c.relowner) AS owner
      FROM btc_ingest_internal.tables() t JOIN pg_class c ON c.oid = to_regclass(t.name) AND c.relkind = 'r'
), foreigners AS (
    SELECT 'TABLE ' || name AS name, owner FROM ours WHERE owner <> current_user
    UNION ALL
    SELECT format('SCHEMA %I', n.nspname), r.rolname
      FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
     WHERE n.nspname IN (SELECT s.name FROM btc_ingest_internal.schemas() s)
       AND NOT r.rolsuper AND r.rolname <> current_user
), ticks AS (
    SELECT owner FROM ours WHERE name = 'market_data.btc_ticks'
)
SELECT json_build_object(
    'refusal', (SELECT r.message FROM btc_ingest_internal.migrate_refusal() r),
    'take', (SELECT string_agg(format('ALTER %s OWNER TO %I;', name, current_user), ' ' ORDER BY name)
               FROM foreigners),
    'give_back', (SELECT string_agg(format('ALTER %s OWNER TO %I;', name, owner), ' ' ORDER BY name)
                    FROM foreigners),
    'one_owner', (SELECT string_agg(format('ALTER TABLE %s OWNER TO %I;', o.name, t.owner), ' ' ORDER BY o.name)
                    FROM ours o, ticks t WHERE o.owner <> t.owner)
)::text

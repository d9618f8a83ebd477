-- The function of the constraint trigger that links vectors to a view or continuous aggregate. It belongs to the owner
-- of the tables and names nothing of the extension, so that it stays without it. It reads the view with the privileges
-- of that owner, as a foreign key reads its table, so it must be the owner's view, or a superuser's.
CREATE OR REPLACE FUNCTION signals.btc_embeddings_reference() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
    present boolean;
BEGIN
    SELECT c.oid::regclass AS name, r.rolname AS owner, r.rolsuper OR r.rolname = current_user AS trusted INTO target
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgconstrrelid JOIN pg_roles r ON r.oid = c.relowner
     WHERE t.tgrelid = TG_RELID AND t.tgname = TG_NAME;
    IF target.trusted IS NOT TRUE THEN
        RAISE EXCEPTION 'vectors are linked to %, which belongs to "%"', target.name, target.owner
            USING ERRCODE = '42501', HINT = 'Give it to the owner of the tables, or drop the link: '
                                            'SELECT btc_ingest.unreference_embeddings();';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE t.%I = $1', target.name, TG_ARGV[0])
            || CASE WHEN TG_ARGV[1] <> '' THEN format(' AND t.%I = $2', TG_ARGV[1]) ELSE '' END || ')'
       INTO present USING NEW.bucket, NEW.asset;
    -- An aggregate shows what was stored late only after its next refresh.
    IF NOT present AND TG_ARGV[2] = 'aggregate' THEN
        SELECT EXISTS (SELECT FROM market_data.btc_ticks k WHERE k.bucket_5m = NEW.bucket AND k.symbol = NEW.asset)
          INTO present;
    END IF;
    IF NOT present THEN
        RAISE EXCEPTION 'insert or update on table "btc_embeddings" violates its link to %', target.name
            USING ERRCODE = '23503', SCHEMA = 'signals', TABLE = 'btc_embeddings', CONSTRAINT = TG_NAME,
                  DETAIL = format('%s has no row for the bucket %s of %s.', target.name, NEW.bucket, NEW.asset);
    END IF;
    RETURN NULL;
END
$$

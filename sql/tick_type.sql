-- The columns of a tick, as a type: the statements chunk_is_appendable and unit_objection compare tables with it. They
-- read it from the catalogs, because they run with the privileges of the tables' owner, which may have none on this
-- schema.
DO $$
DECLARE
    item record;
BEGIN
    EXECUTE (SELECT format('CREATE TYPE btc_ingest_internal.tick AS (%s)',
                           string_agg(format('%I %s', c.name, c.type), ', ' ORDER BY c.place))
               FROM btc_ingest_internal.columns('') WITH ORDINALITY
                    AS c (on_table, name, type, definition, addable, description, place)
              WHERE c.on_table = 'market_data.btc_ticks');
    FOR item IN SELECT * FROM btc_ingest_internal.columns('') c WHERE c.on_table = 'market_data.btc_ticks' LOOP
        EXECUTE format('COMMENT ON COLUMN btc_ingest_internal.tick.%I IS %L', item.name, item.description);
    END LOOP;
END
$$;
COMMENT ON TYPE btc_ingest_internal.tick IS
    'The columns of market_data.btc_ticks in order, with which loads compare the table and its chunks';

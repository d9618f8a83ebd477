-- The last step of a chunk that a backfill in mode 'chunk' has built. This needs TimescaleDB's Community edition.

-- The worker runs this with superuser privileges, because no owner may write to system catalogs. Everything else of a
-- chunk is built with the privileges of the tables' owner. All parameters are oids and numbers; both tables are locked.
-- The statements write to catalogs and rename indexes, which runs no function that belongs to a table.
CREATE FUNCTION btc_ingest_internal.finish_chunk(
    root oid, chunk oid, staged_name text, chunk_from bigint, chunk_to bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    -- A chunk's keys are named after its number in TimescaleDB's catalog.
    number CONSTANT integer := (SELECT c.id FROM _timescaledb_catalog.chunk c
                                  JOIN pg_namespace n ON n.nspname = c.schema_name
                                  JOIN pg_class t ON (t.relnamespace, t.relname) = (n.oid, c.table_name)
                                 WHERE t.oid = chunk);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits i
                     JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class r ON r.oid = i.inhparent
                    WHERE i.inhrelid = chunk AND i.inhparent = root AND c.relowner = r.relowner
                      AND c.relkind = 'r' AND r.relkind = 'r') OR number IS NULL THEN
        RAISE EXCEPTION '% is not a chunk of the hypertable and of its owner', chunk::regclass;
    END IF;
    -- The chunk inherits its columns and constraints. Without this, a DROP on the root would not reach the chunk.
    UPDATE pg_attribute SET attislocal = false WHERE attrelid = chunk AND attinhcount > 0 AND attislocal;
    UPDATE pg_constraint SET conislocal = false WHERE conrelid = chunk AND coninhcount > 0 AND conislocal;

    -- Indexes that were built before get the names that create_chunk gives. A key has the name of its index.
    FOR item IN
        SELECT i.oid::regclass AS index, CASE WHEN k.oid IS NULL THEN format('%s_%s', t.relname, r.relname)
                                              ELSE format('%s_%s', number, k.conname) END AS name
          FROM pg_index x JOIN pg_class r ON r.oid = x.indexrelid
          JOIN pg_index y ON y.indrelid = chunk JOIN pg_class t ON t.oid = chunk
          JOIN pg_class i ON i.oid = y.indexrelid AND i.relname = format('%s_%s', staged_name, r.oid)
          LEFT JOIN pg_constraint k ON k.conindid = r.oid AND k.conrelid = root AND k.contype IN ('p', 'u')
         WHERE x.indrelid = root
    LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', item.index, item.name);
    END LOOP;
    IF (SELECT count(*) FROM pg_index WHERE indrelid = chunk)
       <> (SELECT count(*) FROM pg_index WHERE indrelid = root) THEN
        RAISE EXCEPTION 'the new chunk % would have other indexes than its hypertable', chunk::regclass;
    END IF;

    -- create_chunk does not copy the root's privileges. They are copied with their grantors, as TimescaleDB does for
    -- its own chunks, so that a REVOKE … CASCADE on the root reaches the chunk; GRANT would name the owner as the
    -- grantor of all. No other session can see this table yet.
    UPDATE pg_class SET relacl = (SELECT relacl FROM pg_class WHERE oid = root) WHERE oid = chunk;
    DELETE FROM pg_shdepend
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = 'pg_class'::regclass AND objid = chunk AND objsubid = 0 AND deptype = 'a';
    INSERT INTO pg_shdepend
    SELECT dbid, classid, chunk, 0, refclassid, refobjid, deptype FROM pg_shdepend
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = 'pg_class'::regclass AND objid = root AND objsubid = 0 AND deptype = 'a';

    -- Continuous aggregates must learn of these ticks, as they learn of an INSERT.
    INSERT INTO _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
    SELECT h.id, chunk_from, chunk_to - 1
      FROM _timescaledb_catalog.hypertable h JOIN pg_namespace n ON n.nspname = h.schema_name
      JOIN pg_class r ON (r.relnamespace, r.relname) = (n.oid, h.table_name)
     WHERE r.oid = root
       AND EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg a WHERE a.raw_hypertable_id = h.id);
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.finish_chunk(oid, oid, text, bigint, bigint) IS
    'Part of backfill(mode => chunk): gives a new chunk the privileges of the hypertable and its indexes their names';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;

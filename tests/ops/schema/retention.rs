//! The tables of retention.

use super::tables::columns;
use super::*;

#[test]
fn the_tables_of_retention_have_these_columns() {
    columns(
        "ops.dropped_ranges",
        "id bigint not null always identity
         asset text not null
         from_time timestamp with time zone not null
         to_time timestamp with time zone not null
         objects bigint not null
         ticks bigint not null
         job_name text not null
         dropped_at timestamp with time zone not null default clock_timestamp()
         dropped_by text not null default SESSION_USER
         wanted_at timestamp with time zone
         wanted_by text
         restored_at timestamp with time zone
         keep_until timestamp with time zone",
    );
    columns(
        "ops.retention_checks",
        "chunk_from timestamp with time zone not null
         chunk_to timestamp with time zone not null
         job_name text not null
         proof_began timestamp with time zone not null default clock_timestamp()
         proven_to text
         objects bigint not null default 0
         found text
         proven_at timestamp with time zone
         held_by text
         held_since timestamp with time zone
         checked_at timestamp with time zone not null default clock_timestamp()",
    );
    columns(
        "ops.chunk_drops",
        "hypertable text not null
         from_time timestamp with time zone not null
         to_time timestamp with time zone not null
         job_name text not null
         rows bigint
         held_by text
         held_since timestamp with time zone
         checked_at timestamp with time zone not null default clock_timestamp()
         dropped_at timestamp with time zone
         dropped_by text",
    );
}

#[test]
fn the_triggers_of_the_policies_are_these_and_go_with_the_extension() {
    let found = texts(
        &mut client(),
        "SELECT format('%s, %s', pg_get_triggerdef(t.oid), (
                    SELECT 'depends on ' || extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                     WHERE d.objid = t.oid AND d.deptype = 'x'))
           FROM pg_trigger t WHERE t.tgrelid = 'ops.retention_jobs'::regclass AND NOT t.tgisinternal ORDER BY 1",
    );
    must_be(
        &found,
        "CREATE TRIGGER retention_changed AFTER INSERT OR DELETE OR UPDATE ON ops.retention_jobs FOR EACH STATEMENT \
             EXECUTE FUNCTION btc_ingest_internal.retention_changed(), depends on btc_ingest
         CREATE TRIGGER retention_row BEFORE INSERT OR UPDATE ON ops.retention_jobs FOR EACH ROW \
             EXECUTE FUNCTION btc_ingest_internal.retention_row(), depends on btc_ingest",
    );
}

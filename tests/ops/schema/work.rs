//! The tables of work units.

use super::tables::columns;

#[test]
fn the_tables_of_work_units_have_these_columns() {
    columns(
        "ingestion.work_units",
        "id bigint not null always identity
         kind text not null
         asset text not null
         from_time timestamp with time zone not null
         to_time timestamp with time zone not null
         state text not null default 'open'::text
         inputs text
         buckets timestamp with time zone[]
         token uuid
         attempts integer not null default 0
         leased_by text
         leased_until timestamp with time zone
         last_error text
         finished_at timestamp with time zone
         slices bigint
         candles bigint
         vectors bigint
         created_at timestamp with time zone not null default now()",
    );
    columns(
        "ingestion.staged_slices",
        "token uuid not null
         part uuid not null
         bucket_5m timestamp with time zone not null
         ticks bigint not null default 0
         first_trade_id bigint
         last_trade_id bigint
         missing_ids bigint not null default 0
         conflicts bigint not null default 0
         quantity numeric
         amount numeric
         digest text
         objects jsonb not null default '[]'::jsonb
         problem text
         exchange text
         feature_version text
         feature_vector vector(256)",
    );
}

#[test]
fn results_have_these_columns() {
    columns(
        "ingestion.staged_candles",
        "token uuid not null
         part uuid not null
         minute timestamp with time zone not null
         open numeric
         high numeric
         low numeric
         close numeric
         volume numeric
         amount numeric
         taker_buy_volume numeric
         ticks bigint",
    );
    columns(
        "ops.slice_digests",
        "kind text not null
         asset text not null
         bucket_5m timestamp with time zone not null
         ticks bigint not null
         first_trade_id bigint
         last_trade_id bigint
         missing_ids bigint not null default 0
         conflicts bigint not null default 0
         quantity numeric
         amount numeric
         digest text
         objects jsonb not null default '[]'::jsonb
         problem text
         unit bigint not null
         published_at timestamp with time zone not null default clock_timestamp()",
    );
    columns(
        "ops.slice_candles",
        "kind text not null
         asset text not null
         minute timestamp with time zone not null
         open numeric
         high numeric
         low numeric
         close numeric
         volume numeric
         amount numeric
         taker_buy_volume numeric
         ticks bigint
         unit bigint not null",
    );
}

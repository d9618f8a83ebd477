-- Whether continuous aggregates of candles are to be refreshed: how many there are, whether one lacks its history or a
-- range of it is wanted, the last attempt at an object, and whether the tables' owner may log in, as the process that
-- refreshes must.
SELECT json_build_object(
    'aggregates', count(*),
    'urgent', coalesce(bool_or(c.last_error IS NULL AND (c.refreshed_at IS NULL OR c.wanted_from IS NOT NULL)), false),
    'history', (SELECT coalesce(max(h.id), 0) FROM ingestion.load_history h),
    'may_log_in', (SELECT r.rolcanlogin FROM pg_class t JOIN pg_roles r ON r.oid = t.relowner
                    WHERE t.oid = 'market_data.btc_ticks'::regclass))::text
  FROM ingestion.candles c WHERE c.aggregate IS NOT NULL

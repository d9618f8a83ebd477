-- How old the last backup and the last archived file of the WAL are, and since when one waits; in seconds.
-- A history file in pg_wal is written at the end of each backup of the running server, and stays until the next one.
SELECT json_build_object(
    'archiving', current_setting('archive_mode') <> 'off',
    'pgbackrest', current_setting('archive_command') LIKE '%pgbackrest%',
    'backup', (SELECT extract(epoch FROM clock_timestamp() - max(modification))::bigint FROM pg_ls_waldir()
                WHERE name ~ '^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$'),
    'archived', (SELECT extract(epoch FROM clock_timestamp() - last_archived_time)::bigint FROM pg_stat_archiver),
    'waiting', (SELECT extract(epoch FROM clock_timestamp() - min(modification))::bigint
                  FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
)::text

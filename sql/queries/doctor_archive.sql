-- Whether the WAL is archived, and how many of its files wait for that.
SELECT json_build_object(
    'mode', current_setting('archive_mode'),
    'no_command', current_setting('archive_command') IN ('', '(disabled)') AND current_setting('archive_library') = '',
    'failing', a.last_failed_time IS NOT NULL
               AND (a.last_archived_time IS NULL OR a.last_failed_time > a.last_archived_time),
    'failed', a.failed_count, 'failed_wal', a.last_failed_wal, 'failed_at', a.last_failed_time::text,
    'archived_at', a.last_archived_time::text,
    'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
)::text
  FROM pg_stat_archiver a

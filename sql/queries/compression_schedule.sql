-- The statement that suspends or schedules a job, for the job's owner to run. $1: job, $2: whether it is scheduled.
SELECT to_json(format('SELECT %I.alter_job(%s, scheduled => %L)', n.nspname, $1::bigint, $2::boolean))::text
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'

-- Whether this session has temporary tables, views, sequences or types. pg_my_temp_schema() is 0 if it never had any.
SELECT (pg_my_temp_schema() <> 0
        AND (EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema())
             OR EXISTS (SELECT FROM pg_type WHERE typnamespace = pg_my_temp_schema())))::text

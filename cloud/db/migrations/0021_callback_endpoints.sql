-- How the receivers of callbacks fare. A row is there while one fails; a disabled one gets nothing, and
-- what is for it stays in the spool.
CREATE TABLE callback_endpoints (
    url           TEXT PRIMARY KEY,
    failing_since INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    last_error    TEXT NOT NULL,
    disabled_at   INTEGER
) WITHOUT ROWID;

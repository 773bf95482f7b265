-- Files of contacts on their way in: how far each is, and which of its lines were no contacts.
CREATE TABLE imports (
    id         TEXT PRIMARY KEY,
    campaign   TEXT NOT NULL,
    format     TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'running',
    lines      INTEGER NOT NULL DEFAULT 0,
    imported   INTEGER NOT NULL DEFAULT 0,
    rejected   INTEGER NOT NULL DEFAULT 0,
    fatal      TEXT,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX imports_campaign ON imports (campaign, id);

CREATE TABLE import_errors (
    import TEXT NOT NULL,
    line   INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (import, line)
) WITHOUT ROWID;

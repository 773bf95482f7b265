-- Tokens that the API gives out. A token itself is nowhere: only its SHA-256.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    sha256     TEXT NOT NULL UNIQUE,
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;

-- Every change: written before it is tried, completed with what came of it. A row without a status is a
-- change during which the server died.
CREATE TABLE audit (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    who    TEXT NOT NULL,
    method TEXT NOT NULL,
    path   TEXT NOT NULL,
    status INTEGER,
    detail TEXT NOT NULL DEFAULT '{}'
);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit WHEN OLD.status IS NOT NULL
        OR NEW.n <> OLD.n OR NEW.at <> OLD.at OR NEW.who <> OLD.who OR NEW.method <> OLD.method OR NEW.path <> OLD.path
    BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is not removed'); END;

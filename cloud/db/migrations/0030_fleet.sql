-- The fleet: who joined, with which certificate, what each box should be and says it is, and what it is to run.
-- `doc` columns hold the JSON of the types in cloud/fleet and shared/wire.

CREATE TABLE enrolments (
    box   TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    doc   TEXT NOT NULL,
    at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX enrolments_state ON enrolments (state, at);

CREATE TABLE certificates (
    serial    TEXT PRIMARY KEY,
    box       TEXT NOT NULL,
    pem       TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    at        INTEGER NOT NULL
) WITHOUT ROWID;

-- Wrong codes by person and announcements by address.
CREATE TABLE fleet_limits (
    what TEXT PRIMARY KEY,
    doc  TEXT NOT NULL
) WITHOUT ROWID;

-- Every desired document that a box ever had: the newest one counts.
CREATE TABLE desired (
    box     TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash    TEXT NOT NULL,
    body    TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (box, version)
) WITHOUT ROWID;

CREATE TABLE reported (
    box        TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    hash       TEXT NOT NULL,
    assignment INTEGER NOT NULL,
    doc        TEXT NOT NULL,
    at         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE assignments (
    box     TEXT PRIMARY KEY,
    number  INTEGER NOT NULL,
    targets TEXT NOT NULL,
    cancel  TEXT NOT NULL,
    doc     TEXT NOT NULL,
    expires INTEGER NOT NULL,
    at      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE rollouts (
    id    TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    doc   TEXT NOT NULL,
    at    INTEGER NOT NULL
) WITHOUT ROWID;

-- Who did what to which box, in order; appended only.
CREATE TABLE fleet_log (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    by_whom TEXT NOT NULL,
    about  TEXT NOT NULL,
    what   TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX fleet_log_about ON fleet_log (about, n);
CREATE TRIGGER fleet_log_is_not_changed BEFORE UPDATE ON fleet_log
    BEGIN SELECT RAISE(ABORT, 'the log of the fleet is not changed'); END;
CREATE TRIGGER fleet_log_is_not_shortened BEFORE DELETE ON fleet_log
    BEGIN SELECT RAISE(ABORT, 'the log of the fleet is not shortened'); END;

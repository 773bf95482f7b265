-- Ended calls that nobody has looked at yet, in the order of their records.
CREATE TABLE appraisals_due (
    n    INTEGER PRIMARY KEY AUTOINCREMENT,
    call TEXT NOT NULL UNIQUE
);
INSERT INTO appraisals_due (call) SELECT call FROM records ORDER BY at, call;

-- What the inspection found, and whether a person is to listen.
CREATE TABLE appraisals (
    call       TEXT PRIMARY KEY,
    inspection TEXT NOT NULL,
    listen     INTEGER NOT NULL,
    at         INTEGER NOT NULL
) WITHOUT ROWID;

-- What came of each call that was part of an experiment, in the order in which it was learned.
CREATE TABLE experiment_results (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    call       TEXT NOT NULL,
    script     TEXT NOT NULL,
    experiment TEXT NOT NULL,
    arm        TEXT NOT NULL,
    success    INTEGER NOT NULL,
    harmed     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    UNIQUE (call, experiment)
);
CREATE INDEX experiment_results_of ON experiment_results (script, experiment, n);

-- The arm that was drawn for a customer, who is named by a hash: it stays.
CREATE TABLE experiment_arms (
    script     TEXT NOT NULL,
    experiment TEXT NOT NULL,
    who        TEXT NOT NULL,
    arm        TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (script, experiment, who)
) WITHOUT ROWID;

-- Arms that nobody gets any more.
CREATE TABLE experiment_stops (
    script     TEXT NOT NULL,
    experiment TEXT NOT NULL,
    arm        TEXT NOT NULL,
    why        TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (script, experiment, arm)
) WITHOUT ROWID;

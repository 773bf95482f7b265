-- What somebody should look at on a box, from the first sign of it until it is over. Rows that never became an alert
-- (`raised` is null) are removed when their condition is gone; the others stay.
CREATE TABLE alerts (
    n            INTEGER PRIMARY KEY AUTOINCREMENT,
    box          TEXT NOT NULL,
    kind         TEXT NOT NULL,
    about        TEXT NOT NULL,
    detail       TEXT NOT NULL,
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    raised       INTEGER,
    cleared      INTEGER,
    silent_until INTEGER NOT NULL DEFAULT 0,
    silent_by    TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX alerts_open ON alerts (box, kind, about) WHERE cleared IS NULL;
CREATE INDEX alerts_raised ON alerts (raised);

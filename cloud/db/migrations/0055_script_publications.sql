-- Which version of a script new calls get, since when, and by whose word: the last row of an id counts. Older rows
-- stay, so that it can be seen what was said when, and a version can come back.
CREATE TABLE script_publications (
    n        INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL,
    version  TEXT NOT NULL,
    -- The token's name; null for a file of the server's folder.
    token    TEXT,
    findings TEXT NOT NULL DEFAULT '[]',
    at       INTEGER NOT NULL
);
CREATE INDEX script_publications_id ON script_publications (id, n);

-- Lists of contacts that several campaigns are made of. Their contacts stand among those of campaigns, under the
-- list's id: nobody is called from there, since no campaign has that id.
CREATE TABLE lists (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Campaigns and their contacts. Which contact has which call is decided here, in one transaction with the
-- call itself, so that nobody is called twice whatever happens to the schedulers.
CREATE TABLE campaigns (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'draft',
    why        TEXT NOT NULL DEFAULT '',
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE campaign_contacts (
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign  TEXT NOT NULL,
    callee    TEXT NOT NULL,
    variables TEXT NOT NULL,
    facts     TEXT NOT NULL,
    external_id TEXT,
    priority  INTEGER NOT NULL DEFAULT 0,
    state     TEXT NOT NULL DEFAULT 'ready',
    next_at   INTEGER NOT NULL DEFAULT 0,
    call      TEXT,
    attempts  INTEGER NOT NULL DEFAULT 0,
    why       TEXT NOT NULL DEFAULT '',
    UNIQUE (campaign, callee)
);
CREATE INDEX campaign_contacts_ready ON campaign_contacts (campaign, state, priority, next_at);
CREATE INDEX calls_contact ON calls (contact) WHERE contact IS NOT NULL;

-- One scheduler leads: whoever holds the row, until its instant.
CREATE TABLE leaders (
    what   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  INTEGER NOT NULL
) WITHOUT ROWID;

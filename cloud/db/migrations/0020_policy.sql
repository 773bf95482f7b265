-- The compliance gate: facts about contacts, opt-outs, suppression lists, and the chain of receipts.

-- What is known about the contact for the gate, and the campaign that the call belongs to.
ALTER TABLE calls ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';
ALTER TABLE calls ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN campaign TEXT;
ALTER TABLE calls ADD COLUMN contact INTEGER;
CREATE INDEX calls_callee ON calls (callee);

-- Instants as text: they are part of what is hashed.
CREATE TABLE receipts (
    seq  INTEGER PRIMARY KEY,
    call TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    at   TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX receipts_call ON receipts (call, seq);
CREATE TRIGGER receipts_are_not_changed BEFORE UPDATE ON receipts
    BEGIN SELECT RAISE(ABORT, 'a receipt is not changed'); END;
CREATE TRIGGER receipts_are_not_removed BEFORE DELETE ON receipts
    BEGIN SELECT RAISE(ABORT, 'a receipt is not removed'); END;

-- An opt-out is for ever: there is no way to change or remove one.
CREATE TABLE opt_outs (
    callee  TEXT NOT NULL,
    scope   TEXT NOT NULL,
    channel TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (callee, scope)
) WITHOUT ROWID;
CREATE TRIGGER opt_outs_are_not_changed BEFORE UPDATE ON opt_outs
    BEGIN SELECT RAISE(ABORT, 'an opt-out is for ever'); END;
CREATE TRIGGER opt_outs_are_not_removed BEFORE DELETE ON opt_outs
    BEGIN SELECT RAISE(ABORT, 'an opt-out is for ever'); END;

CREATE TABLE suppression_entries (
    list   TEXT NOT NULL,
    callee TEXT NOT NULL,
    until  INTEGER,
    at     INTEGER NOT NULL,
    PRIMARY KEY (list, callee)
) WITHOUT ROWID;
CREATE INDEX suppression_entries_callee ON suppression_entries (callee);

CREATE TABLE suppression_lists (
    list  TEXT PRIMARY KEY,
    as_of INTEGER NOT NULL
) WITHOUT ROWID;

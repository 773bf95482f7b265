-- Calls that customers make: who called whom, and the number that was called. `callee` is the customer either way.
ALTER TABLE calls ADD COLUMN direction TEXT NOT NULL DEFAULT 'outbound';
ALTER TABLE calls ADD COLUMN called TEXT;

-- Which script answers calls to which number; a row without a number answers all that have none of their own.
CREATE TABLE numbers (
    id           TEXT PRIMARY KEY,
    number       TEXT,
    script_id    TEXT NOT NULL,
    variables    TEXT NOT NULL,
    callback_url TEXT,
    boxes        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) WITHOUT ROWID;

-- The table of numbers that a box has said that it has; nothing for one that answers no calls.
ALTER TABLE boxes ADD COLUMN numbers TEXT;

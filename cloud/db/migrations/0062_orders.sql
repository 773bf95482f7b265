-- What people told single boxes to do. `state` is queued, sent, running, done, failed or expired; what a box says of
-- an order outweighs that it expired.
CREATE TABLE orders (
    id       TEXT PRIMARY KEY,
    box      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    command  TEXT NOT NULL,
    by_whom  TEXT NOT NULL,
    at       INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL DEFAULT '',
    detail   TEXT NOT NULL DEFAULT '',
    changed  INTEGER NOT NULL,
    -- What the box sends for it: the length and the SHA-256 that it promised, and until when the file is kept.
    bytes    INTEGER,
    sha256   TEXT,
    kept     INTEGER
) WITHOUT ROWID;
CREATE INDEX orders_box ON orders (box, at);
CREATE INDEX orders_open ON orders (state) WHERE state IN ('queued', 'sent', 'running');

CREATE TABLE order_parts (
    id     TEXT NOT NULL,
    at     INTEGER NOT NULL,
    bytes  BLOB NOT NULL,
    PRIMARY KEY (id, at)
);

-- A box that takes no new calls, by its own last report.
ALTER TABLE reported ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;

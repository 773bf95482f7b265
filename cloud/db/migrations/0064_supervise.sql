-- A supervisor whom somebody wants on a call while it runs: the box is told until `supervise_until`, and each wish once.
ALTER TABLE calls ADD COLUMN supervise_wish INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN supervise_mode TEXT;
ALTER TABLE calls ADD COLUMN supervise_to TEXT;
ALTER TABLE calls ADD COLUMN supervise_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN supervise_sent_at INTEGER NOT NULL DEFAULT 0;

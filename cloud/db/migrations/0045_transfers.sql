-- A hand-over that somebody asked for while the call runs: the box is told until `transfer_until`, and each wish once.
ALTER TABLE calls ADD COLUMN transfer_wish INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN transfer_to TEXT;
ALTER TABLE calls ADD COLUMN transfer_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN transfer_sent_at INTEGER NOT NULL DEFAULT 0;

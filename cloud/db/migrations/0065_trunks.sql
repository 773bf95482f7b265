-- How each trunk of a box is, as it last said: a JSON array.
ALTER TABLE boxes ADD COLUMN trunks TEXT NOT NULL DEFAULT '[]';
-- What a box was given lately: its trunks take so many new calls a second.
CREATE INDEX calls_given ON calls (box, sent_at) WHERE sent_at IS NOT NULL;

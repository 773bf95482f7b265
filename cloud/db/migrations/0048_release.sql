-- How far a campaign's gray release is: contacts beyond its share are `held`. 0 is before the first step.
ALTER TABLE campaigns ADD COLUMN share INTEGER NOT NULL DEFAULT 0;
-- The step that somebody may say yes to; 0 for none.
ALTER TABLE campaigns ADD COLUMN share_next INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaigns ADD COLUMN share_since INTEGER NOT NULL DEFAULT 0;

-- The call was answered, and nobody said a word to her in time: the gate lets her rest as after a missed hand-over.
ALTER TABLE calls ADD COLUMN abandoned INTEGER NOT NULL DEFAULT 0;

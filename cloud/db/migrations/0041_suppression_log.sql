-- Every opt-out and list entry as a numbered change, which boxes take over and confirm. Triggers write it, so
-- that nothing can become known past it.
CREATE TABLE suppression_log (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    callee  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    what    TEXT NOT NULL,
    channel TEXT NOT NULL DEFAULT '',
    until   INTEGER,
    at      INTEGER NOT NULL
);

INSERT INTO suppression_log (callee, kind, what, channel, at)
    SELECT callee, 'opt_out', '{"scope":"number"}', 'spoken', at FROM suppressions;
INSERT INTO suppression_log (callee, kind, what, channel, at)
    SELECT callee, 'opt_out', scope, channel, at FROM opt_outs;
INSERT INTO suppression_log (callee, kind, what, until, at)
    SELECT callee, 'listed', list, until, at FROM suppression_entries;

CREATE TRIGGER suppressions_are_logged AFTER INSERT ON suppressions BEGIN
    INSERT INTO suppression_log (callee, kind, what, channel, at)
        VALUES (NEW.callee, 'opt_out', '{"scope":"number"}', 'spoken', NEW.at);
END;
CREATE TRIGGER opt_outs_are_logged AFTER INSERT ON opt_outs BEGIN
    INSERT INTO suppression_log (callee, kind, what, channel, at)
        VALUES (NEW.callee, 'opt_out', NEW.scope, NEW.channel, NEW.at);
END;
CREATE TRIGGER suppression_entries_are_logged AFTER INSERT ON suppression_entries BEGIN
    INSERT INTO suppression_log (callee, kind, what, until, at)
        VALUES (NEW.callee, 'listed', NEW.list, NEW.until, NEW.at);
END;
-- The same list loaded again changes nothing for the boxes.
CREATE TRIGGER suppression_entries_changes_are_logged AFTER UPDATE OF until ON suppression_entries
    WHEN OLD.until IS NOT NEW.until BEGIN
    INSERT INTO suppression_log (callee, kind, what, until, at)
        VALUES (NEW.callee, 'listed', NEW.list, NEW.until, NEW.at);
END;
CREATE TRIGGER suppression_entries_ends_are_logged AFTER DELETE ON suppression_entries BEGIN
    INSERT INTO suppression_log (callee, kind, what, at) VALUES (OLD.callee, 'unlisted', OLD.list, OLD.at);
END;

-- Up to which change a box has said that it has them.
ALTER TABLE boxes ADD COLUMN suppressed_upto INTEGER NOT NULL DEFAULT 0;

-- The receipts of boxes, by their own numbers; what they say stands in the cloud's chain.
CREATE TABLE box_receipts (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    box     TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    hash    TEXT NOT NULL,
    receipt INTEGER NOT NULL
);
CREATE INDEX box_receipts_box ON box_receipts (box, n);

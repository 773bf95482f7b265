-- Open calls by their box and queued ones in their order: what the dispatcher asks for in each pass, beside any number
-- of calls that have ended.
CREATE INDEX calls_at_box ON calls (box) WHERE status <> 'ended';
CREATE INDEX calls_queued ON calls (priority DESC, id) WHERE status = 'queued';

-- How long customers waited for words, by box and hour: of each kind (0 the first word, 1 a reply) so many in each bucket of
-- times. Rollouts compare boxes by it.
CREATE TABLE call_speed (
    box    TEXT NOT NULL,
    hour   INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (hour, box, kind, bucket)
) WITHOUT ROWID;

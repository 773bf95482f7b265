-- Instants are milliseconds since 1970-01-01 UTC; documents are JSON text.

CREATE TABLE calls (
    id               TEXT PRIMARY KEY,
    status           TEXT NOT NULL,
    lost             INTEGER NOT NULL DEFAULT 0,
    callee           TEXT NOT NULL,
    caller_id        TEXT,
    script_id        TEXT NOT NULL,
    script_version   TEXT NOT NULL,
    variables        TEXT NOT NULL,
    external_id      TEXT,
    callback_url     TEXT,
    trace            TEXT NOT NULL DEFAULT '',
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    not_after        INTEGER NOT NULL,
    box              TEXT,
    sent_at          INTEGER,
    accepted_at      INTEGER,
    refusals         INTEGER NOT NULL DEFAULT 0,
    retry_at         INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    cancel_sent_at   INTEGER NOT NULL DEFAULT 0,
    detail           TEXT NOT NULL DEFAULT '',
    rang_at          INTEGER,
    answered_at      INTEGER,
    ended_at         INTEGER,
    disposition      TEXT,
    cause            TEXT NOT NULL DEFAULT '',
    sip_code         INTEGER,
    outcome_code     TEXT,
    outcome_label    TEXT,
    suppress         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX calls_open ON calls (status) WHERE status <> 'ended';

-- Every event of every box, exactly once: the key de-duplicates, orders and shows gaps.
CREATE TABLE call_events (
    box   TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    sess  INTEGER NOT NULL,
    id    TEXT NOT NULL,
    ts    INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    trace TEXT NOT NULL,
    body  TEXT NOT NULL,
    fault TEXT,
    at    INTEGER NOT NULL,
    PRIMARY KEY (box, seq)
) WITHOUT ROWID;

-- A box that lost its store counts from 1 again: what differs under a known number is kept here.
CREATE TABLE event_conflicts (
    box  TEXT NOT NULL,
    seq  INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at   INTEGER NOT NULL
);

CREATE TABLE turns (
    call   TEXT NOT NULL,
    turn   INTEGER NOT NULL,
    record TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (call, turn)
) WITHOUT ROWID;

-- What the turn service answered to final turns.
CREATE TABLE turn_replies (
    call  TEXT NOT NULL,
    turn  INTEGER NOT NULL,
    rev   INTEGER NOT NULL,
    reply TEXT NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (call, turn, rev)
) WITHOUT ROWID;

-- One record per call, whatever the box sends again.
CREATE TABLE records (
    call   TEXT PRIMARY KEY,
    box    TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    record TEXT NOT NULL,
    at     INTEGER NOT NULL
) WITHOUT ROWID;

-- What the API shows as the events of a call, in the order in which it happened here.
CREATE TABLE call_log (
    n    INTEGER PRIMARY KEY AUTOINCREMENT,
    call TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    at   INTEGER NOT NULL
);
CREATE INDEX call_log_call ON call_log (call, n);

CREATE TABLE callbacks (
    n            INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    call         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    url          TEXT NOT NULL,
    payload      TEXT NOT NULL,
    state        TEXT NOT NULL DEFAULT 'pending',
    attempts     INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    next_at      INTEGER NOT NULL,
    delivered_at INTEGER,
    last_status  INTEGER,
    last_error   TEXT NOT NULL DEFAULT ''
);
CREATE INDEX callbacks_pending ON callbacks (call, n) WHERE state = 'pending';
CREATE INDEX callbacks_call ON callbacks (call, n);

CREATE TABLE boxes (
    box        TEXT PRIMARY KEY,
    online     INTEGER NOT NULL,
    sess       INTEGER NOT NULL,
    software   TEXT NOT NULL DEFAULT '',
    channels   INTEGER NOT NULL DEFAULT 0,
    last_seen  INTEGER NOT NULL,
    contiguous INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE tokens (
    sha256 TEXT PRIMARY KEY,
    name   TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE suppressions (
    callee TEXT PRIMARY KEY,
    call   TEXT NOT NULL,
    at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE idempotency (
    token TEXT NOT NULL,
    key   TEXT NOT NULL,
    body  TEXT NOT NULL,
    call  TEXT NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (token, key)
) WITHOUT ROWID;

CREATE TABLE scripts (
    version   TEXT PRIMARY KEY,
    id        TEXT NOT NULL,
    canonical TEXT NOT NULL,
    at        INTEGER NOT NULL
) WITHOUT ROWID;

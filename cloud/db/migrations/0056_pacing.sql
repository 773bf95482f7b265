-- Hand-overs to people, as far as they are known: '' for none, `trying`, `joined` (the box joined the two calls),
-- `left` (the network took the call from us), `missed` (nobody took it), `gave_up` (the customer did not wait two seconds).
ALTER TABLE calls ADD COLUMN handover TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN handover_at INTEGER;
CREATE INDEX calls_handover ON calls (campaign, ended_at) WHERE handover <> '';
CREATE INDEX calls_campaign ON calls (campaign, ended_at) WHERE campaign IS NOT NULL;
CREATE INDEX calls_begun ON calls (campaign, created_at) WHERE campaign IS NOT NULL;
CREATE INDEX calls_caller_id ON calls (caller_id, created_at) WHERE caller_id IS NOT NULL;

-- What became of a campaign's calls, by the quarter of an hour (since 1970) in which they ended: what the pacing
-- reads, so that a window of 30 days is a sum over some rows and not over a million calls.
CREATE TABLE campaign_quarters (
    campaign    TEXT NOT NULL,
    quarter     INTEGER NOT NULL,
    -- Calls that reached a telephone.
    tried       INTEGER NOT NULL DEFAULT 0,
    -- Of these, answered by a person, or by whom the box took for one.
    answered    INTEGER NOT NULL DEFAULT 0,
    machines    INTEGER NOT NULL DEFAULT 0,
    -- Answered, and the robot said nothing in time, or a person was promised who did not come.
    abandoned   INTEGER NOT NULL DEFAULT 0,
    -- Hand-overs to people, those that nobody took, and those that ended with us.
    handovers   INTEGER NOT NULL DEFAULT 0,
    missed      INTEGER NOT NULL DEFAULT 0,
    handled     INTEGER NOT NULL DEFAULT 0,
    -- Sums in milliseconds: from the start of a call to its hand-over, and from there to its end where it ended with us.
    until_ms    INTEGER NOT NULL DEFAULT 0,
    handled_ms  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, quarter)
) WITHOUT ROWID;

-- How a campaign is paced now, for people: what its last pass decided, as JSON.
ALTER TABLE campaigns ADD COLUMN pacing TEXT NOT NULL DEFAULT '{}';
-- When somebody last said how many people take its calls: what they missed before that counts no more.
ALTER TABLE campaigns ADD COLUMN people_at INTEGER NOT NULL DEFAULT 0;

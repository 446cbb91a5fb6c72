-- Times are milliseconds since 1970 (`…_ms`). Bodies are JSON of the types they are named after.

CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Who runs a cycle now: at most one row.
CREATE TABLE lease (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    token TEXT NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    host TEXT NOT NULL,
    what TEXT NOT NULL,
    taken_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE cycles (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,
    status TEXT NOT NULL,
    surfaced INTEGER NOT NULL,
    counts TEXT NOT NULL,
    report TEXT
) STRICT;
CREATE INDEX cycles_by_start ON cycles (started_ms);

-- A check's newest observation and what is kept between cycles. `digest` is what sameness is measured on, `held_ms` since
-- when it has been the same, `kept` its row in `observations`.
CREATE TABLE standing (
    check_name TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    held_ms INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    kept INTEGER,
    outcome TEXT NOT NULL,
    last TEXT NOT NULL,
    marks TEXT NOT NULL
) STRICT;

-- Observations that differ from the one before. The newest of a check holds until its `standing.at_ms`, so that an
-- unchanged cycle writes nothing here.
CREATE TABLE observations (
    id INTEGER PRIMARY KEY,
    check_name TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    until_ms INTEGER,
    outcome TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX observations_by_check ON observations (check_name, id);
CREATE INDEX observations_ended ON observations (until_ms) WHERE until_ms IS NOT NULL;

CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    check_name TEXT NOT NULL,
    subject TEXT NOT NULL,
    level TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    closing TEXT,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_open ON incidents (check_name, subject) WHERE closed_ms IS NULL;
CREATE INDEX incidents_closed ON incidents (closed_ms) WHERE closed_ms IS NOT NULL;
CREATE INDEX incidents_by_check ON incidents (check_name, opened_ms);

-- What surfaced.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY,
    cycle TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    check_name TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX changes_by_check ON changes (check_name, id);
CREATE INDEX changes_by_age ON changes (at_ms);

-- What surfaced nowhere and must be findable: first failures, and what the program did about its own trouble.
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    cycle TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    what TEXT NOT NULL,
    check_name TEXT,
    subject TEXT,
    outcome TEXT,
    code TEXT,
    said TEXT NOT NULL
) STRICT;
CREATE INDEX log_by_check ON log (check_name, id);
CREATE INDEX log_by_age ON log (at_ms);

CREATE TABLE memory (
    id INTEGER PRIMARY KEY,
    check_name TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (check_name, name)
) STRICT;

-- `state`: due, delivered, folded, dropped or dead. `maybe` counts the attempts that may have been deliveries.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    dedup TEXT NOT NULL,
    incident TEXT,
    turn TEXT NOT NULL,
    level TEXT NOT NULL,
    revision INTEGER NOT NULL,
    cycle TEXT NOT NULL,
    check_name TEXT NOT NULL,
    notice TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    maybe INTEGER NOT NULL DEFAULT 0,
    claimed_until_ms INTEGER,
    state TEXT NOT NULL DEFAULT 'due',
    ended_ms INTEGER,
    receipt TEXT,
    why TEXT
) STRICT;
CREATE INDEX outbox_due ON outbox (channel, dedup, id) WHERE state = 'due';
CREATE INDEX outbox_by_incident ON outbox (incident, channel) WHERE incident IS NOT NULL;
CREATE INDEX outbox_by_key ON outbox (channel, dedup, id);
CREATE INDEX outbox_by_check ON outbox (check_name, id);
CREATE INDEX outbox_ended ON outbox (ended_ms) WHERE ended_ms IS NOT NULL;

CREATE TABLE channels (
    name TEXT PRIMARY KEY,
    wait_until_ms INTEGER,
    accepted_ms INTEGER,
    refused_ms INTEGER,
    refused_in_a_row INTEGER NOT NULL DEFAULT 0,
    why TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE executions (
    execution TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    body TEXT NOT NULL,
    tail TEXT
) STRICT;
CREATE INDEX executions_by_job ON executions (job, started_ms);

CREATE TABLE silences (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    covers TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    by TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;

CREATE TABLE deeds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    covers TEXT NOT NULL,
    done TEXT NOT NULL,
    by TEXT NOT NULL,
    why TEXT NOT NULL,
    surfaced TEXT
) STRICT;
CREATE INDEX deeds_waiting ON deeds (id) WHERE surfaced IS NULL;

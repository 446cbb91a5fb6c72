-- What subjects of a check are compared with. `by` is NULL where the first look took it; `digest` is over all columns but
-- the check's name, and stands once more in the check's memory, so that a row that is damaged, exchanged or gone is seen.
CREATE TABLE baselines (
    check_name TEXT NOT NULL,
    subject TEXT NOT NULL,
    format INTEGER NOT NULL,
    taken_ms INTEGER NOT NULL,
    observed_ms INTEGER NOT NULL,
    by TEXT,
    why TEXT NOT NULL,
    body TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (check_name, subject)
) STRICT, WITHOUT ROWID;

//! The reasons that `host` gives, documented once, so that every kind that calls it documents the same ones.
//! The groups share no code: a kind lists those it can meet, and its own, in [`KindDoc::reasons`](super::KindDoc).

use super::{ReasonDoc, ReasonOutcome};
use crate::facts::Blame;

const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);
const BLIND: ReasonOutcome = ReasonOutcome::Unknown(Blame::Blind);
const OURS: ReasonOutcome = ReasonOutcome::Unknown(Blame::Ours);

const fn target(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: TARGET, settled: false, about, action, needs_human: false }
}
const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: BLIND, settled: true, about, action, needs_human: true }
}
const fn ours(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: OURS, settled: false, about, action, needs_human: false }
}

/// From [`Host::lane`](crate::host::Host::lane), on which names, files, processes and expressions are read too: every
/// kind that calls the host lists these. `no_answer` is given by [`Host::http`](crate::host::Host::http) as well.
pub const LANE_REASONS: &[ReasonDoc] = &[
    target("no_answer", "nothing came back before the deadline", "see whether it hangs or is overloaded"),
    ours("lanes_busy", "no thread for blocking work came free in time", "see which earlier reads still hang"),
    ours("panicked", "a defect in Pulsecheck ended the look", "report the defect with `pulsecheck explain`"),
];

/// From [`Host::resolve`](crate::host::Host::resolve) and [`Host::connect`](crate::host::Host::connect).
pub const CONNECT_REASONS: &[ReasonDoc] = &[
    target("dns_failed", "the name has no address", "check the name and the name server"),
    target("dns_timeout", "the name server did not answer in time", "check the name server"),
    target("connect_timeout", "no connection came about in time", "check that the host is up and not firewalled"),
    target("connection_refused", "nothing listens on the port", "start the service or correct the port"),
    target("unreachable", "there is no route to the host", "check the route to the host"),
    ours("out_of_descriptors", "no file descriptor was left", "raise the limit of open files (ulimit -n)"),
    ours("connections_busy", "no connection slot came free in time", "raise the limit of open files (ulimit -n)"),
];

/// From [`Host::http`](crate::host::Host::http), beside [`CONNECT_REASONS`] and [`LANE_REASONS`].
pub const HTTP_REASONS: &[ReasonDoc] = &[
    target("tls_failed", "no trusted TLS connection came about", "check the certificate and the trusted roots"),
    target("connection_reset", "the connection was closed before a whole answer came", "see the server's log"),
    target("bad_answer", "what answered does not speak HTTP or broke its rules", "check which service listens there"),
    target("too_many_redirects", "it redirects more often than is followed", "check the URL or allow more redirects"),
    target("redirect_refused", "it redirects where the request may not go", "use the address it redirects to"),
    blind("roots_unreadable", "the extra trusted certificates can't be read", "correct the path of the PEM file"),
    blind("bad_request", "the URL, method or a header can't be sent", "correct the request in the config"),
    ours("client_failed", "the HTTP client could not be built", "report the defect with `pulsecheck explain`"),
];

/// From [`host::files`](crate::host::files), beside [`MISSING`].
pub const FILE_REASONS: &[ReasonDoc] = &[
    blind("permission_denied", "it may not be read", "give the user that runs Pulsecheck the right to read it"),
    blind("not_a_file", "it is a folder, a FIFO, a socket or a device", "correct the path"),
    blind("unreadable", "reading failed", "check the disk and the path"),
];

/// From [`host::files`](crate::host::files) when nothing is there, for kinds to which that is no finding of their own.
pub const MISSING: &[ReasonDoc] =
    &[target("missing", "nothing is there", "correct the path or see what should write it")];

/// From [`Host::run`](crate::host::Host::run). A command that was killed at the deadline is an
/// [`Exit`](crate::host::spawn::Exit), and the kind's to word.
pub const SPAWN_REASONS: &[ReasonDoc] = &[
    blind("program_not_found", "there is no such program", "install the program or correct its path"),
    blind(
        "program_not_executable",
        "the program may not be run",
        "give the user that runs Pulsecheck the right to run it",
    ),
    blind("folder_not_found", "the folder to run it in is not there or may not be entered", "correct `cwd`"),
    ours("commands_busy", "no place among the running commands came free in time", "give fewer or quicker commands"),
    ours("spawn_failed", "the system could not start a process", "see the limits of processes and memory"),
];

/// From [`Host::secret`](crate::host::Host::secret).
pub const SECRET_REASONS: &[ReasonDoc] = &[blind(
    "secret_unreadable",
    "a secret is missing, can't be read or is open to others",
    "set the secret or its file's mode",
)];

/// From [`host::theirs`](crate::host::theirs), beside [`FILE_REASONS`], [`MISSING`] and [`LANE_REASONS`].
pub const SQLITE_REASONS: &[ReasonDoc] = &[
    target("locked", "its owner holds a lock on the database", "see what keeps the database locked"),
    target(
        "changed_while_read",
        "the database was written while it was read, twice",
        "see what writes it without a pause",
    ),
    target("damaged", "the database is damaged", "restore the database from its copy"),
    blind("not_a_database", "the file is no SQLite database", "correct the path"),
    blind("schema_unknown", "its tables are others than are known", "see whether a newer Pulsecheck knows them"),
    blind("query_failed", "the query can't be answered", "correct the query"),
    blind("query_refused", "the query does more than read", "give a query that only reads"),
    blind(
        "too_large_to_copy",
        "its last changes are in a file beside it that only its owner can take in, and it is too large to copy",
        "start its owner, or let the user that runs Pulsecheck read the -wal and -shm beside it",
    ),
    ours("copy_failed", "there was no room or right to copy it", "make room in /dev/shm or /tmp"),
];

/// From [`Host::postgres`](crate::host::Host::postgres), beside [`CONNECT_REASONS`] and [`LANE_REASONS`].
pub const POSTGRES_REASONS: &[ReasonDoc] = &[
    target("postgres_not_ready", "PostgreSQL starts, stops or has no place left", "see PostgreSQL's log"),
    target("postgres_broken", "the connection broke, or what answered is no PostgreSQL", "see PostgreSQL's log"),
    target("postgres_tls_failed", "no trusted TLS connection came about", "check the certificate and `sslmode`"),
    blind("postgres_login_refused", "PostgreSQL refuses the login", "correct the user, the password or pg_hba.conf"),
    blind("database_missing", "PostgreSQL has no such database", "correct the database's name"),
    blind(
        "postgres_query_failed",
        "PostgreSQL refuses the query, or it gives too much",
        "correct the query or grant it",
    ),
    blind("postgres_url", "the URL can't be used", "correct the `postgres://` URL"),
    blind("not_in_this_build", "this build has no PostgreSQL", "use a build with the feature `postgres`"),
];

/// From [`Host::redis`](crate::host::Host::redis), beside [`CONNECT_REASONS`] and [`LANE_REASONS`].
pub const REDIS_REASONS: &[ReasonDoc] = &[
    target("redis_loading", "Redis has just started and reads its data in", "wait until Redis has read its data"),
    target("redis_not_ready", "Redis is busy with a script, or its cluster or master is down", "see Redis's log"),
    target("redis_broken", "the connection broke, or what answered is no Redis", "see Redis's log"),
    target("redis_tls_failed", "no trusted TLS connection came about", "check the certificate"),
    blind("redis_login_refused", "Redis wants a password, or another one", "correct the user or the password"),
    blind(
        "redis_query_refused",
        "Redis refuses a command, or its answer is too large",
        "see what the user may do, and whether it is the right node",
    ),
    blind("redis_url", "the URL can't be used", "correct the `redis://` URL"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn groups_share_no_code_and_blind_is_settled() {
        let groups = [
            LANE_REASONS,
            CONNECT_REASONS,
            HTTP_REASONS,
            FILE_REASONS,
            MISSING,
            SPAWN_REASONS,
            SECRET_REASONS,
            SQLITE_REASONS,
            POSTGRES_REASONS,
            REDIS_REASONS,
        ];
        let mut seen = BTreeSet::new();
        for reason in groups.into_iter().flatten() {
            assert!(seen.insert(reason.code), "{} stands twice", reason.code);
            assert_eq!(reason.settled, reason.outcome == BLIND, "{}", reason.code);
            assert!(!reason.action.ends_with('.') && !reason.about.ends_with('.'), "{}", reason.code);
        }
    }
}

//! What the host makes of a real PostgreSQL: of one that answers, refuses, hangs, is away, and of what is none.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pulsecheck::facts::{Blame, Unread};
use pulsecheck::host::Host;
use pulsecheck::host::postgres::Rows;
use pulsecheck::kinds::common::{CONNECT_REASONS, LANE_REASONS, POSTGRES_REASONS};
use pulsecheck::redact::Secret;

use crate::support::servers::Postgres;
use crate::support::tls::{Made, days};

fn ask_within(url: &str, query: &str, max_rows: usize, within: Duration) -> Result<Rows, Unread> {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::for_tests(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + within;
        host.postgres(&Secret::new(url), query, max_rows, deadline).await
    });
    runtime.shutdown_background();
    if let Err(unread) = &answer {
        let mut known = [POSTGRES_REASONS, CONNECT_REASONS, LANE_REASONS].into_iter().flatten();
        assert!(known.any(|doc| doc.code == unread.code.as_str()), "{unread:?}");
        assert!(!unread.said.as_str().contains("pass/word"), "{unread:?}");
    }
    answer
}

fn ask(url: &str, query: &str) -> Result<Rows, Unread> {
    ask_within(url, query, 10, Duration::from_secs(15))
}

#[track_caller]
fn refused(answer: Result<Rows, Unread>) -> (String, Blame, String) {
    let unread = answer.unwrap_err();
    (unread.code.to_string(), unread.blame, unread.said.to_string())
}

fn row(columns: &[Option<&str>]) -> Vec<Option<String>> {
    columns.iter().map(|column| column.map(str::to_owned)).collect()
}

#[test]
fn a_server_is_asked_and_nothing_but_asked() {
    let Some(mut postgres) = Postgres::start() else { return };
    postgres.sql("CREATE TABLE jobs (id int, name text, at timestamptz); INSERT INTO jobs VALUES (1, 'ä', '2026-03-20 12:00:00Z'), (2, NULL, NULL)");
    let url = postgres.url();
    let rows = ask(&url, "SELECT id, name, extract(epoch FROM at)::bigint AS at FROM jobs ORDER BY id;").unwrap();
    assert_eq!(rows, [row(&[Some("1"), Some("ä"), Some("1774008000")]), row(&[Some("2"), None, None])]);
    assert_eq!(ask(&postgres.socket_url(), "SELECT 1"), Ok(vec![row(&[Some("1")])]));
    assert_eq!(
        ask_within(&url, "SELECT * FROM generate_series(1, 1000000)", 3, Duration::from_secs(15)).unwrap().len(),
        3
    );

    // More than one statement, and what is no SELECT, gets nowhere.
    for query in [
        "DELETE FROM jobs",
        "SELECT 1; DELETE FROM jobs",
        "COMMIT; DELETE FROM jobs",
        "SELECT id FROM jobs; COMMIT; DELETE FROM jobs",
        "WITH gone AS (DELETE FROM jobs RETURNING id) SELECT * FROM gone",
        "SELECT nextval('s')",
        "SELECT id FROM jobs FOR UPDATE",
        "SELECT * FROM elsewhere",
        "SELECT $1::int",
        "",
    ] {
        let (code, blame, said) = refused(ask(&url, query));
        assert_eq!((code.as_str(), blame), ("postgres_query_failed", Blame::Blind), "{query}: {said}");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM jobs").trim(), "2");
    let (code, _, said) = refused(ask(&url, "SELECT repeat('x', 1000000) FROM generate_series(1, 10)"));
    assert_eq!((code.as_str(), said.ends_with("is larger than 4 MiB")), ("postgres_query_failed", true), "{said}");

    // Its owner is not held up, and its log says nothing of us.
    let begun = Instant::now();
    let (code, blame, _) = refused(ask_within(&url, "SELECT pg_sleep(60)", 1, Duration::from_millis(700)));
    assert_eq!((code.as_str(), blame), ("no_answer", Blame::Target));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let log = postgres.log();
    assert!(!log.contains("unexpected EOF") && !log.contains("connection reset"), "{log}");

    // Who may not come in.
    let wrong = url.replace("fake%20", "fack%20");
    let unknown = url.replace("/postgres", "/elsewhere").replace("elsewhere://", "postgres://");
    let nobody = url.replace("fake%20%27pass%2Fword%25", "").replace(":@", "@");
    for (url, expected) in
        [(wrong, "postgres_login_refused"), (unknown, "database_missing"), (nobody, "postgres_login_refused")]
    {
        let (code, blame, said) = refused(ask(&url, "SELECT 1"));
        assert_eq!((code.as_str(), blame), (expected, Blame::Blind), "{said}");
    }

    // Away.
    postgres.stop();
    let (code, blame, _) = refused(ask(&url, "SELECT 1"));
    assert_eq!((code.as_str(), blame), ("connection_refused", Blame::Target));
    let (code, blame, _) = refused(ask(&postgres.socket_url(), "SELECT 1"));
    assert_eq!((code.as_str(), blame), ("unreachable", Blame::Target), "the socket is gone");

    encrypted(&mut postgres);
}

/// The same server with TLS, by an authority of its own.
fn encrypted(postgres: &mut Postgres) {
    let authority = Made::authority("an authority", None);
    let ends = Timestamp::now() + days(30);
    let made = Made::server(&["localhost"], days(60), ends, Some(&authority));
    postgres.give("data/server.crt", &made.pem);
    postgres.give("data/server.key", &made.key_pem());
    let ca = postgres.give("ca.pem", &authority.pem);
    let rule = "hostssl all all all scram-sha-256\nlocal all all scram-sha-256\n";
    postgres.give("data/pg_hba.conf", rule);
    let conf = std::fs::read_to_string(postgres.path("data/postgresql.conf")).unwrap();
    postgres.give("data/postgresql.conf", &format!("{conf}\nssl = on\n"));
    postgres.resume();
    let at = |host: &str, query: &str| format!("{}{query}", postgres.url().replace("127.0.0.1", host));
    let ca = ca.display();
    for (url, expected) in [
        (at("localhost", &format!("?sslmode=verify-full&sslrootcert={ca}")), "f"),
        (at("127.0.0.1", &format!("?sslmode=require&sslrootcert={ca}")), "postgres_tls_failed"),
        (at("localhost", "?sslmode=require"), "postgres_tls_failed"),
        // What is on this machine is spoken to plainly unless it is asked for; this server does not want that.
        (at("localhost", ""), "postgres_login_refused"),
        (at("localhost", "?sslmode=disable"), "postgres_login_refused"),
        (at("localhost", "?sslmode=require&sslrootcert=/nowhere.pem"), "postgres_url"),
    ] {
        let answer = ask(&url, "SELECT pg_is_in_recovery()");
        let word = match answer {
            Ok(rows) => rows[0][0].clone().unwrap(),
            Err(unread) => unread.code.to_string(),
        };
        assert_eq!(word, expected, "{}", url.split('@').next_back().unwrap());
    }
}

#[test]
fn what_is_no_postgresql() {
    for (url, why) in [
        ("mysql://a@127.0.0.1/x", "does not begin with `postgres://`"),
        ("postgres://me:secret@/x", "names no host, or several (one is asked)"),
        ("postgres://me@a,b/x", "names no host, or several (one is asked)"),
        ("postgres://me@a/x?sslmode=maybe", "has an `sslmode` that is not known"),
        ("postgres://me@a/x?secret=1", "can't be read, or has a parameter that is not known"),
    ] {
        let (code, blame, said) = refused(ask(url, "SELECT 1"));
        assert_eq!((code.as_str(), blame), ("postgres_url", Blame::Blind));
        assert_eq!(said, format!("the PostgreSQL URL {why}"));
    }
    // One that hangs up, one that says something else, one that is silent.
    for (answer, mode, expected) in [
        (Some(&b""[..]), "", "postgres_broken"),
        (Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "", "postgres_broken"),
        (Some(b"N"), "?sslmode=require", "postgres_tls_failed"),
        (None, "", "no_answer"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).unwrap();
            let Some(answer) = answer else {
                // Held until the other side gives up.
                let _gone = stream.read_to_end(&mut Vec::new());
                return;
            };
            let _gone = stream.write_all(answer);
        });
        let url = format!("postgres://me@127.0.0.1:{port}/x{mode}");
        let within = Duration::from_secs(if expected == "no_answer" { 1 } else { 15 });
        let (code, blame, said) = refused(ask_within(&url, "SELECT 1", 1, within));
        assert_eq!((code.as_str(), blame), (expected, Blame::Target), "{said}");
        server.join().unwrap();
    }
}
